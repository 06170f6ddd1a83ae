//! The guests, and what they are run with.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::common::TRAPLINE;

/// A guest that `build.rs` has made.
pub(crate) fn guest(name: &str) -> PathBuf {
    let path = PathBuf::from(concat!(env!("OUT_DIR"), "/kut")).join(name);
    assert!(path.is_file(), "build.rs made no {}", path.display());
    path
}

/// How a run looked from the shell.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn ends(&self, status: i32) -> &Self {
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
    pub(crate) fn prints(&self, words: &str) -> &Self {
        assert!(
            self.stdout.contains(words),
            "no {words:?} in\n{}\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(
            self.stderr.contains(words),
            "no {words:?} in\n{}",
            self.stderr
        );
        self
    }
}

/// `trapline COMMAND ...` here: a test that cannot run here runs in a lab, where here is the lab.
pub(crate) fn trapline<S: AsRef<OsStr>>(
    command: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Run {
    let mut trapline = Command::new(TRAPLINE);
    trapline.args(["--in", "here", command]).args(arguments);
    finish(&mut trapline)
}

pub(crate) fn finish(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Run {
        status: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// `trapline boot GUEST ...`.
pub(crate) fn boot(name: &str, arguments: &[&str]) -> Run {
    let guest = guest(name);
    let guest = [guest.as_os_str()].into_iter();
    trapline("boot", guest.chain(arguments.iter().map(OsStr::new)))
}
