//! PIIX3's reset control register (82371SB data sheet, RC, 0xcf9).

use serde::{Deserialize, Serialize};

use crate::bus::ResetKind;

/// SRST: 0 for a soft reset (INIT), 1 for a hard one (CPURST, PCIRST#, RSTDRV).
const SRST: u8 = 1 << 1;
/// RCPU: its rise from 0 to 1 resets.
const RCPU: u8 = 1 << 2;

/// RC. Both kinds are [`ResetKind::Warm`]: PCIRST# leaves the battery-backed CMOS alone, and the
/// machine has no reset that spares its devices. Bits other than SRST and RCPU are reserved and
/// read as zero; ICH's FULL_RST (bit 3), which Linux also sets, is one of them.
///
/// The host bridge holds it: the byte lies under CONFIG_ADDRESS, and the bus does not decode by
/// width.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetControl {
    rc: u8,
}

impl ResetControl {
    pub(super) const fn read(&self) -> u8 {
        self.rc
    }

    /// The reset that the write brings about.
    pub(super) const fn write(&mut self, byte: u8) -> Option<ResetKind> {
        let rises = byte & !self.rc & RCPU != 0;
        self.rc = byte & (SRST | RCPU);
        if rises { Some(ResetKind::Warm) } else { None }
    }

    /// Whether a guest can have written this.
    pub(super) const fn can_be(&self) -> bool {
        self.rc & !(SRST | RCPU) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_rise_of_rcpu_resets() {
        let mut rc = ResetControl::default();
        assert_eq!(rc.write(0x02), None);
        assert_eq!(rc.write(0x06), Some(ResetKind::Warm));
        assert_eq!(rc.write(0x06), None, "RCPU did not rise");
        assert_eq!(rc.write(0x00), None);
        assert_eq!(rc.write(0x0f), Some(ResetKind::Warm));
        assert_eq!(rc.read(), 0x06);
    }
}
