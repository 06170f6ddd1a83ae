//! The 256 bytes of a function's configuration space, behind their masks.

use crate::bus::Width;

use super::field::Field;

/// Bytes of a conventional function's configuration space.
pub(super) const SIZE: usize = 256;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    value: u8,
    reset: u8,
    writable: u8,
    clear: u8,
}

/// Configuration registers, built from a table. Bytes no [`Field`] describes read as zero.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    fields: Vec<Field>,
    cells: Vec<Cell>,
}

impl ConfigSpace {
    /// The registers of `fields`, as after reset.
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Self {
        let mut cells = vec![Cell::default(); SIZE];
        for (offset, reset, writable, clear) in fields.iter().flat_map(Field::bytes) {
            if let Some(cell) = cells.get_mut(usize::from(offset)) {
                *cell = Cell {
                    value: reset,
                    reset,
                    writable,
                    clear,
                };
            }
        }
        Self { fields, cells }
    }

    /// The table it was built from.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// One byte.
    #[must_use]
    pub fn byte(&self, offset: u8) -> u8 {
        self.cells
            .get(usize::from(offset))
            .map_or(0, |cell| cell.value)
    }

    /// Two bytes.
    #[must_use]
    pub fn word(&self, offset: u8) -> u16 {
        u16::from_le_bytes([self.byte(offset), self.byte(offset.wrapping_add(1))])
    }

    /// Four bytes.
    #[must_use]
    pub fn dword(&self, offset: u8) -> u32 {
        let [low, high] = [self.word(offset), self.word(offset.wrapping_add(2))];
        u32::from(low) | u32::from(high) << 16
    }

    /// A guest's read.
    #[must_use]
    pub fn read(&self, offset: u8, width: Width) -> u64 {
        let mut lanes = [0; 8];
        let cells = self.cells.iter().skip(offset.into());
        for (lane, cell) in lanes.iter_mut().zip(cells).take(width.bytes().into()) {
            *lane = cell.value;
        }
        u64::from_le_bytes(lanes)
    }

    /// A guest's write.
    pub fn write(&mut self, offset: u8, width: Width, value: u64) {
        let lanes = value.to_le_bytes();
        let lanes = lanes.into_iter().take(width.bytes().into());
        for (at, byte) in (usize::from(offset)..).zip(lanes) {
            if let Some(cell) = self.cells.get_mut(at) {
                cell.value = cell.value & !cell.writable | byte & cell.writable;
                cell.value &= !(byte & cell.clear);
            }
        }
    }

    /// Sets bits that a guest's one clears: the device's way to report an event.
    pub fn raise(&mut self, offset: u8, bits: u32) {
        let lanes = bits.to_le_bytes().into_iter();
        for (at, byte) in (usize::from(offset)..).zip(lanes) {
            if let Some(cell) = self.cells.get_mut(at) {
                cell.value |= byte & cell.clear;
            }
        }
    }

    /// Back to the state after reset.
    pub fn reset(&mut self) {
        for cell in &mut self.cells {
            cell.value = cell.reset;
        }
    }

    /// All bytes, for a saved state.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        self.cells.iter().map(|cell| cell.value).collect()
    }

    /// Whether a guest can have brought about `bytes`.
    #[must_use]
    pub fn can_be(&self, bytes: &[u8]) -> bool {
        let fits =
            |(cell, byte): (&Cell, &u8)| (cell.reset ^ byte) & !(cell.writable | cell.clear) == 0;
        bytes.len() == self.cells.len() && self.cells.iter().zip(bytes).all(fits)
    }

    /// Puts saved bytes back that [`ConfigSpace::can_be`] has accepted.
    pub fn load(&mut self, bytes: &[u8]) {
        for (cell, byte) in self.cells.iter_mut().zip(bytes) {
            cell.value = *byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> ConfigSpace {
        ConfigSpace::new(vec![
            Field::fixed("ID", 0, Width::Dword, 0x1237_8086),
            Field::plain("CMD", 4, Width::Word, 6, 0x0105),
            Field::plain("STS", 6, Width::Word, 0x0280, 0).clearing(0xf900),
        ])
    }

    #[test]
    fn a_one_clears_only_what_a_one_clears() {
        let mut space = space();
        space.raise(6, 0xffff);
        assert_eq!(space.word(6), 0xfb80);
        space.write(6, Width::Word, 0x8000);
        assert_eq!(space.word(6), 0x7b80);
        space.write(4, Width::Dword, 0xffff_ffff);
        assert_eq!(space.dword(4), 0x0280_0107);
    }

    #[test]
    fn an_access_past_the_end_reaches_nothing() {
        let mut space = space();
        space.write(0xfe, Width::Dword, u64::MAX);
        assert_eq!(space.read(0xfe, Width::Dword), 0);
        assert_eq!(space.byte(0), 0x86);
    }

    proptest! {
        #[test]
        fn what_writes_leave_can_be_loaded(
            writes in prop::collection::vec((any::<u8>(), any::<u64>()), 0..40)
        ) {
            let mut one = space();
            for (offset, value) in writes {
                one.write(offset, Width::Dword, value);
            }
            prop_assert!(one.can_be(&one.save()));
            let mut bytes = one.save();
            bytes[2] ^= 1;
            prop_assert!(!one.can_be(&bytes), "the device id cannot change");
        }
    }
}
