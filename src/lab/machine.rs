//! QEMU while it runs, and what it leaves.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;

use super::console::Console;
use super::error::{LabError, Tail};

/// QEMU, killed when dropped.
#[derive(Debug)]
pub(super) struct Machine {
    child: Child,
    console: Option<Console>,
    /// Where the console of a lab that failed is kept.
    log: PathBuf,
}

impl Machine {
    pub(super) fn new(child: Child, console: UnixStream, show: bool, log: PathBuf) -> Self {
        Self {
            child,
            console: Some(Console::watch(console, show)),
            log,
        }
    }

    /// Ends QEMU and gives the end of its console.
    pub(super) fn post_mortem(&mut self) -> Tail {
        self.end();
        let console = self.console.take();
        console.map_or_else(Tail::default, |console| console.finish(Some(&self.log)))
    }

    /// The error for a QEMU that has ended by itself.
    pub(super) fn died(&mut self, when: &'static str) -> LabError {
        // Its sockets closed a moment before the process has ended.
        let status = self.child.wait().unwrap_or_default();
        LabError::Died {
            when,
            status,
            tail: self.post_mortem(),
        }
    }

    fn end(&mut self) {
        // Nothing is lost: whatever the command wrote has reached the host already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
