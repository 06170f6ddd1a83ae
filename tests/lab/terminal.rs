//! A command on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::common::Case;
use super::{in_labs, script};

pub(crate) const CASES: &[Case] = &[
    in_labs("a_terminal_outside_is_a_terminal_inside", terminal),
    in_labs("three_keys_leave_a_command_that_hears_none", leave),
    in_labs("without_a_terminal_outside_there_is_none_inside", pipes),
];

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

struct Screen {
    master: File,
    user: File,
    shown: String,
}

impl Screen {
    fn open(window: Winsize) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let user = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
        tcsetwinsize(&master, window).unwrap();
        Self {
            master: master.into(),
            user: user.into(),
            shown: String::new(),
        }
    }

    fn end(&self) -> Stdio {
        Stdio::from(OwnedFd::from(self.user.try_clone().unwrap()))
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.user).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Reads until `text` has been shown.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut buffer = [0; 1024];
        while !self.shown.contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", self.shown);
            let length = self.master.read(&mut buffer).unwrap();
            self.shown
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }
}

fn start(screen: &Screen, text: &str) -> Child {
    let mut command = script(text);
    command
        .stdin(screen.end())
        .stdout(screen.end())
        .stderr(screen.end());
    command.spawn().unwrap()
}

fn terminal() {
    let mut screen = Screen::open(size(33, 101));
    let mut child = start(
        &screen,
        "test -t 0 && test -t 1 && test -t 2 && echo all three; stty size; \
         trap 'echo interrupted' INT; trap 'stty size' WINCH; echo ready; \
         while read line; do echo \"<$line>\"; done; \
         while read line; do echo \"<<$line>>\"; done; exit 5",
    );
    screen.wait_for("ready");
    assert!(screen.shown.contains("all three"), "{:?}", screen.shown);
    assert!(screen.shown.contains("33 101"), "{:?}", screen.shown);
    assert!(screen.is_raw(), "keys go to the command, all of them");

    screen.type_in("a line\r");
    screen.wait_for("<a line>");
    screen.type_in("\x03");
    screen.wait_for("interrupted");

    tcsetwinsize(&screen.master, size(44, 55)).unwrap();
    // The child is no session's leader here, so the kernel tells nobody; a shell's child is told.
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    screen.type_in("wake\r");
    screen.wait_for("44 55");

    screen.type_in("\x04");
    thread::sleep(Duration::from_millis(200));
    screen.type_in("\x04");
    // The screen is read to the end, or the lab waits for its reader.
    let deadline = Instant::now() + Duration::from_secs(30);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "{:?}", screen.shown);
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(5), "{:?}", screen.shown);
    assert!(!screen.is_raw(), "put back");
}

fn leave() {
    let mut screen = Screen::open(size(24, 80));
    let mut child = start(
        &screen,
        "trap '' TERM HUP INT; stty raw; echo ready; sleep 1000",
    );
    screen.wait_for("ready");
    screen.type_in("\x1d\x1d\x1d");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!screen.is_raw(), "put back");
}

fn pipes() {
    let output = script("test -t 0 || test -t 1 || test -t 2 || echo none")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"none\n");
}
