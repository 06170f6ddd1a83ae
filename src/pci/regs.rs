//! Registers and bits of the configuration header (PCI 3.0, 6.1 to 6.7).

/// Vendor ID, 16 bits.
pub const VENDOR_ID: u8 = 0x00;
/// Device ID, 16 bits.
pub const DEVICE_ID: u8 = 0x02;
/// Command, 16 bits.
pub const COMMAND: u8 = 0x04;
/// Status, 16 bits.
pub const STATUS: u8 = 0x06;
/// Revision ID, 8 bits.
pub const REVISION: u8 = 0x08;
/// Class code, 24 bits: programming interface, sub-class, base class.
pub const CLASS: u8 = 0x09;
/// Cache line size, 8 bits.
pub const CACHE_LINE_SIZE: u8 = 0x0c;
/// Latency timer, 8 bits.
pub const LATENCY_TIMER: u8 = 0x0d;
/// Header type, 8 bits.
pub const HEADER_TYPE: u8 = 0x0e;
/// The first of six base address registers, 32 bits each.
pub const BAR0: u8 = 0x10;
/// Subsystem vendor ID, 16 bits.
pub const SUBSYSTEM_VENDOR_ID: u8 = 0x2c;
/// Subsystem ID, 16 bits.
pub const SUBSYSTEM_ID: u8 = 0x2e;
/// Pointer to the first capability, 8 bits.
pub const CAPABILITIES: u8 = 0x34;
/// Interrupt line, 8 bits: a note of firmware to the OS.
pub const INTERRUPT_LINE: u8 = 0x3c;
/// Interrupt pin, 8 bits.
pub const INTERRUPT_PIN: u8 = 0x3d;
/// First register that is a function's own.
pub const FIRST_OWN: u8 = 0x40;

/// COMMAND: answers I/O cycles.
pub const COMMAND_IO: u16 = 1 << 0;
/// COMMAND: answers memory cycles.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// COMMAND: may start cycles, MSIs included.
pub const COMMAND_MASTER: u16 = 1 << 2;
/// COMMAND: reports parity errors.
pub const COMMAND_PARITY: u16 = 1 << 6;
/// COMMAND: may assert SERR#.
pub const COMMAND_SERR: u16 = 1 << 8;
/// COMMAND: must not assert INTx.
pub const COMMAND_INTX_DISABLE: u16 = 1 << 10;

/// STATUS: the function wants its INTx asserted, whether it may or not.
pub const STATUS_INTERRUPT: u16 = 1 << 3;
/// STATUS: there is a list of capabilities.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// STATUS: takes fast back-to-back cycles.
pub const STATUS_FAST_BACK: u16 = 1 << 7;
/// STATUS: DEVSEL# timing medium.
pub const STATUS_DEVSEL_MEDIUM: u16 = 1 << 9;
/// STATUS: error bits, cleared by a one: master parity, signalled and received target abort,
/// received master abort, signalled system error, detected parity error.
pub const STATUS_ERRORS: u16 = 0xf900;

/// HEADER_TYPE: the device has more than this function.
pub const MULTIFUNCTION: u8 = 1 << 7;

/// A BAR decodes ports.
pub const BAR_IO: u32 = 1 << 0;
/// A memory BAR has 64 bits; the next BAR is its upper half.
pub const BAR_64: u32 = 1 << 2;
/// A memory BAR can be prefetched.
pub const BAR_PREFETCH: u32 = 1 << 3;

/// Capability: MSI (6.8.1).
pub const CAP_MSI: u8 = 0x05;
/// Capability: vendor-specific.
pub const CAP_VENDOR: u8 = 0x09;
/// Capability: MSI-X (6.8.2).
pub const CAP_MSIX: u8 = 0x11;
