//! What runs in a lab, and how it ended.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use super::choose::IN_LAB;
use super::error::LabError;

/// Variables a command in the lab finds as its caller has them; a `*` ends a prefix. The rest speaks
/// of a machine the command is not on.
const PASSED: [&str; 13] = [
    "HOME",
    "TERM",
    "COLORTERM",
    "PATH",
    "SHELL",
    "USER",
    "LANG",
    "LC_*",
    "NO_COLOR",
    "XDG_*",
    "TRAPLINE_*",
    "RUST_*",
    "CARGO_*",
];

/// A command to run in a lab.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program and arguments. A program without a `/` is looked for in PATH.
    pub argv: Vec<OsString>,
    /// Working directory; none: the caller's.
    pub cwd: Option<PathBuf>,
    /// Variables besides those passed from the caller.
    pub env: Vec<(OsString, OsString)>,
}

impl Command {
    /// A command in the caller's directory and environment.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            cwd: None,
            env: Vec::new(),
        }
    }

    /// This process's own command line. In the lab it runs there: `TRAPLINE_IN_LAB` is set, whatever
    /// `--in` says.
    ///
    /// # Errors
    /// When the system does not say which program this is.
    pub fn own() -> Result<Self, LabError> {
        let program = env::current_exe().map_err(LabError::io("find this program"))?;
        let arguments = env::args_os().skip(1);
        Ok(Self::new([program.into()].into_iter().chain(arguments)))
    }

    /// The whole environment, `NAME=value`.
    pub(super) fn environment(&self) -> Vec<Vec<u8>> {
        let inherited = env::vars_os().filter(|(name, _)| is_passed(name));
        let ours = [(OsString::from(IN_LAB), OsString::from("1"))];
        inherited
            .chain(self.env.iter().cloned())
            .chain(ours)
            .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
            .collect()
    }
}

fn is_passed(name: &OsStr) -> bool {
    PASSED.iter().any(|passed| match passed.strip_suffix('*') {
        Some(prefix) => name.as_bytes().starts_with(prefix.as_bytes()),
        None => name == *passed,
    })
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Code(u8),
    /// By this signal; or the lab was ended by it before the command was.
    Signal(u8),
    /// It could not be started.
    Refused {
        /// What a shell ends with then: 127 not found, 126 found and not run.
        status: u8,
        /// Why.
        why: String,
    },
}

impl Exit {
    /// The status a shell gives it: a signal's is 128 more.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Code(status) | Self::Refused { status, .. } => *status,
            Self::Signal(signal) => 128 | *signal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_variables_pass() {
        for name in ["HOME", "TRAPLINE_KERNEL", "RUST_BACKTRACE", "LC_ALL"] {
            assert!(is_passed(OsStr::new(name)), "{name}");
        }
        for name in ["HOMEX", "LD_PRELOAD", "TMPDIR", "SSH_AUTH_SOCK", "LC"] {
            assert!(!is_passed(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_signal_is_128_more() {
        assert_eq!(Exit::Signal(15).status(), 143);
        assert_eq!(Exit::Code(7).status(), 7);
    }
}
