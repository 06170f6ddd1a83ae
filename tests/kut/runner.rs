//! `trapline kut`: many guests, their verdicts, and how those are told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::common::{Case, Need, TRAPLINE};
use super::guests::{Run, finish, guest, trapline};

pub(crate) const CASES: &[Case] = &[
    kvm("every_kind_of_verdict_is_told_apart", verdicts),
    kvm("a_run_without_failures_ends_with_0", all_well),
    kvm("tap_and_junit_tell_the_same", writers),
    kvm(
        "a_guest_that_prints_without_end_costs_no_memory_and_no_disk",
        floods,
    ),
    kvm("files_run_alone_and_out_of_the_table", files),
    plain(
        "mistakes_in_the_table_are_told_before_anything_runs",
        mistakes,
    ),
    Case {
        name: "in_the_lab_all_of_them_run_in_one_lab",
        needs: &[Need::Lab],
        run: in_one_lab,
    },
    Case {
        name: "kvm_unit_tests_start_unchanged_but_for_a_closed_list",
        needs: &[Need::Kut, Need::KvmLinux],
        run: real,
    },
];

const fn kvm(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

const fn plain(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[],
        run,
    }
}

/// A folder as kvm-unit-tests' x86 is: guests, and a table beside them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(table: &str) -> Self {
        let dir = tempfile::tempdir().expect("a scratch folder");
        for name in ["contract.flat", "triple.flat"] {
            fs::copy(guest(name), dir.path().join(name)).expect("a copy");
        }
        fs::copy(guest("contract.elf"), dir.path().join("wide.flat")).expect("a copy");
        fs::write(dir.path().join("unittests.cfg"), table).expect("a file");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let table = self.path("unittests.cfg").display().to_string();
        let words = ["--unittests", &table]
            .into_iter()
            .chain(more.iter().copied());
        words.map(str::to_owned).collect()
    }

    fn run(&self, more: &[&str]) -> Run {
        trapline("kut", self.arguments(more))
    }
}

/// Every kind, most of them in two ways.
const TABLE: &str = "
[contract]
file = contract.flat
smp = 3
extra_params = -cpu qemu64,+x2apic -append devices

[reports_3]
file = contract.flat
extra_params = -append 'exit 3'

[reports_127]
file = contract.flat
extra_params = -append 'exit 127'

[nothing_to_test]
file = contract.flat
test_args = skip

[switches_off]
file = contract.flat
extra_params = -append off

[never_exits]
file = contract.flat
extra_params = -append spin
timeout = 1

[triple]
file = triple.flat

[elf64]
file = wide.flat

[hyperv]
file = contract.flat
extra_params = -cpu kvm64,hv_vpindex,hv_synic -device hyperv-testdev

[i386]
file = contract.flat
arch = i386

[conditional]
file = contract.flat
check = /proc/sys/kernel/ostype=BeOS
";

const VERDICTS: [(&str, &str, &str); 11] = [
    ("contract", "pass", "SUMMARY: 0 failures"),
    ("reports_3", "fail", "reported 3"),
    ("reports_127", "fail", "reported 127"),
    ("nothing_to_test", "skip", "SKIP: there is nothing to test"),
    (
        "switches_off",
        "fail",
        "ended without a status: the guest powered off",
    ),
    ("never_exits", "timeout", "timed out after 1s"),
    ("triple", "crash", "triple fault on vCPU 0"),
    ("elf64", "fail", "objcopy -O elf32-i386"),
    ("hyperv", "skip", "needs QEMU's -device hyperv-testdev"),
    ("i386", "skip", "is for i386 alone"),
    ("conditional", "skip", "ostype=BeOS; it is Linux"),
];

fn verdicts() {
    let folder = Folder::new(TABLE);
    let run = folder.run(&["--logs", &folder.path("logs").display().to_string()]);
    run.ends(75);
    for (name, kind, why) in VERDICTS {
        let mut rows = run.stdout.lines();
        let row = rows.find(|line| line.split_whitespace().nth(1) == Some(name));
        let row = row.unwrap_or_else(|| panic!("no {name} in\n{}", run.stdout));
        assert!(row.starts_with(kind) && row.contains(why), "{row}");
    }
    run.prints("1 passed, 4 failed, 4 skipped, 1 timed out, 1 crashed");
    // What failed is told with its log, and the post-mortem of what broke is kept.
    let log = |name: &str| fs::read_to_string(folder.path("logs").join(name)).expect("a log");
    assert!(log("contract.log").contains("PASS: every CPU comes up from page 0"));
    assert!(
        log("triple.log").contains("--- trapline\n"),
        "{}",
        log("triple.log")
    );
    assert!(!folder.path("logs/hyperv.log").exists(), "it did not run");
}

fn all_well() {
    let folder = Folder::new(TABLE);
    folder.run(&["--group", "contract", "-g", "hyperv"]).ends(0);
    // A number of jobs changes nothing but the time.
    for jobs in ["1", "8"] {
        let run = folder.run(&["--jobs", jobs, "-g", "contract", "-g", "nothing_to_test"]);
        run.ends(0).prints("1 passed, 0 failed, 1 skipped");
    }
}

