//! Guests in trouble: how each end is told, and what its status is.

use std::fs;

use trapline::kernels::{Cache, Kernel};

use super::common::{Case, Need};
use super::linux::{kernel, run};
use super::{Run, boot};

pub(crate) const CASES: &[Case] = &[
    linux("a_triple_fault_of_linux_is_71_and_never_0", triple_fault),
    debug("an_oops_ends_the_run_or_is_only_counted", oops),
    debug("a_stack_that_overflows_hits_its_guard_page", overflow),
    debug("a_read_past_a_stack_hits_the_next_guard_page", guard),
    debug("a_hang_of_linux_is_found_and_named", hang),
    kvm("a_kernel_that_never_prints_is_shown_where_it_is", silent),
    kvm("bisect_skips_what_says_nothing_of_the_kernel", bisect),
    kvm("flags_win_over_the_configuration", configured),
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

const fn debug(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::KernelDebug],
        run,
    }
}

const fn kvm(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

fn debug_kernel() -> Kernel {
    let found = Cache::from_env().and_then(|cache| cache.find("debug"));
    found.expect("a cache").expect("the debug kernel")
}

/// Has the kernel do one of LKDTM's experiments, and then ends with 3.
fn provoke(experiment: &str) -> String {
    format!(
        "mount -t debugfs none /sys/kernel/debug; \
         (echo {experiment} > /sys/kernel/debug/provoke-crash/DIRECT); \
         echo came back; exit 3"
    )
}

/// The first of a few runs that ended as `good` says, else the last: of a run that ends in a triple
/// fault or a hang, or should, only its words tell whether QEMU made it so.
fn first(good: impl Fn(&Run) -> bool, arguments: &[&str]) -> Run {
    let mut last = boot(arguments);
    for _ in 0..2 {
        if !trapline::lab::inside() || good(&last) {
            break;
        }
        eprintln!("made again after status {:?}: {arguments:?}", last.status);
        last = boot(arguments);
    }
    last
}

/// Linux's own way to reset a machine that has no other: no IDT, and a breakpoint.
fn triple_fault() {
    let name = kernel().name;
    let script = "echo b > /proc/sysrq-trigger; sleep 1000";
    let arguments = [
        name.as_str(),
        "--timeout",
        "120s",
        "-a",
        "reboot=triple",
        "--exec",
        script,
    ];
    let run = first(|run| run.stdout.contains("sysrq: Resetting"), &arguments);
    run.prints("sysrq: Resetting").ends(71);
    run.says("triple fault on vCPU 0");
}

fn oops() {
    let kernel = debug_kernel();
    let script = provoke("WRITE_RO");
    let with = |what: &str| run(&kernel, &["--on-oops", what, "--exec", &script]);
    let stopped = with("stop");
    stopped.ends(70).says("guest kernel oopsed: BUG: unable to");
    // The report is whole, with who called.
    stopped.prints("lkdtm_WRITE_RO").prints("---[ end trace");
    assert!(!stopped.stdout.contains("came back"), "{}", stopped.stdout);
    let went_on = with("continue");
    went_on.ends(70).prints("came back").says("oopsed");
    with("ignore").ends(3).prints("came back");
}

fn overflow() {
    let script = provoke("EXHAUST_STACK");
    let run = run(&debug_kernel(), &["--exec", &script]);
    run.ends(70).says("stack guard page was hit");
}

fn guard() {
    let script = provoke("STACK_GUARD_PAGE_TRAILING");
    let run = run(&debug_kernel(), &["--exec", &script]);
    run.ends(70).says("BUG: unable to handle page fault");
    run.prints("attempting bad read from page above current stack");
    assert!(!run.stdout.contains("FAIL"), "{}", run.stdout);
}

fn hang() {
    let kernel = debug_kernel().name;
    let dir = tempfile::tempdir().expect("a scratch folder");
    let report = dir.path().join("report");
    let arguments = [
        &kernel,
        "--hang",
        "10s",
        "--timeout",
        "300s",
        "--json",
        report.to_str().expect("text"),
        "--exec",
        &provoke("HARDLOCKUP"),
    ];
    let run = first(|run| run.stderr.contains("lkdtm_HARDLOCKUP"), &arguments);
    run.ends(72).says("the guest hangs: no vCPU made progress");
    run.says("interrupts off (lkdtm_HARDLOCKUP+");
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    let stuck = &report["ends"][0]["stuck"][0];
    let symbol = stuck["symbol"].as_str().unwrap_or_default();
    assert!(symbol.starts_with("lkdtm_HARDLOCKUP+"), "{report}");
    assert_eq!(report["ends"][0]["end"], "hung", "{report}");
}

/// An ELF kernel of one instruction, `jmp .`, at 16 MiB.
fn silent() {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    elf.resize(16, 0);
    elf.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    elf.extend(1_u32.to_le_bytes());
    elf.extend([0x100_0000_u64, 64, 0].map(u64::to_le_bytes).concat());
    elf.extend(0_u32.to_le_bytes());
    let header = [64_u16, 56, 1, 64, 0, 0];
    elf.extend(header.map(u16::to_le_bytes).concat());
    elf.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    let segment = [0x1000_u64, 0x100_0000, 0x100_0000, 2, 2, 0x1000];
    elf.extend(segment.map(u64::to_le_bytes).concat());
    elf.resize(0x1000, 0);
    elf.extend([0xeb, 0xfe]);
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("silent");
    fs::write(&path, elf).expect("a file");
    let path = path.to_str().expect("text");
    let run = boot([path, "--protocol", "linux", "--hang", "2s"]);
    run.ends(72).says("vCPU 0 spins at 0x1000000");
    run.says("jmp").says("rip");
    assert_eq!(run.stdout, "");
    boot([
        path,
        "--protocol",
        "linux",
        "--hang",
        "0s",
        "--timeout",
        "1s",
    ])
    .ends(72)
    .says("timed out after 1s")
    .says("0x1000000");
}

fn bisect() {
    let with = |words: &[&str]| boot([words, &["--bisect"]].concat());
    // The command line, the host and Trapline itself say nothing of the kernel.
    with(&[":no-such-payload"]).ends(125).says("no payload");
    with(&[":hello", "--hugepages", "2M", "-m", "900G"])
        .ends(125)
        .says("huge pages of 2048 KiB");
    with(&[":hello", "--events", "/dev/full"])
        .ends(125)
        .says("/dev/full");
    for (words, status) in [
        (&[":hello"] as &[&str], 0),
        (&[":exit", "-a", "7"], 7),
        (&[":panic"], 70),
        (&[":triple"], 71),
        (&[":hang", "--timeout", "1s"], 72),
    ] {
        with(words).ends(status);
    }
}

fn configured() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("run.toml");
    let path = path.to_str().expect("text");
    fs::write(path, "kernel = ':smp'\ncpus = 2\nmem = '64M'\n").expect("a file");
    boot(["--config", path]).ends(0).prints("2 of 2");
    boot(["--config", path, "-c", "3"]).ends(0).prints("3 of 3");
    boot(["--config", path, ":exit", "-a", "5"]).ends(5);
    fs::write(path, "kernel = ':exit'\ntimout = '90s'\n").expect("a file");
    boot(["--config", path])
        .ends(64)
        .says("unknown key \"timout\"; did you mean \"timeout\"?");
}
