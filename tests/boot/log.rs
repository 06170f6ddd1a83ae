//! What Linux says of the board, beside what it says of QEMU's `pc`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use trapline::boot::initramfs;
use trapline::boot::job::{Action, Job};
use trapline::host::Qemu;
use trapline::kernels::{Cache, Kernel, Silent, busybox};

use super::common::{Case, Need, TRAPLINE};
use super::linux::kernel;
use super::{finish, unspoiled};

/// Linux boots under Trapline wherever Trapline says, and under QEMU here.
pub(crate) const CASES: &[Case] = &[Case {
    name: "linux_complains_of_nothing_that_it_does_not_complain_of_under_qemu",
    needs: &[Need::Lab, Need::Kernel],
    run: complaints,
}];

/// The log with levels, between two marks.
const SCRIPT: &str = "echo LOG BEGINS; dmesg -r; echo LOG ENDS";

/// KERN_WARNING; what is graver has a lower number.
const WARNING: u32 = 4;
/// What makes a complaint of a line of any level.
const COMPLAINTS: [&str; 11] = [
    "firmware bug",
    "firmware warn",
    "acpi error",
    "acpi warning",
    "bios error",
    "bios bug",
    "conflict",
    "can't claim",
    "can't derive routing",
    "nobody cared",
    "no irq",
];
/// What the board answers for; clocks and processors are the host's.
const TOPICS: [&str; 14] = [
    "firmware", "bios", "acpi", "pci", "irq", "apic", "pnp", "i8042", "rtc", "e820", "isa",
    "quirk", "resource", "serial",
];

/// A line without its numbers, which differ between boards.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c => shape.push(c.to_ascii_lowercase()),
        }
    }
    shape
}

/// Every complaint about the board in a log that `dmesg -r` printed.
fn complaints_in(output: &str) -> BTreeSet<String> {
    let log = output.split("LOG BEGINS").nth(1).unwrap_or_default();
    let log = log.split("LOG ENDS").next().unwrap_or_default();
    assert!(
        log.contains("PCI host bridge to bus 0000:00"),
        "not the log of a PC:\n{output}"
    );
    let line = |line: &str| {
        let (priority, text) = line.trim().strip_prefix('<')?.split_once('>')?;
        let level = priority.parse::<u32>().ok()? & 7;
        let text = text.split_once("] ").map_or(text, |(_, text)| text);
        let shape = shape(text);
        let complains = level <= WARNING || COMPLAINTS.iter().any(|word| shape.contains(word));
        let ours = TOPICS.iter().any(|topic| shape.contains(topic));
        (complains && ours).then_some(shape)
    };
    log.lines().filter_map(line).collect()
}

/// The log under QEMU's `pc`, from the same kernel and the same init.
fn under_qemu(kernel: &Kernel, scratch: &Path) -> String {
    let cache = Cache::from_env().expect("a cache");
    let busybox = busybox(&cache, &Silent).expect("a busybox");
    let job = Job {
        action: Action::Script(SCRIPT.into()),
        ..Job::default()
    };
    let initrd = scratch.join("initrd");
    let bytes = initramfs::builtin(&job, Some(&busybox), &[], &[]).expect("an initramfs");
    std::fs::write(&initrd, bytes).expect("room for it");
    let mut qemu = Command::new(Qemu::find().expect("QEMU").path);
    qemu.args(["-machine", "pc", "-accel", "tcg", "-m", "256"])
        .args(["-nographic", "-no-reboot", "-nic", "none"])
        .args(["-append", "console=ttyS0 panic=-1"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd)
        .stdin(Stdio::null());
    finish(qemu).stdout
}

fn under_trapline(kernel: &Kernel) -> String {
    let run = unspoiled(|| {
        let mut trapline = Command::new(TRAPLINE);
        trapline.args(["boot", &kernel.name, "--timeout", "120s"]);
        trapline.args(["--device", "edu", "--exec", SCRIPT]);
        finish(trapline)
    });
    run.ends(0);
    run.stdout
}

fn complaints() {
    let kernel = kernel();
    let scratch = tempfile::tempdir().expect("a folder");
    let theirs = complaints_in(&under_qemu(&kernel, scratch.path()));
    let ours = complaints_in(&under_trapline(&kernel));
    let only_ours: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        only_ours.is_empty(),
        "{only_ours:#?}\nunder QEMU: {theirs:#?}"
    );

    // The test can fail: lines that Linux has for bad boards are complaints.
    let bad = "LOG BEGINS\n<6>[ 0.1] PCI host bridge to bus 0000:00\n\
               <4>[    0.3] ACPI BIOS Error (bug): Could not resolve symbol\n\
               <6>[    0.4] pci 0000:00:01.0: can't claim BAR 4 [io 0xc000-0xc00f]\n\
               <6>[    0.5] pci 0000:00:02.0: [1234:11e8] type 00\nLOG ENDS";
    assert_eq!(complaints_in(bad).len(), 2);
}
