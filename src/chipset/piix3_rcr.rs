//! PIIX3's reset control register (82371SB data sheet, RC, 0xcf9).

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::trace::Space;

/// The port. PCI's configuration address register is a dword at 0xcf8; this byte lies under it.
const BASE: u64 = 0xcf9;
/// SRST: 0 for a soft reset (INIT), 1 for a hard one (CPURST, PCIRST#, RSTDRV).
const SRST: u8 = 1 << 1;
/// RCPU: its rise from 0 to 1 resets.
const RCPU: u8 = 1 << 2;

/// RC. Both kinds are [`ResetKind::Warm`]: PCIRST# leaves the battery-backed CMOS alone, and the
/// machine has no reset that spares its devices. Bits other than SRST and RCPU are reserved and
/// read as zero; ICH's FULL_RST (bit 3), which Linux also sets, is one of them.
#[derive(Debug, Default)]
pub struct ResetControl {
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    rc: u8,
}

impl ResetControl {
    /// The register after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for ResetControl {
    fn label(&self) -> &'static str {
        "piix3-rcr"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "RC",
            space: Space::Pio,
            base: Some(BASE),
            len: 1,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        Ok(self.state.rc.into())
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        let byte = match at.width {
            Width::Byte => value.to_le_bytes()[0],
            _ => return Err(Refusal::BadWidth),
        };
        let rises = byte & !self.state.rc & RCPU != 0;
        self.state.rc = byte & (SRST | RCPU);
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
            loaded.rc & !(SRST | RCPU) == 0,
            "reserved bits of RC are set",
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
    fn only_the_rise_of_rcpu_resets() {
        let mut rc = ResetControl::new();
        let mut write = |value| effects_of_write(&mut rc, 0, Width::Byte, value);
        assert_eq!(write(0x02), []);
        assert_eq!(write(0x06), [Effect::Reset(ResetKind::Warm)]);
        assert_eq!(write(0x06), [], "RCPU did not rise");
        assert_eq!(write(0x00), []);
        assert_eq!(write(0x0f), [Effect::Reset(ResetKind::Warm)]);
        assert_eq!(read(&mut rc, 0, Width::Byte), 0x06);
    }
}
