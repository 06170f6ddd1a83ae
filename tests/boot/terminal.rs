//! `--shell` on a terminal: what a person types and sees, and the terminal afterwards.

use rustix::process::Signal;

use super::common::{Case, Need};
use super::linux::{kernel, lines, sum_of};
use super::screen::{Screen, Spoiled};

pub(crate) const CASES: &[Case] = &[
    linux("a_shell_talks_to_a_terminal", shell),
    linux("a_paste_of_64_kib_arrives_whole", paste),
    linux("ctrl_a_x_leaves_and_puts_the_terminal_back", leave),
    linux("a_panic_of_the_guest_puts_the_terminal_back", panic),
    linux("a_signal_puts_the_terminal_back", signal),
    Case {
        name: "a_shell_in_a_lab_talks_to_the_terminal_out_here",
        needs: &[Need::Lab, Need::Kernel],
        run: through_the_lab,
    },
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

/// Boots to a shell's prompt and talks to it; again when QEMU spoiled the run.
#[track_caller]
fn at_a_prompt(place: &str, talk: impl Fn(&mut Screen) -> Result<(), Spoiled>) {
    let kernel = kernel().name;
    for _ in 0..3 {
        let mut screen = Screen::start(["--in", place, "boot", &kernel, "--shell"]);
        let done = screen.wait_for("# ").and_then(|()| {
            assert!(!screen.is_as_found(), "the terminal is not raw");
            talk(&mut screen)
        });
        if done.is_ok() {
            return;
        }
        eprintln!("made again after status {}", screen.end());
    }
    panic!("three runs of {kernel} ended as QEMU spoils them");
}

#[track_caller]
fn ends(screen: &mut Screen, status: i32) -> Result<(), Spoiled> {
    let ended = screen.end();
    assert!(screen.is_as_found(), "the terminal is left raw");
    if matches!(ended.code(), Some(71..=73)) {
        return Err(Spoiled);
    }
    assert_eq!(ended.code(), Some(status), "{}", screen.shown());
    Ok(())
}

/// Sums in what is typed tell the answer from its echo.
fn converse(screen: &mut Screen) -> Result<(), Spoiled> {
    screen.type_in("echo $((6*7))-$(stty size)-$TERM\r");
    screen.wait_for("42-33 101-xterm")?;
    screen.type_in("echo $((3*7))-runs; sleep 10000\r");
    screen.wait_for("21-runs")?;
    screen.type_in("\x03");
    screen.wait_for("# ")?;
    screen.type_in("echo $?-$((2*7))\r");
    screen.wait_for("130-14")?;
    screen.type_in("exit 3\r");
    ends(screen, 3)
}

fn shell() {
    at_a_prompt("here", converse);
}

fn through_the_lab() {
    at_a_prompt("lab", converse);
}

/// To a program that takes every byte and is slow to begin, of more than the 68 KiB that Linux takes
/// ahead of who reads; and to one that reads lines, which are echoed.
fn paste() {
    at_a_prompt("here", |screen| {
        let text = lines(1280);
        screen.type_in("stty raw -echo; echo $((6*7))-raw; sleep 3; head -c 81920 | sha256sum\r");
        screen.wait_for("42-raw")?;
        screen.type_in(&text);
        screen.wait_for(&sum_of(&text))?;
        let text = lines(256);
        screen.type_in("stty sane crtscts; echo $((3*7))-lines; head -c 16384 | sha256sum\r");
        screen.wait_for("21-lines")?;
        screen.type_in(&text);
        screen.wait_for(&sum_of(&text))?;
        screen.type_in("exit\r");
        ends(screen, 0)
    });
}

fn leave() {
    at_a_prompt("here", |screen| {
        screen.type_in("\x01x");
        ends(screen, 130)
    });
}

fn panic() {
    at_a_prompt("here", |screen| {
        screen.type_in("echo c > /proc/sysrq-trigger\r");
        ends(screen, 70)
    });
}

fn signal() {
    at_a_prompt("here", |screen| {
        screen.signal(Signal::TERM);
        ends(screen, 143)
    });
}
