//! Linux guests, to init and to power-off.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use trapline::kernels::{Cache, Kernel};

use super::common::{Case, Need, TRAPLINE};
use super::{Run, boot, finish, unspoiled};

pub(crate) const CASES: &[Case] = &[
    linux("a_stock_kernel_boots_to_init_and_powers_off", stock),
    linux("every_kernel_of_the_cache_boots", every_kernel),
    linux("bzimage_elf_and_pvh_all_boot", protocols),
    linux("one_two_and_eight_vcpus_come_online", cpus),
    linux("the_smallest_memory_is_seen", small_memory),
    Case {
        name: "memory_on_both_sides_of_the_hole_is_seen",
        needs: &[Need::Lab, Need::Kernel],
        run: split_memory,
    },
    linux("a_command_gives_its_status", statuses),
    linux("files_go_in_and_results_come_out", files),
    linux("a_module_is_loaded_with_its_dependencies", module),
    linux("without_kvm_clock_the_pit_ticks", no_kvm_clock),
    linux("a_panic_is_70", panic),
    linux("a_panic_after_a_good_report_is_still_70", late_panic),
    linux("an_initramfs_larger_than_memory_is_refused", large_initrd),
    linux("a_command_line_too_long_names_the_limit", long_cmdline),
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

/// A kernel of the distribution, small and got by name.
pub(crate) fn kernel() -> Kernel {
    let cache = Cache::from_env().expect("a cache");
    let mut all = cache.list().expect("kernels");
    all.sort_by_key(|k| k.flavour.as_deref() != Some("debian-cloud"));
    all.into_iter()
        .next()
        .expect("a kernel; trapline kernel get debian-cloud")
}

pub(crate) fn run(kernel: &Kernel, arguments: &[&str]) -> Run {
    let limit = ["--timeout", "120s"];
    tried([kernel.name.as_str()].iter().chain(&limit).chain(arguments))
}

/// A run of a guest, made again when QEMU spoiled it.
pub(crate) fn tried<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let arguments: Vec<_> = arguments
        .into_iter()
        .map(|a| a.as_ref().to_owned())
        .collect();
    unspoiled(|| boot(&arguments))
}

fn stock() {
    let run = run(&kernel(), &[]);
    run.ends(0)
        .prints("Run /init as init process")
        .prints("reboot: Power down");
    run.prints("trapline: kernel stacks vmapped: yes")
        .prints("trapline: cpus 1 online");
    for complaint in [
        "Kernel panic",
        "Oops",
        "rtc_cmos 00:01: broken",
        "ACPI Error",
    ] {
        assert!(
            !run.stdout.contains(complaint),
            "{complaint} in\n{}",
            run.stdout
        );
    }
}

fn every_kernel() {
    for kernel in Cache::from_env().and_then(|c| c.list()).expect("kernels") {
        let run = run(&kernel, &["--exec", "exit 7"]);
        assert_eq!(
            run.status,
            Some(7),
            "{}:\n{}\n{}",
            kernel.name,
            run.stdout,
            run.stderr
        );
    }
}

fn protocols() {
    let kernel = kernel();
    let elf = kernel
        .vmlinux
        .as_deref()
        .expect("get extracts the vmlinux")
        .to_str()
        .expect("text");
    let limit = ["--timeout", "120s", "--exec", "exit 7"];
    for (image, protocol) in [
        (kernel.name.as_str(), "linux"),
        (elf, "linux"),
        (elf, "pvh"),
        (elf, "auto"),
    ] {
        let run = tried([image, "--protocol", protocol].iter().chain(&limit));
        assert_eq!(
            run.status,
            Some(7),
            "{image} {protocol}:\n{}\n{}",
            run.stdout,
            run.stderr
        );
    }
    boot([kernel.name.as_str(), "--protocol", "pvh"])
        .ends(64)
        .says("CONFIG_PVH");
    // An ELF file says its version in its banner alone.
    let dir = tempfile::tempdir().expect("a scratch folder");
    let report = dir.path().join("report");
    tried([
        elf,
        "--timeout",
        "120s",
        "--json",
        report.to_str().expect("text"),
    ])
    .ends(0);
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(report).expect("a report")).expect("JSON");
    assert_eq!(report["version"].as_str(), kernel.version.as_deref());
}

fn cpus() {
    for cpus in ["1", "2", "8"] {
        let run = run(&kernel(), &["-c", cpus, "--exec", "nproc"]);
        run.ends(0).prints(&format!("trapline: cpus {cpus} online"));
    }
}

const TOTAL: &str = "awk '/MemTotal/{print \"total\", int($2/1024)}' /proc/meminfo";

fn total(run: &Run) -> u64 {
    let line = run
        .ends(0)
        .stdout
        .lines()
        .find_map(|l| l.strip_prefix("total "));
    line.expect("a total").trim().parse().expect("a number")
}

