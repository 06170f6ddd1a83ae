//! `trapline msr trace`: what it sees, and a guest under the policy that it writes.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::{Case, Need, TRAPLINE};
use super::linux::{kernel, run};
use super::{Run, boot, finish, unspoiled};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a_trace_has_every_access_and_its_policy_answers_like_it",
        needs: &[Need::Kvm],
        run: payload,
    },
    Case {
        name: "a_trace_that_cannot_be_written_is_known_before_the_run",
        needs: &[Need::Kvm],
        run: unwritable,
    },
    Case {
        name: "linux_comes_up_under_a_policy_made_of_its_own_trace_and_logs_the_same",
        needs: &[Need::KvmLinux, Need::Kernel],
        run: linux,
    },
];

fn trace(arguments: &[&str]) -> Run {
    let mut trapline = Command::new(TRAPLINE);
    trapline
        .args(["--in", "here", "msr", "trace"])
        .args(arguments)
        .stdin(Stdio::null());
    finish(trapline)
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn payload() {
    let folder = tempfile::tempdir().unwrap();
    let (to, policy) = (folder.path().join("t.jsonl"), folder.path().join("p.toml"));
    let files = [
        "--trace",
        to.to_str().unwrap(),
        "--as-policy",
        policy.to_str().unwrap(),
    ];
    for (msr, name, access, answers) in [
        // KVM does not know it; it knows this one, and refuses to have it written.
        ("0x666", "", "read", ["gp", "gp"]),
        ("0xce", "MSR_PLATFORM_INFO", "read", ["done", "gp"]),
    ] {
        let traced = trace(&[&[":msr", "-a", msr], &files[..]].concat());
        traced
            .ends(0)
            .prints("FIRST BY")
            .says("not seen: the x2APIC");
        let lines = lines(&to);
        let [read, write] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert_eq!(
            (&read["msr"], &read["access"]),
            (&msr.into(), &access.into())
        );
        assert_eq!(read["name"].as_str().unwrap_or_default(), name);
        assert_eq!(
            [&read["answer"], &write["answer"]],
            answers.map(Value::from).each_ref()
        );
        assert!(read["ns"].as_u64() < write["ns"].as_u64());
        assert_ne!(read["rip"], write["rip"]);
        let again = boot([":msr", "-a", msr, "--msr-policy", policy.to_str().unwrap()]);
        let said = |run: &Run| {
            let lines = run.stdout.lines().filter(|line| line.contains("msr 0x"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            said(&again),
            said(&traced),
            "{}",
            fs::read_to_string(&policy).unwrap()
        );
    }
}

fn unwritable() {
    trace(&[":msr", "--trace", "/nowhere/t.jsonl"])
        .ends(64)
        .says("cannot write the MSR trace to /nowhere/t.jsonl");
}

/// Lines about MSRs, CPU features and mitigations, without what differs from boot to boot: time, and
/// addresses that KASLR moves.
fn about_cpu(console: &str) -> Vec<String> {
    const WORDS: [&str; 17] = [
        "msr",
        "cpu",
        "x86/",
        "mitigat",
        "spectre",
        "vulnerab",
        "mtrr",
        "mce",
        "microcode",
        "feature",
        "apic",
        "speculat",
        "retbleed",
        "srso",
        "perf",
        "flags",
        "tsc",
    ];
    let mut lines: Vec<String> = console
        .lines()
        .map(|line| line.split_once("] ").map_or(line, |(_, rest)| rest).trim())
        .filter(|line| {
            let line = line.to_ascii_lowercase();
            WORDS.iter().any(|word| line.contains(word))
        })
        .map(without_numbers_that_move)
        .collect();
    // CPUs come up in an order of their own.
    lines.sort_unstable();
    lines
}

fn without_numbers_that_move(line: &str) -> String {
    // A frequency is measured, and what is derived from it.
    const MEASURED: [&str; 7] = [
        "MHz",
        "BogoMIPS",
        "lpj=",
        "max_cycles",
        "cycles",
        "_ns",
        "usecs",
    ];
    let measured = MEASURED.iter().any(|unit| line.contains(unit));
    let word = |word: &str| {
        let long = word.len() > 8 && word.chars().any(|c| c.is_ascii_digit());
        let hex = word
            .trim_start_matches("0x")
            .chars()
            .all(|c| c.is_ascii_hexdigit());
        match word {
            _ if long && hex => "ADDRESS".to_owned(),
            word if measured => word
                .chars()
                .map(|c| if c.is_ascii_digit() { '#' } else { c })
                .collect(),
            word => word.to_owned(),
        }
    };
    let split = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let mut text: Vec<String> = split.map(word).collect();
    if measured {
        // How many digits a measured number has may differ too.
        text.retain(|word| !word.chars().all(|c| matches!(c, '#' | 'a'..='f' | 'x')));
    }
    text.join(" ")
}

fn linux() {
    let folder = tempfile::tempdir().unwrap();
    let (to, policy) = (folder.path().join("t.jsonl"), folder.path().join("p.toml"));
    let kernel = kernel();
    // By a file of its own: on the console the kernel's last lines come in between.
    let exec = "grep -r . /sys/devices/system/cpu/vulnerabilities >/tmp/cpu; grep flags /proc/cpuinfo >>/tmp/cpu";
    let cpu = |name: &str| format!("/tmp/cpu:{}", folder.path().join(name).display());
    let (first, second) = (cpu("first"), cpu("second"));
    let arguments = [
        "--timeout",
        "120s",
        "-c",
        "2",
        "--exec",
        exec,
        "--get",
        &first,
        "--trace",
        to.to_str().unwrap(),
        "--as-policy",
        policy.to_str().unwrap(),
    ];
    let traced = unspoiled(|| trace(&[&[kernel.name.as_str()], &arguments[..]].concat()));
    traced
        .ends(0)
        .prints("reboot: Power down")
        .prints("IA32_EFER");
    let lines = lines(&to);
    let efer = lines.iter().filter(|line| line["name"] == "IA32_LSTAR");
    let by: Vec<_> = efer
        .map(|line| format!("{} {}", line["symbol"], line["caller"]))
        .collect();
    assert_eq!(
        by.len(),
        2,
        "each vCPU sets where its system calls go: {by:?}"
    );
    assert!(by.iter().all(|by| by.contains("syscall_init+")), "{by:?}");
    let caller = |line: &Value| {
        line["caller"]
            .as_str()
            .unwrap_or_default()
            .starts_with("get_mtrr_state+")
    };
    assert!(lines.iter().any(caller), "reads have callers too");
    let text = fs::read_to_string(&policy).unwrap();
    assert!(text.matches("do = \"emulate\"").count() >= 3, "{text}");
    let policy = policy.to_str().unwrap();
    let arguments = [
        "-c",
        "2",
        "--exec",
        exec,
        "--get",
        &second,
        "--msr-policy",
        policy,
    ];
    let under = run(&kernel, &arguments);
    under.ends(0).prints("reboot: Power down");
    let guests = |run: &Run| {
        // The table comes below what the guest printed.
        let console = run
            .stdout
            .split("\nINDEX ")
            .next()
            .unwrap_or_default()
            .to_owned();
        about_cpu(&console)
    };
    let (before, after) = (guests(&traced), guests(&under));
    assert!(before.len() > 20, "{before:#?}");
    let only = |a: &[String], b: &[String]| {
        a.iter()
            .filter(|l| !b.contains(l))
            .cloned()
            .collect::<Vec<_>>()
    };
    let differ = (only(&before, &after), only(&after, &before));
    assert_eq!(differ, (vec![], vec![]), "under\n{text}");
    assert_eq!(before.len(), after.len());
    let found =
        ["first", "second"].map(|name| fs::read_to_string(folder.path().join(name)).unwrap());
    assert_eq!(found[0], found[1], "under\n{text}");
    assert!(found[0].contains("spectre_v2") && found[0].contains("flags"));
}
