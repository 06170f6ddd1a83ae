//! The postbox: how the built-in init hands results to Trapline, and gets standard input from it,
//! without a slow serial line.
//!
//! Sixteen ports, dword accesses only:
//!
//! | offset | read | write |
//! |---|---|---|
//! | +0 | [`SIGNATURE`] | |
//! | +4 | the next word of the input chunk | a milestone: [`MILESTONE_INIT`] |
//! | +8 | status of the last parcel: `STATUS_*` | page frame number of a descriptor: posts a parcel |
//! | +12 | [`VERSION`] | [`INPUT_NEXT`] or [`INPUT_AGAIN`] |
//!
//! A descriptor is one page of guest memory, little-endian, and the parcel's bytes lie in the pages
//! it lists, in order, every one but the last full:
//!
//! | offset | size | |
//! |---|---|---|
//! | +0 | 4 | [`DESCRIPTOR_MAGIC`] |
//! | +4 | 4 | number of data pages, 1 to [`MAX_PAGES`] |
//! | +8 | 4 | number of data bytes; they end in the last page |
//! | +12 | 4 | zero |
//! | +16 | 8 | [`checksum`] of the data bytes |
//! | +24 | 4 each | page frame numbers of the data pages |
//!
//! The write to +8 returns when the parcel has been taken or refused; then +8 says which. The pages
//! of a user program may be moved by the kernel while their frame numbers are looked up: the
//! checksum finds that, and [`STATUS_AGAIN`] asks for the same parcel with fresh numbers.
//!
//! Input comes in chunks, through the port alone: a page of a user program cannot be written to by
//! its frame number, which may be another's by then. [`INPUT_NEXT`] lets go of the chunk and makes
//! one of what waits, perhaps of nothing; then +4 gives, word by word, the number of data bytes, low
//! and high half of their [`checksum`], and the bytes, the last word padded with zeros. At the end of
//! the input the first word is [`INPUT_END`]. A string instruction that faults loses what it has read:
//! the checksum finds that, and [`INPUT_AGAIN`] begins the same chunk anew.
//!
//! Trapline's device and the guest's init both include this file.

/// First port.
pub const PORT: u16 = 0xe80;
/// Number of ports.
pub const PORTS: u16 = 16;

/// Offset of the signature.
pub const REG_SIGNATURE: u16 = 0;
/// Offset of the milestone register.
pub const REG_MILESTONE: u16 = 4;
/// Offset of the words of the input chunk.
pub const REG_INPUT: u16 = 4;
/// Offset of the parcel register: a frame number when written, a status when read.
pub const REG_PARCEL: u16 = 8;
/// Offset of the version.
pub const REG_VERSION: u16 = 12;
/// Offset of what asks for input.
pub const REG_INPUT_CONTROL: u16 = 12;

/// What +0 reads as: "TRAP".
pub const SIGNATURE: u32 = u32::from_le_bytes(*b"TRAP");
/// The version of all this.
pub const VERSION: u32 = 2;

/// Init has printed its first line.
pub const MILESTONE_INIT: u32 = 1;

/// The host has the parcel, or nothing was posted yet.
pub const STATUS_OK: u32 = 0;
/// The bytes do not have the checksum: look the frame numbers up again.
pub const STATUS_AGAIN: u32 = 1;
/// The descriptor breaks the rules above.
pub const STATUS_MALFORMED: u32 = 2;
/// The descriptor, or a page it lists, is not RAM.
pub const STATUS_NOT_RAM: u32 = 3;
/// The host could not keep it (its disk is full, for example). So it will be with every later one.
pub const STATUS_REFUSED: u32 = 4;

/// Makes a chunk of the input that waits.
pub const INPUT_NEXT: u32 = 1;
/// Begins the chunk anew.
pub const INPUT_AGAIN: u32 = 2;
/// The first word at the end of the input.
pub const INPUT_END: u32 = 1 << 31;
/// Data bytes a chunk has at most.
pub const INPUT_BYTES: usize = 16 << 10;

/// Bytes in a page.
pub const PAGE: usize = 4096;
/// The descriptor's first dword: "PBOX".
pub const DESCRIPTOR_MAGIC: u32 = u32::from_le_bytes(*b"PBOX");
/// Offset of the first frame number in the descriptor.
pub const DESCRIPTOR_FRAMES: usize = 24;
/// Data pages a descriptor has room for.
pub const MAX_PAGES: usize = (PAGE - DESCRIPTOR_FRAMES) / 4;

/// FNV-1a, 64 bits.
#[must_use]
pub const fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        sum = (sum ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        rest = tail;
    }
    sum
}
