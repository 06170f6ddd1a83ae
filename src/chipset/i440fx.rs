//! The 82441FX host bridge (PMC, 00:00.0): the ports to configuration space, and the memory
//! attributes of the BIOS area (82441FX data sheet, order 290549, chapter 3).
//!
//! NOT MODELLED: PAM and SMRAM, whose bits are kept and do nothing (there is no firmware to shadow, and
//! all RAM stays readable and writable); DRAM timing, error reporting and the turbo reset register.

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Effect, Effects, ResetKind, StateError, Width, Window, state};
use crate::pci::{ConfigPorts, FIRST_OWN_WINDOW, Field, Header, PciDevice, Shape, regs};
use crate::trace::Space;

use super::piix3_rcr::ResetControl;

/// CONFADD and CONFDATA.
const PORTS: u64 = 0xcf8;
/// PIIX3's RC, from there.
const RC: u64 = 1;

/// Programmable attribute maps: read enable and write enable of two 16 KiB areas each; the lower
/// half of the first is reserved.
const PAM: [Field; 7] = [
    Field::plain("PAM0", 0x59, Width::Byte, 0, 0x30),
    Field::plain("PAM1", 0x5a, Width::Byte, 0, 0x33),
    Field::plain("PAM2", 0x5b, Width::Byte, 0, 0x33),
    Field::plain("PAM3", 0x5c, Width::Byte, 0, 0x33),
    Field::plain("PAM4", 0x5d, Width::Byte, 0, 0x33),
    Field::plain("PAM5", 0x5e, Width::Byte, 0, 0x33),
    Field::plain("PAM6", 0x5f, Width::Byte, 0, 0x33),
];
const SMRAM: Field = Field::plain("SMRAM", 0x72, Width::Byte, 0x02, 0x78);

const HEADER: Header = Header {
    revision: 2,
    command: regs::COMMAND_MEMORY | regs::COMMAND_MASTER,
    // MAE and BME are hardwired.
    command_writable: regs::COMMAND_PARITY | regs::COMMAND_SERR,
    status: regs::STATUS_FAST_BACK | regs::STATUS_DEVSEL_MEDIUM,
    ..Header::new(0x8086, 0x1237, 0x06_0000)
};

/// The host bridge.
#[derive(Debug, Default)]
pub struct HostBridge {
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    ports: ConfigPorts,
    reset: ResetControl,
}

impl HostBridge {
    /// The bridge after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    const fn is_rc(at: Access) -> bool {
        at.offset == RC && matches!(at.width, Width::Byte)
    }
}

impl PciDevice for HostBridge {
    fn label(&self) -> &'static str {
        "i440fx"
    }

    fn shape(&self) -> Shape {
        Shape {
            registers: PAM.into_iter().chain([SMRAM]).collect(),
            ..Shape::new(HEADER)
        }
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: FIRST_OWN_WINDOW,
            name: "CONFADD, RC, CONFDATA",
            space: Space::Pio,
            base: Some(PORTS),
            len: 8,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if Self::is_rc(at) {
            return Ok(self.state.reset.read().into());
        }
        self.state.ports.read(at)
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        if Self::is_rc(at) {
            let reset = self.state.reset.write(value.to_le_bytes()[0]);
            reset
                .into_iter()
                .for_each(|kind| effects.push(Effect::Reset(kind)));
            return Ok(());
        }
        self.state.ports.write(at, value)
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("i440fx", possible, what);
        check(loaded.reset.can_be(), "reserved bits of RC are set")?;
        check(loaded.ports.can_be(), "reserved bits of CONFADD are set")?;
        self.state = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, width: Width) -> Access {
        Access {
            window: FIRST_OWN_WINDOW,
            offset,
            width,
        }
    }

    fn effects_of_write(bridge: &mut HostBridge, at: Access, value: u64) -> Vec<Effect> {
        let mut effects = Effects::new();
        let _ = bridge.write(at, value, &mut effects);
        effects.drain().collect()
    }

    #[test]
    fn a_byte_under_the_address_register_resets_and_a_dword_does_not() {
        let mut bridge = HostBridge::new();
        assert_eq!(
            effects_of_write(&mut bridge, at(0, Width::Dword), 0x8000_0600),
            []
        );
        assert_eq!(
            effects_of_write(&mut bridge, at(1, Width::Byte), 6),
            [Effect::Reset(ResetKind::Warm)]
        );
        let mut read = |at| bridge.read(at, &mut Effects::new());
        assert_eq!(read(at(1, Width::Byte)), Ok(6));
        assert_eq!(read(at(0, Width::Dword)), Ok(0x8000_0600));
        assert!(read(at(2, Width::Byte)).is_err());
    }
}
