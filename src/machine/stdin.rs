//! Standard input on its way into the guest.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use event_manager::{EventOps, EventSet, Events};

use crate::chipset::HostInput;

use super::escape::{Action, Escape};

/// How standard input is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It is not read: closed, at its end, or not wanted.
    Never,
    /// epoll tells.
    Readable,
    /// A regular file, which epoll refuses (EPERM): it can always be read.
    Always,
}

/// What the read led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Bytes may have reached the port.
    Bytes,
    /// The escape sequence that leaves.
    Leave,
    /// The escape sequence that asks what the keys are.
    Help,
}

/// Standard input. Nothing is read that the guest has no room for: a pipe or a file waits.
#[derive(Debug)]
pub(super) struct Stdin {
    wait: Wait,
    /// Whether epoll is asked about it now.
    asking: bool,
    escape: Escape,
    /// Read, but not taken by the guest yet.
    left: Vec<u8>,
}

const CHUNK: usize = 4096;

impl Stdin {
    pub(super) const fn new(wanted: bool, escape: Escape) -> Self {
        let wait = if wanted { Wait::Readable } else { Wait::Never };
        Self {
            wait,
            asking: false,
            escape,
            left: Vec::new(),
        }
    }

    fn fd() -> BorrowedFd<'static> {
        rustix::stdio::stdin()
    }

    pub(super) fn raw() -> RawFd {
        Self::fd().as_raw_fd()
    }

    /// Asks epoll, or finds that it cannot be asked.
    pub(super) fn register(&mut self, data: u32, ops: &mut EventOps<'_>) {
        if self.wait != Wait::Readable || self.asking {
            return;
        }
        match ops.add(Events::with_data_raw(Self::raw(), data, EventSet::IN)) {
            Ok(()) => self.asking = true,
            Err(event_manager::Error::Epoll(e)) if e.errno() == libc::EPERM => {
                self.wait = Wait::Always;
            }
            // A closed standard input: there is nothing to read.
            Err(_) => self.wait = Wait::Never,
        }
    }

    fn unregister(&mut self, data: u32, ops: &mut EventOps<'_>) {
        if self.asking {
            let _ = ops.remove(Events::with_data_raw(Self::raw(), data, EventSet::IN));
            self.asking = false;
        }
    }

    /// Reads what there is room for and passes it on. Called when epoll says so, when the port has
    /// room again, and for a file whenever something happens.
    pub(super) fn pump(
        &mut self,
        readable: bool,
        port: &HostInput,
        data: u32,
        ops: &mut EventOps<'_>,
    ) -> Vec<Typed> {
        let mut typed = Vec::new();
        let mut readable = readable || self.wait == Wait::Always;
        loop {
            if !self.left.is_empty() {
                let taken = port.push(&self.left);
                self.left.drain(..taken.min(self.left.len()));
                typed.push(Typed::Bytes);
                if !self.left.is_empty() {
                    // The port tells when it has room; until then epoll would only spin.
                    self.unregister(data, ops);
                    return typed;
                }
            }
            if self.wait == Wait::Never {
                port.close();
            }
            if self.wait == Wait::Never || !readable {
                self.register(data, ops);
                return typed;
            }
            let mut chunk = [0; CHUNK];
            match rustix::io::read(Self::fd(), &mut chunk) {
                Ok(0) => self.end(data, ops),
                Ok(count) => self.typed(chunk.get(..count).unwrap_or_default(), &mut typed),
                Err(e) if io::Error::from(e).kind() == io::ErrorKind::Interrupted => {}
                Err(rustix::io::Errno::AGAIN) => {}
                // EIO: a background job, or a terminal that is gone.
                Err(_) => self.end(data, ops),
            }
            readable = self.wait == Wait::Always;
        }
    }

    fn end(&mut self, data: u32, ops: &mut EventOps<'_>) {
        self.unregister(data, ops);
        self.wait = Wait::Never;
    }

    fn typed(&mut self, bytes: &[u8], typed: &mut Vec<Typed>) {
        for action in self.escape.feed(bytes) {
            match action {
                Action::Send(bytes) => self.left.extend(bytes),
                Action::Leave => typed.push(Typed::Leave),
                Action::Help => typed.push(Typed::Help),
            }
        }
    }

    pub(super) fn help(&self) -> String {
        self.escape.help()
    }
}
