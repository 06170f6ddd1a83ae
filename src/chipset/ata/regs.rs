//! Registers of a channel and their bits (ATA/ATAPI-7 volume 1, clause 5; volume 2, clause 10).

/// Command block, by offset.
pub(super) const DATA: u64 = 0;
pub(super) const ERROR: u64 = 1;
pub(super) const FEATURES: u64 = 1;
pub(super) const COUNT: u64 = 2;
pub(super) const LBA_LOW: u64 = 3;
pub(super) const LBA_MID: u64 = 4;
pub(super) const LBA_HIGH: u64 = 5;
pub(super) const DEVICE: u64 = 6;
pub(super) const STATUS: u64 = 7;
pub(super) const COMMAND: u64 = 7;

/// Status.
pub(super) const BSY: u8 = 1 << 7;
pub(super) const DRDY: u8 = 1 << 6;
/// Device fault: a write did not reach the medium.
pub(super) const DF: u8 = 1 << 5;
/// Seek complete; always there, as old drivers expect.
pub(super) const DSC: u8 = 1 << 4;
pub(super) const DRQ: u8 = 1 << 3;
pub(super) const ERR: u8 = 1 << 0;

/// Error.
pub(super) const UNC: u8 = 1 << 6;
pub(super) const IDNF: u8 = 1 << 4;
pub(super) const ABRT: u8 = 1 << 2;
/// After a diagnostic or a reset: no error found.
pub(super) const PASSED: u8 = 0x01;

/// Device.
pub(super) const LBA: u8 = 1 << 6;
pub(super) const DEV: u8 = 1 << 4;

/// Device control.
pub(super) const HOB: u8 = 1 << 7;
pub(super) const SRST: u8 = 1 << 2;
pub(super) const NIEN: u8 = 1 << 1;

/// Interrupt reason of a packet command, in the count register.
pub(super) const COD: u8 = 1 << 0;
pub(super) const IO: u8 = 1 << 1;

/// Bytes in a sector of a disk, and of a CD-ROM.
pub(super) const SECTOR: u64 = 512;
pub(super) const CD_SECTOR: u64 = 2048;
