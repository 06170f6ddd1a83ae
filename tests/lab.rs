//! The lab's contract, seen from outside: what a command in it finds, and what comes back.

mod common;

#[path = "lab/control.rs"]
mod control;
#[path = "lab/processes.rs"]
mod processes;
#[path = "lab/refusals.rs"]
mod refusals;
#[path = "lab/streams.rs"]
mod streams;
#[path = "lab/terminal.rs"]
mod terminal;
#[path = "lab/world.rs"]
mod world;

use std::ffi::OsStr;
use std::process::{Command, ExitCode, Output, Stdio};

use common::{Case, Need, TRAPLINE};

fn main() -> ExitCode {
    let parts = [
        world::CASES,
        streams::CASES,
        processes::CASES,
        terminal::CASES,
        control::CASES,
        refusals::CASES,
        HARNESS,
    ];
    common::main(&parts.concat())
}

/// The harness itself: tests that a lab is taken for, where this machine will not do.
const HARNESS: &[Case] = &[
    Case {
        name: "a_test_that_needs_linux_guests_runs_where_they_boot",
        needs: &[Need::KvmLinux],
        run: || {
            let system = trapline::host::Root::system();
            assert_eq!(trapline::host::linux_guests(&system), Ok(()));
        },
    },
    Case {
        name: "a_test_that_takes_devices_runs_in_a_lab_that_has_some",
        needs: &[Need::Vfio, Need::Iommu],
        run: || {
            assert!(trapline::lab::inside());
            assert!(std::fs::exists("/sys/bus/pci/devices/0000:00:03.0/iommu_group").unwrap());
        },
    },
    plain("what_is_required_is_listed_by_name_or_all", || {
        assert!(Need::Lab.is_in("kvm, lab"));
        assert!(Need::Kut.is_in("all"));
        assert!(!Need::Kvm.is_in("kvm-linux"));
        assert!(!Need::Net.is_in(""));
    }),
];

/// A test that starts labs.
const fn in_labs(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Lab],
        run,
    }
}

/// A test that is over before a lab would start.
const fn plain(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[],
        run,
    }
}

/// `trapline lab` with a command, in the smallest lab.
fn lab<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> Command {
    let mut trapline = Command::new(TRAPLINE);
    trapline
        .args(["lab", "--no-devices", "--lab-mem", "1G", "--"])
        .args(command)
        .stdin(Stdio::null());
    trapline
}

/// A shell script in a lab.
fn script(text: &str) -> Command {
    lab(["/bin/sh", "-c", text])
}

/// Standard output of a command that must end with `status`.
#[track_caller]
fn ends(mut command: Command, status: i32) -> String {
    let Output {
        status: found,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(found.code(), Some(status), "{said}");
    String::from_utf8(stdout).unwrap()
}
