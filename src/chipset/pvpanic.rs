//! pvpanic: the guest's kernel says that it panicked (QEMU docs/specs/pvpanic.rst).

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Width, Window,
};
use crate::trace::Space;

/// QEMU's port; the guest learns it from ACPI device QEMU0001.
const BASE: u64 = 0x505;
/// Event bit: the kernel panicked.
const PANICKED: u64 = 1 << 0;
/// Event bit: the kernel panicked and now starts its crash kernel.
const CRASH_LOADED: u64 = 1 << 1;

/// One port: a read gives the events it understands, a write reports some.
#[derive(Debug, Default)]
pub struct Pvpanic;

impl Device for Pvpanic {
    fn label(&self) -> &'static str {
        "pvpanic"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "events",
            space: Space::Pio,
            base: Some(BASE),
            len: 1,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        Ok(PANICKED | CRASH_LOADED)
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        if value & PANICKED != 0 {
            effects.push(Effect::Panicked);
        }
        if value & CRASH_LOADED != 0 {
            effects.push(Effect::CrashLoaded);
        }
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
    use crate::chipset::rig::{effects_of_write, read};

    #[test]
    fn each_event_bit_is_its_own_effect_and_unknown_bits_are_none() {
        let mut port = Pvpanic;
        assert_eq!(read(&mut port, 0, Width::Byte), 3);
        let mut write = |value| effects_of_write(&mut port, 0, Width::Byte, value);
        assert_eq!(write(1), [Effect::Panicked]);
        assert_eq!(write(2), [Effect::CrashLoaded]);
        assert_eq!(write(0xfc), []);
    }
}
