//! `trapline boot` from outside: payloads and Linux guests, their ends and statuses, and what it says
//! to bad input.

mod common;

#[path = "boot/balloon.rs"]
mod balloon;
#[path = "boot/board.rs"]
mod board;
#[path = "boot/cpu.rs"]
mod cpu;
#[path = "boot/disc_image.rs"]
mod disc_image;
#[path = "boot/disks.rs"]
mod disks;
#[path = "boot/host.rs"]
mod host;
#[path = "boot/input.rs"]
mod input;
#[path = "boot/linux.rs"]
mod linux;
#[path = "boot/log.rs"]
mod log;
#[path = "boot/msr.rs"]
mod msr;
#[path = "boot/msr_swap.rs"]
mod msr_swap;
#[path = "boot/msr_trace.rs"]
mod msr_trace;
#[path = "boot/payloads.rs"]
mod payloads;
#[path = "boot/refusals.rs"]
mod refusals;
#[path = "boot/screen.rs"]
mod screen;
#[path = "boot/terminal.rs"]
mod terminal;
#[path = "boot/trouble.rs"]
mod trouble;

use std::ffi::OsStr;
use std::process::{Command, ExitCode, Stdio};

use common::{Need, TRAPLINE};

fn main() -> ExitCode {
    let parts = [
        payloads::CASES,
        refusals::CASES,
        host::CASES,
        linux::CASES,
        input::CASES,
        log::CASES,
        msr::CASES,
        msr_swap::CASES,
        msr_trace::CASES,
        cpu::CASES,
        board::CASES,
        disks::CASES,
        balloon::CASES,
        trouble::CASES,
        terminal::CASES,
    ];
    common::main(&parts.concat())
}

/// How a run looked from the shell.
#[derive(Debug)]
struct Run {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// `trapline boot` here: a test that cannot run here runs in a lab, where here is the lab.
fn boot<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    finish(command(arguments))
}

fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut trapline = Command::new(TRAPLINE);
    trapline
        .args(["--in", "here", "boot"])
        .args(arguments)
        .stdin(Stdio::null());
    trapline
}

fn finish(mut command: Command) -> Run {
    let output = command.output().expect("trapline starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Run {
        status: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Makes a run again, twice at most, that looks as QEMU's SVM spoils them.
///
/// In a lab under TCG one nested boot in some thirty finds the registers of the lab's own kernel in its VMCB:
/// CR3 beyond the guest's RAM, RSP on a stack of the lab, flags no processor has. Then it ends in a triple fault,
/// hangs, fetches from where nothing is, or oopses. That is no word on Trapline; what fails for a reason of ours
/// fails three times.
fn unspoiled(run: impl Fn() -> Run) -> Run {
    let emulated = trapline::lab::inside() || Need::KvmLinux.here().is_err();
    let mut last = run();
    for _ in 0..2 {
        if !emulated || !last.is_spoiled() {
            break;
        }
        eprintln!("made again after status {:?}", last.status);
        last = run();
    }
    last
}

/// Whether an oops shows flags that no x86 has: bits 31:22, 15, 5 and 3 are always 0 (SDM 1, 3.4.3).
fn oopsed_with_impossible_flags(console: &str) -> bool {
    const ZERO: u64 = 0xffc0_8028;
    let flags = console.split("EFLAGS: ").skip(1);
    flags
        .filter_map(|rest| rest.split_whitespace().next())
        .filter_map(|word| u64::from_str_radix(word, 16).ok())
        .any(|flags| flags & ZERO != 0)
}

impl Run {
    fn is_spoiled(&self) -> bool {
        match self.status {
            Some(71..=73) => true,
            Some(70) => oopsed_with_impossible_flags(&self.stdout),
            _ => false,
        }
    }

    #[track_caller]
    fn ends(&self, status: i32) -> &Self {
        assert_eq!(
            self.status,
            Some(status),
            "{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    fn prints(&self, words: &str) -> &Self {
        assert!(
            self.stdout.contains(words),
            "no {words:?} in\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    fn says(&self, words: &str) -> &Self {
        assert!(
            self.stderr.contains(words),
            "no {words:?} in\n{}",
            self.stderr
        );
        self
    }
}
