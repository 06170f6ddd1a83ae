//! How fast the host's end of the wire sends to a guest that takes interrupts.
//!
//! A real line fills the FIFO more slowly than a driver empties it. One that is full again at once
//! never lets Linux's handler end (`serial8250_interrupt` serves the port until it has nothing more,
//! up to 512 times): the work that hands on what was received does not get to run on that vCPU,
//! nobody throttles the sender, and beyond 64 KiB the tty layer drops. So a guest that has emptied
//! the FIFO is left alone for as long as that took it: at most half of a vCPU goes into reception.

use crate::bus::Ns;

/// The longest pause: a guest that was slow because its vCPU did not run is not starved for it.
const LONGEST: u64 = 4_000_000;

/// When the wire sends next. Like the bytes that wait on it, this is the host's and not part of the
/// machine's state.
#[derive(Debug, Default)]
pub(super) struct Pace {
    filled: Ns,
    next: Ns,
}

impl Pace {
    /// Bytes were put into the empty FIFO.
    pub(super) const fn filled(&mut self, now: Ns) {
        self.filled = now;
    }

    /// The guest has read the last of them.
    pub(super) fn drained(&mut self, now: Ns) {
        let took = now.0.saturating_sub(self.filled.0);
        self.next = Ns(now.0.saturating_add(took.min(LONGEST)));
    }

    /// When the FIFO may be filled again.
    pub(super) const fn next(&self) -> Ns {
        self.next
    }
}
