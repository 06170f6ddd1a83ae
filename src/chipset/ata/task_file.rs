//! The registers of one drive, and the addresses and counts in them.

use serde::{Deserialize, Serialize};

use super::regs;

/// Heads and sectors of a disk, as every large one has them, and as old software sees it.
pub(super) const HEADS: u8 = 16;
pub(super) const SECTORS_PER_TRACK: u8 = 63;

/// Which form of address and count a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Address {
    /// 28 bits, or cylinder, head and sector, as the device register says; 256 sectors at most.
    Short,
    /// 48 bits; 65536 sectors at most.
    Long,
}

/// A register that is two writes deep, for 48-bit commands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deep {
    now: u8,
    before: u8,
}

impl Deep {
    const fn push(&mut self, value: u8) {
        self.before = self.now;
        self.now = value;
    }
}

/// Cylinders, heads and sectors as the guest counts them; INITIALIZE DEVICE PARAMETERS changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Geometry {
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

impl Default for Geometry {
    fn default() -> Self {
        Self {
            heads: HEADS,
            sectors: SECTORS_PER_TRACK,
        }
    }
}

impl Geometry {
    /// Cylinders of a disk with `sectors` sectors; the register has no more than 16383 (ATA-6, C.2).
    pub(super) fn cylinders(self, sectors: u64) -> u16 {
        let track = u64::from(self.heads).saturating_mul(self.sectors.into());
        let whole = sectors.checked_div(track).unwrap_or(0).clamp(1, 16383);
        u16::try_from(whole).unwrap_or(u16::MAX)
    }
}

/// The registers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskFile {
    features: Deep,
    count: Deep,
    lba: [Deep; 3],
    pub(super) device: u8,
    pub(super) error: u8,
    pub(super) status: u8,
}

impl TaskFile {
    /// What every drive's registers hold after a reset or a diagnostic: its signature.
    pub(super) fn signature(packet: bool) -> Self {
        let [mid, high, status] = match packet {
            true => [0x14, 0xeb, 0],
            false => [0, 0, regs::DRDY | regs::DSC],
        };
        let deep = |now| Deep { now, before: 0 };
        Self {
            count: deep(1),
            lba: [deep(1), deep(mid), deep(high)],
            error: regs::PASSED,
            status,
            ..Self::default()
        }
    }

    /// A register below the command register.
    pub(super) fn write(&mut self, offset: u64, value: u8) {
        let [low, mid, high] = &mut self.lba;
        match offset {
            regs::FEATURES => self.features.push(value),
            regs::COUNT => self.count.push(value),
            regs::LBA_LOW => low.push(value),
            regs::LBA_MID => mid.push(value),
            regs::LBA_HIGH => high.push(value),
            regs::DEVICE => self.device = value,
            _ => {}
        }
    }

    /// A register; `before` asks for what was written before the last write, where there is that.
    pub(super) const fn read(&self, offset: u64, before: bool) -> u8 {
        let [low, mid, high] = self.lba;
        let deep = match offset {
            regs::COUNT => self.count,
            regs::LBA_LOW => low,
            regs::LBA_MID => mid,
            regs::LBA_HIGH => high,
            regs::ERROR => return self.error,
            // Bits 7 and 5 read as ones, as on drives that old software knew.
            regs::DEVICE => return self.device | 0xa0,
            _ => return self.status,
        };
        if before { deep.before } else { deep.now }
    }

    pub(super) const fn features(&self) -> u8 {
        self.features.now
    }

    pub(super) const fn count(&self) -> u8 {
        self.count.now
    }

    pub(super) const fn set_count(&mut self, value: u8) {
        self.count.now = value;
    }

    /// The byte count a packet command's data comes in.
    pub(super) const fn byte_count(&self) -> u16 {
        let [_, mid, high] = self.lba;
        u16::from_le_bytes([mid.now, high.now])
    }

    pub(super) const fn set_byte_count(&mut self, count: u16) {
        let [low, high] = count.to_le_bytes();
        self.lba[1].now = low;
        self.lba[2].now = high;
    }

    /// How many sectors a command is for.
    pub(super) fn sectors(&self, form: Address) -> u32 {
        match form {
            Address::Short => match self.count.now {
                0 => 256,
                count => count.into(),
            },
            Address::Long => match u16::from_le_bytes([self.count.now, self.count.before]) {
                0 => 65536,
                count => count.into(),
            },
        }
    }

