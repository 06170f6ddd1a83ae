//! The MSI-X capability, its table and its pending bits (PCI 3.0, 6.8.2).

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Refusal, Width};

use super::field::Field;
use super::space::ConfigSpace;

/// Message control, relative to the capability.
const CONTROL: u8 = 2;
const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;
const TABLE: u8 = 4;
const PBA: u8 = 8;
/// Bytes of a table entry: address, upper address, data, vector control.
const ENTRY: u64 = 16;
const VECTOR_MASK: u32 = 1;

/// Where a function keeps its MSI-X table and pending bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsixShape {
    /// 1 to 2048.
    pub vectors: u16,
    /// The BAR both lie in.
    pub bar: u8,
    /// Where the table lies in it; 8-byte aligned.
    pub table: u32,
    /// Where the pending bits lie in it; 8-byte aligned.
    pub pending: u32,
}

/// The part of a BAR an access falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Table(u64),
    Pending(u64),
}

impl MsixShape {
    pub(super) const LEN: u8 = 12;

    pub(super) fn fields(&self) -> Vec<Field> {
        let bar = u32::from(self.bar & 7);
        vec![
            Field::plain(
                "MSIXCTL",
                CONTROL,
                Width::Word,
                u32::from(self.vectors.saturating_sub(1) & 0x7ff),
                u32::from(ENABLE | FUNCTION_MASK),
            ),
            Field::fixed("MSIXTBL", TABLE, Width::Dword, self.table & !7 | bar),
            Field::fixed("MSIXPBA", PBA, Width::Dword, self.pending & !7 | bar),
        ]
    }

    /// Table or pending bits behind `at`, with the offset into them.
    pub(super) fn part(&self, at: Access) -> Option<Part> {
        if at.window != self.bar {
            return None;
        }
        let within = |start: u32, len: u64| {
            let offset = at.offset.checked_sub(start.into())?;
            (offset < len).then_some(offset)
        };
        let table = u64::from(self.vectors).saturating_mul(ENTRY);
        let pending = u64::from(self.vectors).div_ceil(64).saturating_mul(8);
        within(self.table, table)
            .map(Part::Table)
            .or_else(|| within(self.pending, pending).map(Part::Pending))
    }
}

/// One entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
    pending: bool,
}

impl Entry {
    const FRESH: Self = Self {
        address: 0,
        data: 0,
        masked: true,
        pending: false,
    };
}

/// Table, pending bits and the capability's control bits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Msix {
    entries: Vec<Entry>,
    #[serde(skip)]
    pub(super) enabled: bool,
    #[serde(skip)]
    all_masked: bool,
}

