//! Registers of one channel's bus master (82371SB data sheet, 2.7; chipset.md 3.2).

use serde::{Deserialize, Serialize};

use crate::bus::{StateError, state};

/// Registers by offset: BMICX, BMISX, BMIDTPX.
const COMMAND: u64 = 0;
const STATUS: u64 = 2;
const TABLE: u64 = 4;

/// Command: go; towards memory.
const START: u8 = 1 << 0;
const TO_MEMORY: u8 = 1 << 3;
/// Status: a transfer is on; memory could not be reached; the drive has interrupted; what software says
/// of the drives.
const ACTIVE: u8 = 1 << 0;
const ERROR: u8 = 1 << 1;
const INTERRUPT: u8 = 1 << 2;
const CAPABLE: u8 = 1 << 6 | 1 << 5;

/// The registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BusMaster {
    command: u8,
    status: u8,
    table: [u8; 4],
}

impl BusMaster {
    /// A byte; every register can be read byte by byte.
    pub(super) fn read(&self, offset: u64) -> u8 {
        match offset {
            COMMAND => self.command,
            STATUS => self.status,
            TABLE.. => {
                let index = usize::try_from(offset.wrapping_sub(TABLE)).unwrap_or(usize::MAX);
                self.table.get(index).copied().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// A byte is written.
    pub(super) fn write(&mut self, offset: u64, value: u8) {
        match offset {
            COMMAND => {
                let starts = value & START > self.command & START;
                self.command = value & (START | TO_MEMORY);
                if starts {
                    self.status |= ACTIVE;
                } else if value & START == 0 {
                    self.status &= !ACTIVE;
                }
            }
            STATUS => {
                self.status &= !(value & (ERROR | INTERRUPT));
                self.status = self.status & !CAPABLE | value & CAPABLE;
            }
            TABLE.. => {
                let index = usize::try_from(offset.wrapping_sub(TABLE)).unwrap_or(usize::MAX);
                if let Some(byte) = self.table.get_mut(index) {
                    // The table is aligned to 4 bytes.
                    *byte = if index == 0 { value & !3 } else { value };
                }
            }
            _ => {}
        }
    }

    /// Whether a write of `value` to `offset` ends a transfer.
    pub(super) const fn is_stop(offset: u64, value: u8) -> bool {
        offset == COMMAND && value & START == 0
    }

    pub(super) const fn is_active(&self) -> bool {
        self.status & ACTIVE != 0
    }

    pub(super) const fn goes_to_memory(&self) -> bool {
        self.command & TO_MEMORY != 0
    }

    pub(super) const fn table(&self) -> u32 {
        u32::from_le_bytes(self.table)
    }

    /// The table has come to its end.
    pub(super) const fn exhausted(&mut self) {
        self.status &= !ACTIVE;
    }

    /// Memory could not be reached.
    pub(super) const fn failed(&mut self) {
        self.status = self.status & !ACTIVE | ERROR;
    }

    /// INTRQ has risen.
    pub(super) const fn interrupted(&mut self) {
        self.status |= INTERRUPT;
    }

    /// Whether a saved state can be one.
    pub(super) fn can_be(saved: &Self) -> Result<(), StateError> {
        let possible = saved.command & !(START | TO_MEMORY) == 0
            && saved.status & !(ACTIVE | ERROR | INTERRUPT | CAPABLE) == 0
            && saved.table[0] & 3 == 0;
        state::check("piix3-ide", possible, "a bus master with reserved bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_clear_error_and_interrupt_and_nothing_else() {
        let mut master = BusMaster::default();
        master.write(COMMAND, 0xff);
        assert_eq!(master.read(COMMAND), START | TO_MEMORY);
        master.interrupted();
        master.write(STATUS, 0x20);
        assert_eq!(master.read(STATUS), ACTIVE | INTERRUPT | 0x20);
        master.failed();
        master.write(STATUS, 0xff);
        assert_eq!(master.read(STATUS), CAPABLE, "simplex stays 0");
    }

    #[test]
    fn only_an_edge_of_start_starts() {
        let mut master = BusMaster::default();
        master.write(COMMAND, START);
        master.exhausted();
        master.write(COMMAND, START);
        assert!(!master.is_active());
        master.write(COMMAND, 0);
        master.write(COMMAND, START | TO_MEMORY);
        assert!(master.is_active() && master.goes_to_memory());
    }

    #[test]
    fn the_table_is_aligned() {
        let mut master = BusMaster::default();
        for (offset, byte) in (4..).zip(0x1234_5677_u32.to_le_bytes()) {
            master.write(offset, byte);
        }
        assert_eq!(master.table(), 0x1234_5674);
    }
}
