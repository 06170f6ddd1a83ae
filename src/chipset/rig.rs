//! What the tests of this room wire devices to.

use std::sync::{Arc, Mutex};

use crate::bus::{Access, Device, Effect, Effects, GsiSink, Line, Lines, Msi, MsiSink, Width};

use crate::mem::{GuestRam, HugePages};
use crate::pci::{CONFIG_WINDOW, Seat};
use crate::trace::Bdf;

use super::serial::ConsoleOut;

#[derive(Debug, Default)]
struct Log(Mutex<Vec<(u32, bool)>>);

impl GsiSink for Log {
    fn set(&self, gsi: u32, level: bool) {
        self.0.lock().unwrap().push((gsi, level));
    }
}

impl MsiSink for Log {
    fn send(&self, _: Msi) -> bool {
        true
    }
}

/// An irqchip that writes down every change.
pub(super) struct Wires {
    log: Arc<Log>,
    lines: Lines,
    levels: Mutex<std::collections::BTreeMap<u32, bool>>,
}

impl Wires {
    pub(super) fn new() -> Self {
        let log = Arc::new(Log::default());
        let lines = Lines::new(log.clone());
        Self {
            log,
            lines,
            levels: Mutex::default(),
        }
    }

    pub(super) const fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(super) fn messages(&self) -> Arc<dyn MsiSink> {
        self.log.clone()
    }

    pub(super) fn line(&self, gsi: u32) -> Line {
        self.lines.line("test", Some(gsi))
    }

    /// The changes since the last look.
    pub(super) fn take(&self) -> Vec<(u32, bool)> {
        let changes = std::mem::take(&mut *self.log.0.lock().unwrap());
        self.levels.lock().unwrap().extend(changes.iter().copied());
        changes
    }

    /// The level of `gsi` now. Looks, so [`Wires::take`] starts after it.
    pub(super) fn level(&self, gsi: u32) -> bool {
        self.take();
        self.levels
            .lock()
            .unwrap()
            .get(&gsi)
            .copied()
            .unwrap_or_default()
    }
}

/// A console that keeps what was printed.
#[derive(Clone, Default)]
pub(super) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl ConsoleOut for Printed {
    fn put(&mut self, byte: u8) {
        self.0.lock().unwrap().push(byte);
    }
}

/// An access to window 0.
pub(super) const fn at(offset: u64, width: Width) -> Access {
    Access {
        window: 0,
        offset,
        width,
    }
}

/// Reads as the bus does: a refusal is ones.
pub(super) fn read(device: &mut dyn Device, offset: u64, width: Width) -> u64 {
    let value = device.read(at(offset, width), &mut Effects::new());
    value.unwrap_or(u64::MAX) & width.ones()
}

/// Writes as the bus does and returns what it brought about.
pub(super) fn effects_of_write(
    device: &mut dyn Device,
    offset: u64,
    width: Width,
    value: u64,
) -> Vec<Effect> {
    let mut effects = Effects::new();
    let _ = device.write(at(offset, width), value & width.ones(), &mut effects);
    effects.drain().collect()
}

/// A seat at 00:01.0 with a little RAM, and a line when a GSI is given.
pub(super) fn seat(wires: &Wires, gsi: Option<u32>) -> Seat {
    let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
    let line = gsi.map(|gsi| wires.line(gsi));
    Seat::new(Bdf(8), ram, None, wires.log.clone(), line)
}

/// Writes a configuration register and returns what it brought about.
pub(super) fn config_write(
    device: &mut dyn Device,
    register: u8,
    width: Width,
    value: u64,
) -> Vec<Effect> {
    let mut effects = Effects::new();
    let at = Access {
        window: CONFIG_WINDOW,
        ..at(register.into(), width)
    };
    device.write(at, value, &mut effects).unwrap();
    effects.drain().collect()
}
