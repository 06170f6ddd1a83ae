//! The debug-exit port: how a guest says what became of it.

use crate::bus::{Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Window};
use crate::trace::Space;

/// Where QEMU users and kvm-unit-tests put it (`iobase=0xf4,iosize=0x4`).
const BASE: u64 = 0xf4;

/// What a reported status does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DebugExitMode {
    /// The run ends at the write, as with QEMU's isa-debug-exit.
    #[default]
    Exit,
    /// The status is kept; the guest goes on and switches itself off.
    Report,
}

/// Four ports; a write of any width at the first is the status. It reads as zero, as QEMU's does.
#[derive(Debug)]
pub struct DebugExit {
    mode: DebugExitMode,
}

impl DebugExit {
    /// The device in one of its modes.
    #[must_use]
    pub const fn new(mode: DebugExitMode) -> Self {
        Self { mode }
    }
}

impl Device for DebugExit {
    fn label(&self) -> &'static str {
        "debug-exit"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "status",
            space: Space::Pio,
            base: Some(BASE),
            len: 4,
        }]
    }

    fn read(&mut self, _: Access, _: &mut Effects) -> Answer<u64> {
        Ok(0)
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        if at.offset != 0 {
            return Err(Refusal::NoSuchRegister);
        }
        effects.push(match self.mode {
            DebugExitMode::Exit => Effect::Exit(value),
            DebugExitMode::Report => Effect::Report(value),
        });
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {}

    /// It remembers nothing.
    fn save(&self) -> serde_json::Value {
        crate::bus::state::save(&())
    }

    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        crate::bus::state::load(self.label(), state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::chipset::rig::{effects_of_write, read};

    #[test]
    fn the_first_port_takes_a_status_of_any_width() {
        let mut port = DebugExit::new(DebugExitMode::Exit);
        for (width, value) in [(Width::Byte, 7), (Width::Dword, 0x1_0001)] {
            assert_eq!(
                effects_of_write(&mut port, 0, width, value),
                [Effect::Exit(value)]
            );
        }
        assert_eq!(effects_of_write(&mut port, 1, Width::Byte, 7), []);
        assert_eq!(read(&mut port, 0, Width::Dword), 0);
    }

    #[test]
    fn a_reported_status_lets_the_guest_go_on() {
        let mut port = DebugExit::new(DebugExitMode::Report);
        assert_eq!(
            effects_of_write(&mut port, 0, Width::Byte, 7),
            [Effect::Report(7)]
        );
    }
}