fn small_memory() {
    let mib = total(&run(&kernel(), &["-m", "128", "--exec", TOTAL]));
    assert!((60..128).contains(&mib), "128 MiB asked, {mib} seen");
}

/// RAM on both sides of the hole, from outside: the lab for it is larger than the one for tests.
fn split_memory() {
    let kernel = kernel().name;
    let run = unspoiled(|| {
        let mut trapline = Command::new(TRAPLINE);
        trapline.args([
            "boot",
            &kernel,
            "-m",
            "6G",
            "--timeout",
            "120s",
            "--exec",
            TOTAL,
        ]);
        finish(trapline)
    });
    let mib = total(&run);
    assert!((5800..6144).contains(&mib), "6144 MiB asked, {mib} seen");
}

fn statuses() {
    let kernel = kernel();
    run(&kernel, &["--exec", "exit 7"]).ends(7);
    run(&kernel, &["--exec", "no-such-program"])
        .ends(63)
        .says("127");
    run(
        &kernel,
        &["--get", "/nothing:/tmp/nothing", "--exec", "exit 7"],
    )
    .ends(7)
    .says("did not send /nothing");
    run(&kernel, &["--exec", "kill -9 $$"]).ends(63).says("137");
    run(&kernel, &["--", "/bin/echo", "a  b"])
        .ends(0)
        .prints("a  b");
}

fn files() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (sent, back) = (dir.path().join("sent"), dir.path().join("back"));
    fs::write(&sent, vec![0xa5; 300_000]).expect("a file");
    let file = format!("{}:/in/sent", sent.display());
    let get = format!("/out:{}", back.display());
    let script = "mkdir -p /out/sub && cp /in/sent /out/sub/copy && /in/ls / >/out/list";
    let ls = "/bin/ls:/in/ls";
    let run = run(
        &kernel(),
        &[
            "--file", &file, "--file", ls, "--get", &get, "--exec", script,
        ],
    );
    run.ends(0);
    assert_eq!(
        fs::read(back.join("sub/copy")).expect("the copy"),
        vec![0xa5; 300_000]
    );
    assert!(
        fs::read_to_string(back.join("list"))
            .expect("the list")
            .contains("proc")
    );
}

/// Numbered lines of 64 bytes.
pub(crate) fn lines(count: usize) -> String {
    let text: String = (0..count)
        .map(|line| format!("line {line:7} {:>50}\n", "of something long"))
        .collect();
    assert_eq!(text.len(), count * 64);
    text
}

pub(crate) fn sum_of(bytes: impl AsRef<[u8]>) -> String {
    let mut sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("coreutils");
    let mut stdin = sum.stdin.take().expect("piped");
    stdin.write_all(bytes.as_ref()).expect("taken");
    drop(stdin);
    let output = sum.wait_with_output().expect("ends");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').next().expect("a sum").to_owned()
}

fn module() {
    let kernel = kernel();
    let script = "cat /proc/modules";
    let run = run(&kernel, &["--module", "xfs", "--exec", script]);
    run.ends(0).prints("xfs ").prints("libcrc32c ");
    let error = boot([kernel.name.as_str(), "--module", "xfss"]);
    error.ends(64).says("no module \"xfss\"").says("xfs");
}

/// Until its APIC timer runs, such a kernel lives on the PIT's interrupts through the IOAPIC.
fn no_kvm_clock() {
    let run = run(&kernel(), &["-a", "no-kvmclock", "--hang", "20s"]);
    run.ends(0)
        .prints("..TIMER: ")
        .prints("trapline: clocksource ");
    for complaint in ["MP-BIOS bug", "clocksource kvm-clock"] {
        assert!(
            !run.stdout.contains(complaint),
            "{complaint} in\n{}",
            run.stdout
        );
    }
}

fn panic() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let get = format!("/tmp:{}", dir.path().join("results").display());
    let script = "echo c > /proc/sysrq-trigger";
    let run = run(&kernel(), &["--get", &get, "--exec", script]);
    run.ends(70).says("panicked").says("rip");
    // That it sent nothing after that is said, and decides nothing.
    run.says("not brought back: /tmp");
}

fn late_panic() {
    let initrd: PathBuf = kernel().image;
    // A kernel image is no initramfs: the kernel finds no init and panics.
    let arguments = [
        "--initrd".as_ref(),
        initrd.as_os_str(),
        "--timeout".as_ref(),
        "120s".as_ref(),
    ];
    let name = kernel().name;
    tried([name.as_ref()].into_iter().chain(arguments))
        .ends(70)
        .says("panicked");
}

fn large_initrd() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("large");
    fs::File::create(&path)
        .and_then(|f| f.set_len(200 << 20))
        .expect("a file");
    let path = path.to_str().expect("text");
    run(&kernel(), &["-m", "128", "--initrd", path])
        .ends(64)
        .says("memory");
}

fn long_cmdline() {
    let long = "x".repeat(70_000);
    run(&kernel(), &["-a", &long]).ends(64).says("2047");
}
