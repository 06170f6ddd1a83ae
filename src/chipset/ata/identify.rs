//! What IDENTIFY DEVICE and IDENTIFY PACKET DEVICE say (ATA/ATAPI-7, 6.17 and 6.18).

use super::drive::Drive;
use super::task_file::{Geometry, HEADS, SECTORS_PER_TRACK};

/// The most sectors in a block of READ and WRITE MULTIPLE.
pub(super) const MULTIPLE_MAX: u8 = 16;

/// Word 49: LBA, DMA, and IORDY.
const CAPABILITIES: u16 = 1 << 11 | 1 << 9 | 1 << 8;
/// Word 53: words 64 to 70 and 88 are valid; bit 0 is for words 54 to 58.
const VALID: u16 = 1 << 2 | 1 << 1 | 1 << 0;
/// Word 63: multiword DMA modes 0 to 2.
const MULTIWORD: u16 = 0x07;
/// Word 64: PIO modes 3 and 4.
const PIO_MODES: u16 = 0x03;
/// Words 65 to 68: cycle times of PIO 4 and multiword DMA 2, in nanoseconds.
const CYCLE: u16 = 120;
/// Word 80: ATA/ATAPI-4 to 7.
const VERSIONS: u16 = 0xf0;
/// Word 82: look-ahead, write cache, power management.
const LOOK_AHEAD: u16 = 1 << 6;
const WRITE_CACHE: u16 = 1 << 5;
const PACKET: u16 = 1 << 4;
const POWER: u16 = 1 << 3;
const DEVICE_RESET: u16 = 1 << 9;
/// Word 83: FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses; bit 14 makes it valid.
const FLUSH_AND_LONG: u16 = 1 << 13 | 1 << 12 | 1 << 10;
const WORD_VALID: u16 = 1 << 14;
/// Word 93: the cable is good for fast modes; device 0 passed its diagnostics.
const HARDWARE_RESET: u16 = WORD_VALID | 1 << 13 | 1;
/// Word 217: it does not rotate.
const NOT_ROTATING: u16 = 1;
/// Word 0 of a packet drive: CD-ROM, removable, DRQ within 50 us, 12-byte packets.
const CD_ROM: u16 = 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5;
/// Word 0 of a disk: not removable.
const FIXED: u16 = 1 << 6;

/// 256 words while they are being filled.
struct Words([u16; 256]);

impl Words {
    fn set(&mut self, at: usize, values: &[u16]) {
        let slots = self.0.get_mut(at..).unwrap_or_default();
        for (slot, value) in slots.iter_mut().zip(values) {
            *slot = *value;
        }
    }

    /// Text in `len` words, padded with blanks, the first character of a pair in the high byte.
    fn text(&mut self, at: usize, len: usize, text: &str) {
        let mut bytes = text.bytes().chain(std::iter::repeat(b' '));
        let slots = self.0.get_mut(at..).unwrap_or_default();
        for slot in slots.iter_mut().take(len) {
            let pair = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
            *slot = u16::from_be_bytes(pair);
        }
    }

    /// A number in as many words as `N`, the lowest first.
    fn number<const N: usize>(&mut self, at: usize, value: u64) {
        let word = |index: usize| {
            let shift = u32::try_from(index).unwrap_or(0).wrapping_mul(16);
            u16::try_from(value.wrapping_shr(shift) & 0xffff).unwrap_or_default()
        };
        self.set(at, &std::array::from_fn::<_, N, _>(word));
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// What both kinds say.
fn common(drive: &Drive, model: &str) -> Words {
    let state = &drive.state;
    let mut words = Words([0; 256]);
    words.text(
        10,
        10,
        &format!("TL{:05}", u32::from(drive.number).wrapping_add(1)),
    );
    words.text(23, 4, env!("CARGO_PKG_VERSION"));
    words.text(27, 20, model);
    words.set(49, &[CAPABILITIES, WORD_VALID]);
    words.set(63, &[u16::from(state.dma_mode) << 8 | MULTIWORD, PIO_MODES]);
    words.set(65, &[CYCLE; 4]);
    words.set(80, &[VERSIONS]);
    let hardware = if drive.number & 1 == 0 {
        HARDWARE_RESET
    } else {
        // Device 1 says so in its own half: it passed, and its number came by jumper.
        WORD_VALID | 1 << 13 | 1 << 11 | 1 << 9 | 1 << 8
    };
    words.set(93, &[hardware]);
    words
}

/// The 512 bytes of a disk.
pub(super) fn disk(drive: &Drive) -> Vec<u8> {
    let state = &drive.state;
    let mut words = common(drive, "TRAPLINE DISK");
    let whole = Geometry::default();
    let cylinders = whole.cylinders(drive.sectors);
    words.set(0, &[FIXED, cylinders]);
    words.set(3, &[HEADS.into()]);
    words.set(6, &[SECTORS_PER_TRACK.into()]);
    words.set(47, &[0x8000 | u16::from(MULTIPLE_MAX)]);
    let now = state.geometry;
    let current = now.cylinders(drive.sectors);
    words.set(53, &[VALID, current, now.heads.into(), now.sectors.into()]);
    let in_chs = u64::from(current)
        .saturating_mul(now.heads.into())
        .saturating_mul(now.sectors.into());
    words.number::<2>(57, in_chs);
    let multiple = match state.multiple {
        0 => 0,
        count => 1 << 8 | u16::from(count),
    };
    words.set(59, &[multiple]);
    words.number::<2>(60, drive.sectors.min(0x0fff_ffff));
    let on = |on: bool, bit: u16| if on { bit } else { 0 };
    let enabled = on(state.look_ahead, LOOK_AHEAD) | on(state.write_cache, WRITE_CACHE) | POWER;
    words.set(
        82,
        &[
            LOOK_AHEAD | WRITE_CACHE | POWER,
            WORD_VALID | FLUSH_AND_LONG,
            WORD_VALID,
            enabled,
            FLUSH_AND_LONG,
            WORD_VALID,
        ],
    );
    words.number::<4>(100, drive.sectors);
    words.set(217, &[NOT_ROTATING]);
    words.bytes()
}

/// The 512 bytes of a CD-ROM drive.
pub(super) fn cd_rom(drive: &Drive) -> Vec<u8> {
    let mut words = common(drive, "TRAPLINE CD-ROM");
    words.set(0, &[CD_ROM]);
    words.set(53, &[VALID & !1]);
    let features = DEVICE_RESET | PACKET | POWER;
    words.set(
        82,
        &[features, WORD_VALID, WORD_VALID, features, 0, WORD_VALID],
    );
    words.bytes()
}
