//! The outer terminal.

use rustix::process::getpgrp;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{isatty, tcgetpgrp, tcgetwinsize};

/// What the standard streams are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Streams {
    /// The command gets a terminal.
    pub terminal: bool,
    /// Standard error goes to it too.
    pub merge: bool,
    /// Standard input may be read. A background job that reads its terminal is stopped for it.
    pub input: bool,
}

impl Streams {
    pub(super) fn look() -> Self {
        let (input, output) = (isatty(stdin()), isatty(stdout()));
        let background = input && tcgetpgrp(stdin()).is_ok_and(|group| group != getpgrp());
        let terminal = input && output && !background;
        Self {
            terminal,
            merge: terminal && isatty(stderr()),
            input: !background,
        }
    }
}

/// Rows and columns of the terminal on standard output; 24 by 80 where it does not say.
pub(super) fn size() -> (u16, u16) {
    tcgetwinsize(stdout())
        .map(|size| (size.ws_row, size.ws_col))
        .ok()
        .filter(|(rows, columns)| *rows > 0 && *columns > 0)
        .unwrap_or((24, 80))
}