fn writers() {
    let folder = Folder::new(TABLE);
    let junit = folder.path("results.xml").display().to_string();
    let tap = folder.run(&["--tap", "--junit", &junit]);
    tap.ends(75).prints("TAP version 14\n1..11\n");
    for (number, (name, kind, _)) in (1..).zip(VERDICTS) {
        let line = match kind {
            "pass" => format!("ok {number} - {name}\n"),
            "skip" => format!("ok {number} - {name} # SKIP "),
            _ => format!("not ok {number} - {name}\n# {kind}: "),
        };
        tap.prints(&line);
    }
    let xml = fs::read_to_string(junit).expect("a file");
    assert!(
        xml.contains("name=\"trapline kut\" tests=\"11\" failures=\"6\""),
        "{xml}"
    );
    assert!(
        xml.contains("<failure message=\"crash: triple fault on vCPU 0\">"),
        "{xml}"
    );
    assert!(
        xml.contains("classname=\"contract.flat\" name=\"contract\""),
        "{xml}"
    );
    let json = folder.run(&["--json"]);
    let json: Value = serde_json::from_str(&json.ends(75).stdout).expect("JSON");
    assert_eq!(json["schema"], "trapline/kut/1");
    assert_eq!(json["items"][2]["reported"], 127);
}

fn floods() {
    let folder =
        Folder::new("[floods]\nfile = contract.flat\nextra_params = -append flood\ntimeout = 3\n");
    let run = folder.run(&["--logs", &folder.path("logs").display().to_string()]);
    run.ends(75).prints("timed out after 3s");
    let log = fs::read_to_string(folder.path("logs/floods.log")).expect("a log");
    assert!(log.len() < 300 << 10, "{} bytes", log.len());
    assert!(log.starts_with("xxx"), "its beginning is kept");
}

fn files() {
    let folder = Folder::new("[one]\nfile = contract.flat\nextra_params = -append 'exit 0'\n");
    let [contract, triple] = ["contract.flat", "triple.flat"].map(|name| folder.path(name));
    let [contract, triple] = [&contract, &triple].map(|path| path.to_str().expect("UTF-8"));
    folder.run(&[contract]).ends(0).prints("pass     one ");
    folder
        .run(&[contract, triple])
        .ends(75)
        .prints("crash    triple ");
    // Without a table it runs once, with no words: it tests everything but the devices.
    trapline("kut", [contract])
        .ends(0)
        .prints("pass     contract ");
    let missing = folder.path("missing.flat");
    trapline("kut", [missing])
        .ends(0)
        .prints("skip     missing ")
        .prints("build it");
}

fn mistakes() {
    let folder = Folder::new("[a]\nsmp = 1\n");
    folder.run(&[]).ends(64).says("the test [a] has no file");
    trapline("kut", [] as [&str; 0]).ends(64).says("FILE");
    trapline("kut", ["--unittests", "/nowhere/unittests.cfg"])
        .ends(64)
        .says("cannot read the table of tests");
    let folder = Folder::new(TABLE);
    folder
        .run(&["--junit", "/nowhere/x.xml"])
        .ends(64)
        .says("cannot write");
    folder.run(&["--jobs", "0"]).ends(64).says("--jobs");
}

fn in_one_lab() {
    let folder = Folder::new(TABLE);
    let logs = folder.path("logs").display().to_string();
    let junit = folder.path("results.xml").display().to_string();
    let mut trapline = std::process::Command::new(TRAPLINE);
    let more = [
        "--timeout",
        "60s",
        "-g",
        "contract",
        "-g",
        "reports_3",
        "-g",
        "nothing_to_test",
    ];
    trapline.args(["--in", "lab", "kut", "--logs", &logs, "--junit", &junit]);
    let run = finish(trapline.args(folder.arguments(&more)));
    run.ends(75).prints("1 passed, 1 failed, 1 skipped");
    assert_eq!(
        run.stderr.matches("taking the lab").count(),
        1,
        "{}",
        run.stderr
    );
    let log = fs::read_to_string(Path::new(&logs).join("contract.log")).expect("a log");
    assert!(log.contains("SUMMARY: 0 failures"), "{log}");
    assert!(
        fs::read_to_string(&junit)
            .expect("a file")
            .contains("tests=\"3\"")
    );
}

/// Tests that need what is not here, by the reason they are skipped for.
const CLOSED: [(&str, &str); 5] = [
    ("hyperv_synic", "hyperv-testdev"),
    ("hyperv_connections", "hyperv-testdev"),
    ("hyperv_stimer", "hyperv-testdev"),
    ("vmware_backdoors", "vmport=on"),
    ("intel_iommu", "q35"),
];

fn real() {
    let dir = std::env::var("TRAPLINE_KUT").expect("the need is met");
    let table = Path::new(&dir).join("x86/unittests.cfg");
    let table = table.to_str().expect("UTF-8");
    let run = trapline("kut", ["--unittests", table, "--json", "--timeout", "300s"]);
    let json: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let items = json["items"].as_array().expect("items");
    let mut unexpected = BTreeMap::new();
    for item in items.iter().filter(|item| item["seconds"].is_null()) {
        let text = |key: &str| item[key].as_str().unwrap_or_default();
        let (name, why) = (text("name"), text("why"));
        let closed = CLOSED.iter().any(|(n, w)| *n == name && why.contains(w));
        // What its own conditions exclude would not run under QEMU either.
        let conditional = ["needs /", "alone", "--group"]
            .iter()
            .any(|w| why.contains(w));
        if !closed && !conditional {
            unexpected.insert(name, why);
        }
    }
    assert!(unexpected.is_empty(), "not started: {unexpected:#?}");
    let started = |item: &&Value| {
        !item["why"]
            .as_str()
            .unwrap_or_default()
            .contains("did not start")
    };
    assert_eq!(items.iter().filter(started).count(), items.len());
}
