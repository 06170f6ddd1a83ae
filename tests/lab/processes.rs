//! Signals, ends and failures.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::common::Case;
use super::{ends, in_labs, lab, script};

pub(crate) const CASES: &[Case] = &[
    in_labs("a_signal_reaches_the_command", forwarded),
    in_labs("two_interrupts_end_what_ignores_them", twice),
    in_labs(
        "a_signal_before_the_command_has_started_ends_the_lab",
        early,
    ),
    in_labs("a_killed_trapline_leaves_no_qemu", orphan),
    in_labs("what_the_command_left_running_ends_with_it", leftovers),
    in_labs(
        "a_command_that_is_not_there_is_127_and_one_that_cannot_run_126",
        missing,
    ),
    in_labs("a_dying_lab_is_74_with_the_end_of_its_console", crash),
];

/// A started command that has said it is ready, and the rest of its output.
fn ready(mut command: Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    if line != "ready\n" {
        let said = child.wait_with_output().unwrap().stderr;
        panic!("{line:?}: {}", String::from_utf8_lossy(&said));
    }
    (child, stdout)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The process's children, by /proc.
fn children(of: &Child) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", of.id())).unwrap();
    let lists =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let text: String = lists.collect::<Vec<_>>().join(" ");
    let numbers = text.split_whitespace();
    numbers
        .map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap())
        .collect()
}

#[track_caller]
fn vanish(pids: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        assert!(Instant::now() < deadline, "{pids:?} are still there");
        thread::sleep(Duration::from_millis(20));
    }
}

fn forwarded() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
    ] {
        let text = format!(
            "trap 'echo caught {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let (mut child, mut stdout) = ready(script(&text));
        send(&child, signal);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, format!("caught {name}\n"));
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

fn twice() {
    let (mut child, _stdout) = ready(script("trap '' INT; echo ready; while :; do sleep 1; done"));
    let qemu = children(&child);
    assert_eq!(qemu.len(), 1);
    send(&child, Signal::INT);
    thread::sleep(Duration::from_millis(200));
    assert!(
        child.try_wait().unwrap().is_none(),
        "one is the command's to ignore"
    );
    send(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    vanish(&qemu);
}

fn early() {
    let child = script("echo never").stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while children(&child).is_empty() {
        assert!(Instant::now() < deadline, "no QEMU was started");
        thread::sleep(Duration::from_millis(5));
    }
    let qemu = children(&child);
    // Signals are caught a moment after QEMU is there; before that they end the process as well.
    send(&child, Signal::TERM);
    let status = child.wait_with_output().unwrap();
    assert!(status.stdout.is_empty());
    assert!(!status.status.success());
    vanish(&qemu);
}

fn orphan() {
    let (mut child, _stdout) = ready(script("echo ready; sleep 1000"));
    let qemu = children(&child);
    assert_eq!(qemu.len(), 1);
    send(&child, Signal::KILL);
    child.wait().unwrap();
    vanish(&qemu);
}

fn leftovers() {
    // Both hold the streams open, and would hold the lab.
    assert_eq!(
        ends(
            script("sleep 1000 & nohup sleep 1000 & echo done; exit 4"),
            4
        ),
        "done\n"
    );
}

fn missing() {
    let said = |argument: &str, status: i32| {
        let Output {
            status: found,
            stderr,
            ..
        } = lab([argument]).output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!(found.code(), Some(status), "{said}");
        assert!(said.contains(argument), "{said}");
    };
    said("no-such-command", 127);
    said("/etc/passwd", 126);
}

fn crash() {
    let mut command = script("echo c > /proc/sysrq-trigger");
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(74), "{said}");
    assert!(said.contains("the lab died"), "{said}");
    assert!(
        said.contains("Kernel panic - not syncing: sysrq triggered crash"),
        "{said}"
    );
}