    /// The sector a command starts at; none for a cylinder, head and sector that do not exist.
    pub(super) fn sector(&self, form: Address, geometry: Geometry) -> Option<u64> {
        let [low, mid, high] = self.lba;
        if form == Address::Long {
            let bytes = [
                low.now,
                mid.now,
                high.now,
                low.before,
                mid.before,
                high.before,
                0,
                0,
            ];
            return Some(u64::from_le_bytes(bytes));
        }
        let top = self.device & 0x0f;
        if self.device & regs::LBA != 0 {
            return Some(u32::from_le_bytes([low.now, mid.now, high.now, top]).into());
        }
        if low.now == 0 || low.now > geometry.sectors || top >= geometry.heads {
            return None;
        }
        let cylinder = u64::from(u16::from_le_bytes([mid.now, high.now]));
        cylinder
            .checked_mul(geometry.heads.into())?
            .checked_add(top.into())?
            .checked_mul(geometry.sectors.into())?
            .checked_add(u64::from(low.now).checked_sub(1)?)
    }

    /// Says where a command went wrong.
    pub(super) fn set_sector(&mut self, sector: u64, form: Address, geometry: Geometry) {
        let [low, mid, high] = &mut self.lba;
        if form == Address::Long || self.device & regs::LBA != 0 {
            let [b0, b1, b2, b3, b4, b5, ..] = sector.to_le_bytes();
            (low.now, mid.now, high.now) = (b0, b1, b2);
            if form == Address::Long {
                (low.before, mid.before, high.before) = (b3, b4, b5);
            } else {
                self.device = self.device & 0xf0 | b3 & 0x0f;
            }
            return;
        }
        let per_track = u64::from(geometry.sectors.max(1));
        let heads = u64::from(geometry.heads.max(1));
        let (track, within) = (
            sector.checked_div(per_track).unwrap_or(0),
            sector.checked_rem(per_track).unwrap_or(0),
        );
        let cylinder = track.checked_div(heads).unwrap_or(0);
        let head = track.checked_rem(heads).unwrap_or(0);
        let byte = |value: u64| u8::try_from(value & 0xff).unwrap_or_default();
        low.now = byte(within).wrapping_add(1);
        mid.now = byte(cylinder);
        high.now = byte(cylinder >> 8);
        self.device = self.device & 0xf0 | byte(head) & 0x0f;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_48_bit_address_is_six_bytes_written_high_half_first() {
        let mut task = TaskFile::default();
        for (offset, high, low) in [(2, 0x12, 0x34), (3, 4, 1), (4, 5, 2), (5, 6, 3)] {
            task.write(offset, high);
            task.write(offset, low);
        }
        let geometry = Geometry::default();
        assert_eq!(task.sector(Address::Long, geometry), Some(0x0605_0403_0201));
        assert_eq!(task.sectors(Address::Long), 0x1234);
        assert_eq!(task.sectors(Address::Short), 0x34);
        assert_eq!([task.read(4, false), task.read(4, true)], [2, 5]);
    }

    #[test]
    fn no_sectors_means_the_most() {
        let task = TaskFile::default();
        let counts = [Address::Short, Address::Long].map(|form| task.sectors(form));
        assert_eq!(counts, [256, 65536]);
    }

    #[test]
    fn cylinder_head_and_sector_count_from_one() {
        let geometry = Geometry::default();
        let mut task = TaskFile::default();
        assert_eq!(task.sector(Address::Short, geometry), None, "sector 0");
        task.write(3, 1);
        assert_eq!(task.sector(Address::Short, geometry), Some(0));
        task.write(4, 2);
        task.write(6, 0xa3);
        assert_eq!(
            task.sector(Address::Short, geometry),
            Some((2 * 16 + 3) * 63)
        );
        task.write(3, 64);
        assert_eq!(task.sector(Address::Short, geometry), None);
    }

    #[test]
    fn an_address_put_back_is_the_one_that_is_read() {
        let geometry = Geometry::default();
        for (device, form, sector) in [
            (0, Address::Short, 123_456),
            (regs::LBA, Address::Short, 0x0abc_def1),
            (0, Address::Long, 0x0605_0403_0201),
        ] {
            let mut task = TaskFile {
                device,
                ..TaskFile::default()
            };
            task.set_sector(sector, form, geometry);
            assert_eq!(task.sector(form, geometry), Some(sector), "{form:?}");
        }
    }
}
