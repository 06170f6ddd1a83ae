//! An MSR that Trapline keeps by itself.

use serde::{Deserialize, Serialize};

/// How an emulated MSR behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its value after reset.
    pub value: u64,
    /// Bits a write changes; the others keep their value.
    pub mask: u64,
    /// Bits that a written one clears, and a written zero leaves.
    pub clear_by_one: u64,
    /// Whether a write gets #GP.
    pub read_only: bool,
    /// It counts up by itself, this often a second.
    pub counter_hz: Option<u64>,
    /// One value for all vCPUs.
    pub shared: bool,
    /// Whether the value survives a warm reset, as the machine-check banks do (SDM 3B, 16.3.2).
    pub sticky: bool,
    /// Its bits.
    pub width: u8,
}

/// The state of one emulated MSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The value, as of `since`.
    pub value: u64,
    /// When it was written, in nanoseconds of guest time.
    pub since: u64,
}

const NS: u128 = 1_000_000_000;

impl Model {
    /// A plain register with this value.
    #[must_use]
    pub const fn constant(value: u64) -> Self {
        Self {
            value,
            mask: u64::MAX,
            clear_by_one: 0,
            read_only: false,
            counter_hz: None,
            shared: false,
            sticky: false,
            width: 64,
        }
    }

    /// The bits a value may have.
    #[must_use]
    pub const fn bits(&self) -> u64 {
        if self.width >= 64 {
            u64::MAX
        } else {
            !(u64::MAX << self.width)
        }
    }

    /// The state after reset, at `now`.
    #[must_use]
    pub const fn fresh(&self, now: u64) -> Cell {
        Cell {
            value: self.value,
            since: now,
        }
    }

    /// Whether its value never needs to be kept.
    #[must_use]
    pub const fn is_constant(&self) -> bool {
        self.counter_hz.is_none() && (self.read_only || (self.mask | self.clear_by_one) == 0)
    }

    /// What a read returns.
    #[must_use]
    pub fn read(&self, cell: Cell, now: u64) -> u64 {
        let Some(hz) = self.counter_hz else {
            return cell.value;
        };
        let ns = u128::from(now.saturating_sub(cell.since));
        let ticks = ns.saturating_mul(hz.into()) / NS;
        // The counter wraps as the register does; what is above 64 bits has wrapped already.
        let low = u64::try_from(ticks & u128::from(u64::MAX)).unwrap_or(0);
        cell.value.wrapping_add(low) & self.bits()
    }

    /// The state after a write; none when it gets #GP.
    #[must_use]
    pub fn write(&self, cell: Cell, value: u64, now: u64) -> Option<Cell> {
        if self.read_only || value & !self.bits() != 0 {
            return None;
        }
        let old = self.read(cell, now);
        let plain = self.mask & !self.clear_by_one;
        let kept = old & !plain & !(value & self.clear_by_one);
        Some(Cell {
            value: kept | value & plain,
            since: now,
        })
    }

    /// Whether a saved state can be one of this register.
    #[must_use]
    pub fn admits(&self, cell: Cell) -> bool {
        let changeable = self.mask | self.clear_by_one;
        let frozen = if self.counter_hz.is_some() {
            0
        } else if self.read_only {
            u64::MAX
        } else {
            !changeable
        };
        cell.value & !self.bits() == 0 && (cell.value ^ self.value) & frozen == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_write_changes_the_bits_of_the_mask_and_no_others() {
        let model = Model {
            mask: 0xff,
            ..Model::constant(0xab00)
        };
        let cell = model.write(model.fresh(0), 0x1234, 5).unwrap();
        assert_eq!(model.read(cell, 9), 0xab34);
    }

    #[test]
    fn a_written_one_clears_and_a_written_zero_leaves() {
        let model = Model {
            clear_by_one: 0xf,
            mask: 0xff,
            ..Model::constant(0xf)
        };
        let cell = model.write(model.fresh(0), 0xa3, 0).unwrap();
        assert_eq!(model.read(cell, 0), 0xac);
    }

    #[test]
    fn a_read_only_register_and_a_value_too_wide_get_gp() {
        let model = Model {
            read_only: true,
            ..Model::constant(1)
        };
        assert_eq!(model.write(model.fresh(0), 1, 0), None);
        let narrow = Model {
            width: 32,
            ..Model::constant(1)
        };
        assert_eq!(narrow.write(narrow.fresh(0), 1 << 32, 0), None);
        assert!(
            narrow
                .write(narrow.fresh(0), u64::from(u32::MAX), 0)
                .is_some()
        );
    }

    #[test]
    fn a_counter_moves_with_guest_time_from_what_was_written() {
        let model = Model {
            counter_hz: Some(1_000_000),
            width: 32,
            ..Model::constant(0)
        };
        let cell = model.write(model.fresh(0), 0xffff_fffe, 1_000_000).unwrap();
        assert_eq!(model.read(cell, 1_000_999), 0xffff_fffe);
        assert_eq!(model.read(cell, 1_002_000), 0, "it wraps at its width");
        let fast = Model {
            counter_hz: Some(u64::MAX),
            ..Model::constant(0)
        };
        let _ = fast.read(fast.fresh(0), u64::MAX);
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_a_state_that_can_be_loaded(
            value: u64, mask: u64, clear: u64, width in 1u8..=64, hz: Option<u64>,
            writes: Vec<(u64, u64)>,
        ) {
            let bits = Model { width, ..Model::constant(0) }.bits();
            let model = Model {
                value: value & bits, mask: mask & bits, clear_by_one: clear & bits, width,
                counter_hz: hz, ..Model::constant(0)
            };
            let mut cell = model.fresh(0);
            for (value, now) in writes {
                if let Some(next) = model.write(cell, value & bits, now) {
                    cell = next;
                }
                prop_assert!(model.admits(cell));
            }
        }
    }
}
