//! A terminal with a person at it, who types and reads.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::common::TRAPLINE;

/// How long anything may take. A boot in a lab on a busy machine takes a minute of it.
const PATIENCE: Duration = Duration::from_secs(300);

/// The run ended as QEMU's emulation of SVM makes one in thirty end; see `unspoiled`.
#[derive(Debug)]
pub(crate) struct Spoiled;

/// A program on a terminal of its own.
pub(crate) struct Screen {
    master: File,
    user: File,
    shown: Arc<Mutex<String>>,
    /// What was shown up to here has been read.
    read: usize,
    before: String,
    program: Child,
}

impl Screen {
    /// Starts trapline on a terminal of 33 rows and 101 columns, as the leader of its session.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let user = rustix::fs::open(&*name, flags, Mode::empty()).expect("its other end");
        let window = Winsize {
            ws_row: 33,
            ws_col: 101,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, window).expect("a size");
        let end = || Stdio::from(user.try_clone().expect("a copy"));
        let before = modes(&user);
        let program = Command::new("setsid")
            .arg("--ctty")
            .arg(TRAPLINE)
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid starts it");
        let screen = Self {
            master: master.into(),
            user: user.into(),
            shown: Arc::default(),
            read: 0,
            before,
            program,
        };
        screen.watch();
        screen
    }

    /// Reads all the time, as a terminal does: what is written to it never waits.
    fn watch(&self) {
        let mut master = self.master.try_clone().expect("a copy");
        let shown = Arc::clone(&self.shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]);
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                shown.push_str(&text);
            }
        });
    }

    /// What has been shown since the last [`Screen::wait_for`].
    pub(crate) fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown[self.read..].to_owned()
    }

    /// Waits until `text` is shown, after what was waited for before.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<(), Spoiled> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.program.try_wait().expect("a child");
            let shown = self.shown();
            if let Some(at) = shown.find(text) {
                self.read += at + text.len();
                return Ok(());
            }
            match ended.and_then(|status| status.code()) {
                Some(71..=73) => return Err(Spoiled),
                _ => assert_eq!(ended, None, "ended without {text:?}:\n{shown}"),
            }
            assert!(Instant::now() < deadline, "no {text:?} in\n{shown}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types, and does not wait until it has been taken.
    pub(crate) fn type_in(&self, keys: &str) {
        let mut master = self.master.try_clone().expect("a copy");
        let keys = keys.to_owned();
        thread::spawn(move || master.write_all(keys.as_bytes()));
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.program);
        rustix::process::kill_process(pid, signal).expect("it is alive");
    }

    /// Whether the terminal is in the modes it was found in.
    pub(crate) fn is_as_found(&self) -> bool {
        modes(&self.user.try_clone().map(OwnedFd::from).expect("a copy")) == self.before
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.program.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "goes on:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// All that can be set of a terminal.
fn modes(terminal: &OwnedFd) -> String {
    let modes: Termios = tcgetattr(terminal).expect("modes");
    format!("{modes:?}")
}
