//! Port 92h: fast reset and fast A20 (82371SB data sheet, PORT 92).

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::trace::Space;

const BASE: u64 = 0x92;
/// FAST_INIT: its rise from 0 to 1 resets.
const FAST_INIT: u8 = 1 << 0;
/// FAST_A20. NOT MODELLED: KVM has no A20 gate, so the bit is kept and address line 20 is always on.
const FAST_A20: u8 = 1 << 1;

/// Port 92h.
#[derive(Debug, Default)]
pub struct Port92 {
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    value: u8,
}

impl Default for State {
    /// A20 on: every boot protocol demands it, and no firmware runs that could switch it on.
    fn default() -> Self {
        Self { value: FAST_A20 }
    }
}

impl Port92 {
    /// The port after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for Port92 {
    fn label(&self) -> &'static str {
        "port92"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "PORT 92",
            space: Space::Pio,
            base: Some(BASE),
            len: 1,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        Ok(self.state.value.into())
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        let byte = match at.width {
            Width::Byte => value.to_le_bytes()[0],
            _ => return Err(Refusal::BadWidth),
        };
        let rises = byte & !self.state.value & FAST_INIT != 0;
        self.state.value = byte & (FAST_INIT | FAST_A20);
        if rises {
            effects.push(Effect::Reset(ResetKind::Warm));
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        state::check(
            self.label(),
            loaded.value & !(FAST_INIT | FAST_A20) == 0,
            "reserved bits are set",
        )?;
        self.state = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::{effects_of_write, read};

    #[test]
    fn the_rise_of_bit_0_resets_and_a20_is_kept() {
        let mut port = Port92::new();
        assert_eq!(read(&mut port, 0, Width::Byte), 2);
        let mut write = |value| effects_of_write(&mut port, 0, Width::Byte, value);
        assert_eq!(write(0xfe), []);
        assert_eq!(write(0x01), [Effect::Reset(ResetKind::Warm)]);
        assert_eq!(write(0x01), []);
        assert_eq!(read(&mut port, 0, Width::Byte), 1);
    }
}
