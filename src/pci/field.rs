//! One register of configuration space as data.

use crate::bus::Width;

/// A register: what it is after reset, which bits the guest can write, which bits a one clears. All
/// other bits are read-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name from the data sheet.
    pub name: &'static str,
    /// Its first byte.
    pub offset: u8,
    /// Byte, word or dword.
    pub width: Width,
    /// Value after reset.
    pub reset: u32,
    /// Bits the guest writes.
    pub writable: u32,
    /// Bits a written one clears.
    pub clear: u32,
}

impl Field {
    /// A register that cannot be written.
    #[must_use]
    pub const fn fixed(name: &'static str, offset: u8, width: Width, value: u32) -> Self {
        Self {
            name,
            offset,
            width,
            reset: value,
            writable: 0,
            clear: 0,
        }
    }

    /// A register that is `reset` after reset and can be written where `writable` has ones.
    #[must_use]
    pub const fn plain(
        name: &'static str,
        offset: u8,
        width: Width,
        reset: u32,
        writable: u32,
    ) -> Self {
        Self {
            writable,
            ..Self::fixed(name, offset, width, reset)
        }
    }

    /// The same, with bits that a one clears.
    #[must_use]
    pub const fn clearing(self, clear: u32) -> Self {
        Self { clear, ..self }
    }

    /// The same, `by` bytes further on: capabilities are written down relative to their start.
    #[must_use]
    pub const fn moved(self, by: u8) -> Self {
        Self {
            offset: self.offset.wrapping_add(by),
            ..self
        }
    }

    /// Its bytes as (offset, reset, writable, clear).
    pub(super) fn bytes(&self) -> impl Iterator<Item = (u8, u8, u8, u8)> {
        let lanes = (self.reset.to_le_bytes().into_iter())
            .zip(self.writable.to_le_bytes())
            .zip(self.clear.to_le_bytes());
        let offsets = (0..self.width.bytes()).map({
            let first = self.offset;
            move |lane| first.wrapping_add(lane)
        });
        offsets
            .zip(lanes)
            .map(|(offset, ((reset, writable), clear))| (offset, reset, writable, clear))
    }
}