impl Msix {
    pub(super) fn new(vectors: u16) -> Self {
        Self {
            entries: vec![Entry::FRESH; vectors.into()],
            ..Self::default()
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn configure(&mut self, config: &ConfigSpace, at: u8) {
        let control = config.word(at.wrapping_add(CONTROL));
        self.enabled = control & ENABLE != 0;
        self.all_masked = control & FUNCTION_MASK != 0;
    }

    /// The message to send for `vector`; none when it is masked, and then pending.
    pub(super) fn signal(&mut self, vector: u16) -> Option<(u64, u32)> {
        let all_masked = self.all_masked;
        let entry = self.entries.get_mut(usize::from(vector))?;
        if all_masked || entry.masked {
            entry.pending = true;
            return None;
        }
        Some((entry.address, entry.data))
    }

    /// Messages that were pending and are masked no more.
    pub(super) fn released(&mut self) -> Vec<(u64, u32)> {
        if !self.enabled || self.all_masked {
            return Vec::new();
        }
        let ready = self.entries.iter_mut().filter(|e| e.pending && !e.masked);
        ready
            .map(|entry| {
                entry.pending = false;
                (entry.address, entry.data)
            })
            .collect()
    }

    /// Dwords and qwords, aligned; the rest is undefined and refused (6.8.2.6).
    pub(super) fn read(&self, part: Part, width: Width) -> Answer<u64> {
        let (offset, dword): (u64, &dyn Fn(u64) -> u32) = match part {
            Part::Table(offset) => (offset, &|at| self.table(at)),
            Part::Pending(offset) => (offset, &|at| self.pending(at)),
        };
        aligned(offset, width)?;
        let low = u64::from(dword(offset));
        Ok(match width {
            Width::Qword => low | u64::from(dword(offset.wrapping_add(4))) << 32,
            _ => low,
        })
    }

    /// Pending bits are read-only.
    pub(super) fn write(&mut self, part: Part, width: Width, value: u64) -> Answer<()> {
        let Part::Table(offset) = part else {
            return Err(Refusal::NoSuchRegister);
        };
        aligned(offset, width)?;
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        self.write_table(offset, half(value));
        if width == Width::Qword {
            self.write_table(offset.wrapping_add(4), half(value >> 32));
        }
        Ok(())
    }

    fn index(offset: u64) -> usize {
        usize::try_from(offset / ENTRY).unwrap_or(usize::MAX)
    }

    fn table(&self, offset: u64) -> u32 {
        let Some(entry) = self.entries.get(Self::index(offset)) else {
            return 0;
        };
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        match offset % ENTRY {
            0 => half(entry.address),
            4 => half(entry.address >> 32),
            8 => entry.data,
            _ => entry.masked.into(),
        }
    }

    fn write_table(&mut self, offset: u64, value: u32) {
        let Some(entry) = self.entries.get_mut(Self::index(offset)) else {
            return;
        };
        let wide = u64::from(value);
        match offset % ENTRY {
            0 => entry.address = entry.address & !0xffff_ffff | wide & !3,
            4 => entry.address = entry.address & 0xffff_ffff | wide << 32,
            8 => entry.data = value,
            _ => entry.masked = value & VECTOR_MASK != 0,
        }
    }

    fn pending(&self, offset: u64) -> u32 {
        let first = usize::try_from(offset.saturating_mul(8)).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(first).take(32);
        entries
            .zip(0_u32..)
            .map(|(entry, bit)| u32::from(entry.pending).wrapping_shl(bit))
            .fold(0, |bits, bit| bits | bit)
    }
}

const fn aligned(offset: u64, width: Width) -> Answer<()> {
    match width {
        Width::Dword if offset.is_multiple_of(4) => Ok(()),
        Width::Qword if offset.is_multiple_of(8) => Ok(()),
        _ => Err(Refusal::BadWidth),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: MsixShape = MsixShape {
        vectors: 65,
        bar: 1,
        table: 0,
        pending: 0x800,
    };

    fn at(offset: u64) -> Access {
        Access {
            window: 1,
            offset,
            width: Width::Dword,
        }
    }

    fn enabled(mask_all: bool) -> Msix {
        let mut msix = Msix::new(SHAPE.vectors);
        let mut config = ConfigSpace::new(SHAPE.fields());
        let all = if mask_all { FUNCTION_MASK } else { 0 };
        config.write(CONTROL, Width::Word, u64::from(ENABLE | all));
        msix.configure(&config, 0);
        msix
    }

    #[test]
    fn table_and_pending_bits_share_a_bar() {
        assert_eq!(SHAPE.part(at(0x40f)), Some(Part::Table(0x40f)));
        assert_eq!(SHAPE.part(at(0x410)), None);
        assert_eq!(SHAPE.part(at(0x80f)), Some(Part::Pending(0xf)));
        assert_eq!(SHAPE.part(at(0x810)), None);
    }

    #[test]
    fn a_masked_vector_waits_as_a_pending_bit() {
        let mut msix = enabled(false);
        assert_eq!(msix.signal(64), None, "vectors start masked");
        assert_eq!(msix.read(Part::Pending(8), Width::Qword), Ok(1));
        msix.write(Part::Table(0x400), Width::Qword, 0xfee0_2000)
            .unwrap();
        msix.write(Part::Table(0x408), Width::Dword, 0x41).unwrap();
        assert_eq!(msix.released(), []);
        msix.write(Part::Table(0x40c), Width::Dword, 0).unwrap();
        assert_eq!(msix.released(), [(0xfee0_2000, 0x41)]);
        assert_eq!(msix.read(Part::Pending(8), Width::Qword), Ok(0));
        assert_eq!(msix.signal(64), Some((0xfee0_2000, 0x41)));
    }

    #[test]
    fn the_function_mask_masks_every_vector() {
        let mut msix = enabled(true);
        msix.write(Part::Table(0xc), Width::Dword, 0).unwrap();
        assert_eq!(msix.signal(0), None);
        assert_eq!(msix.released(), []);
    }

    #[test]
    fn narrow_and_unaligned_accesses_are_refused() {
        let mut msix = enabled(false);
        for (offset, width) in [(0, Width::Byte), (2, Width::Dword), (4, Width::Qword)] {
            assert!(msix.read(Part::Table(offset), width).is_err());
            assert!(msix.write(Part::Table(offset), width, 0).is_err());
        }
        assert!(msix.write(Part::Pending(0), Width::Dword, 1).is_err());
    }
}
