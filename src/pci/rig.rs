//! What tests of this room put in the place of a board.

use std::sync::{Arc, Mutex};

use crate::bus::{GsiSink, Lines, Msi, MsiSink};

#[derive(Debug, Default)]
struct Log {
    levels: Mutex<Vec<(u32, bool)>>,
    messages: Mutex<Vec<Msi>>,
}

impl GsiSink for Log {
    fn set(&self, gsi: u32, level: bool) {
        self.levels.lock().unwrap().push((gsi, level));
    }
}

impl MsiSink for Log {
    fn send(&self, msi: Msi) -> bool {
        self.messages.lock().unwrap().push(msi);
        true
    }
}

/// Interrupt controllers that write everything down.
pub(super) struct Wires {
    log: Arc<Log>,
    pub(super) lines: Lines,
}

impl Wires {
    pub(super) fn new() -> Self {
        let log = Arc::new(Log::default());
        let lines = Lines::new(log.clone());
        Self { log, lines }
    }

    pub(super) fn messages(&self) -> Arc<dyn MsiSink> {
        self.log.clone()
    }

    /// Changes of level since the last look.
    pub(super) fn take(&self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.log.levels.lock().unwrap())
    }

    /// Messages since the last look, as (address, data).
    pub(super) fn take_messages(&self) -> Vec<(u64, u32)> {
        let messages = std::mem::take(&mut *self.log.messages.lock().unwrap());
        messages.into_iter().map(|m| (m.address, m.data)).collect()
    }
}
