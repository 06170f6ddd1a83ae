//! The MSI capability (PCI 3.0, 6.8.1).

use crate::bus::Width;

use super::field::Field;
use super::space::ConfigSpace;

/// Message control, relative to the capability.
const CONTROL: u8 = 2;
const ENABLE: u16 = 1 << 0;
/// Log2 of the vectors the OS grants, bits 6:4; of those the function could use, bits 3:1.
const GRANTED: u32 = 4;
const ADDRESS_64: u16 = 1 << 7;
const PER_VECTOR_MASK: u16 = 1 << 8;
const ADDRESS: u8 = 4;
const ADDRESS_HIGH: u8 = 8;
const DATA: u8 = 12;
const MASK: u8 = 16;
/// Pending bits: not stored; see [`super::interrupts`].
pub(super) const PENDING: u8 = 20;

/// What a function's MSI capability can do. All have 64-bit addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiShape {
    /// Log2 of the vectors it could use; at most 5.
    pub vectors_log2: u8,
    /// Whether each can be masked.
    pub masks: bool,
}

impl MsiShape {
    pub(super) const fn len(&self) -> u8 {
        if self.masks { 24 } else { 16 }
    }

    fn vector_bits(&self) -> u32 {
        let vectors = 1_u32.checked_shl(self.vectors_log2.into()).unwrap_or(0);
        match vectors {
            32.. => u32::MAX,
            n => 1_u32.checked_shl(n).unwrap_or(0).wrapping_sub(1),
        }
    }

    pub(super) fn fields(&self) -> Vec<Field> {
        let control = ADDRESS_64
            | u16::from(self.vectors_log2) << 1
            | if self.masks { PER_VECTOR_MASK } else { 0 };
        let mut fields = vec![
            Field::plain(
                "MSICTL",
                CONTROL,
                Width::Word,
                control.into(),
                u32::from(ENABLE) | 7 << GRANTED,
            ),
            Field::plain("MSIADDR", ADDRESS, Width::Dword, 0, !3),
            Field::plain("MSIADDRH", ADDRESS_HIGH, Width::Dword, 0, u32::MAX),
            Field::plain("MSIDATA", DATA, Width::Word, 0, 0xffff),
        ];
        if self.masks {
            fields.push(Field::plain(
                "MSIMASK",
                MASK,
                Width::Dword,
                0,
                self.vector_bits(),
            ));
            fields.push(Field::fixed("MSIPEND", PENDING, Width::Dword, 0));
        }
        fields
    }
}

/// The capability's registers, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MsiSetup {
    pub(super) enabled: bool,
    granted: u32,
    address: u64,
    data: u16,
    masked: u32,
}

impl MsiSetup {
    pub(super) fn of(config: &ConfigSpace, at: u8, shape: MsiShape) -> Self {
        let register = |offset: u8| at.wrapping_add(offset);
        let control = config.word(register(CONTROL));
        let log2 = (control >> GRANTED & 7).min(shape.vectors_log2.into());
        let high = u64::from(config.dword(register(ADDRESS_HIGH)));
        let masked = match shape.masks {
            true => config.dword(register(MASK)),
            false => 0,
        };
        Self {
            enabled: control & ENABLE != 0,
            granted: 1_u32.checked_shl(log2.into()).unwrap_or(1),
            address: high << 32 | u64::from(config.dword(register(ADDRESS))),
            data: config.word(register(DATA)),
            masked,
        }
    }

    /// The vector that stands for `vector` when fewer are granted than the function would use.
    pub(super) fn granted(&self, vector: u16) -> u32 {
        // A power of two, and at least one.
        u32::from(vector) & self.granted.wrapping_sub(1)
    }

    pub(super) fn is_masked(&self, vector: u32) -> bool {
        self.masked.checked_shr(vector).unwrap_or(0) & 1 != 0
    }

    /// Address and data of a vector, whose number replaces the low bits of the data.
    pub(super) fn message(&self, vector: u32) -> (u64, u32) {
        let low = self.granted.wrapping_sub(1);
        (self.address, u32::from(self.data) & !low | vector & low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(shape: MsiShape, control: u64) -> MsiSetup {
        let mut config = ConfigSpace::new(shape.fields());
        config.write(CONTROL, Width::Word, control);
        config.write(ADDRESS, Width::Dword, 0xfee0_1003);
        config.write(DATA, Width::Word, 0x4067);
        config.write(MASK, Width::Dword, 0b10);
        MsiSetup::of(&config, 0, shape)
    }

    #[test]
    fn the_vector_replaces_the_granted_low_bits_of_the_data() {
        let four = MsiShape {
            vectors_log2: 2,
            masks: false,
        };
        let granted_four = setup(four, 0x21);
        assert_eq!(
            granted_four.message(granted_four.granted(2)),
            (0xfee0_1000, 0x4066)
        );
        let granted_one = setup(four, 0x01);
        assert_eq!(
            granted_one.message(granted_one.granted(2)),
            (0xfee0_1000, 0x4067)
        );
        let granted_too_many = setup(four, 0x51);
        assert_eq!(granted_too_many.granted(7), 3);
    }

    #[test]
    fn only_the_vectors_there_are_can_be_masked() {
        let shape = |vectors_log2| MsiShape {
            vectors_log2,
            masks: true,
        };
        assert_eq!(shape(0).vector_bits(), 1);
        assert_eq!(shape(5).vector_bits(), u32::MAX);
        assert!(setup(shape(1), 1).is_masked(1));
        assert!(!setup(shape(0), 1).is_masked(1));
    }
}
