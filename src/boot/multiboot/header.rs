//! The multiboot header (specification 0.6.96, section 3.1).

use crate::boot::elf::Segment;
use crate::boot::fault::ImageFault;
use crate::boot::place::Span;

/// `MULTIBOOT_HEADER_MAGIC`.
pub(super) const MAGIC: u32 = 0x1bad_b002;
/// "The Multiboot header must be contained completely within the first 8192 bytes."
pub(super) const SEARCH: usize = 8192;

/// Modules on page boundaries, memory fields, and a wish for a video mode. The first two are given to
/// everybody; the third is a wish, and a board without a display leaves it open.
const UNDERSTOOD: u32 = 0b111;
/// "Bits 0-15 indicate requirements": a loader that does not understand one must refuse.
const REQUIREMENTS: u32 = 0xffff;
/// The address fields are valid.
pub(super) const HAS_ADDRESSES: u32 = 1 << 16;

/// What the header of a kernel asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Where it is in the file.
    pub(super) offset: u64,
    /// Where to load the file, if the header says so.
    pub(super) addresses: Option<Addresses>,
}

/// The address fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Where the header itself is to lie.
    pub(super) header: u32,
    /// Where the first byte loaded is to lie.
    pub(super) load: u32,
    /// First address after what is loaded; 0: to the end of the file.
    pub(super) load_end: u32,
    /// First address after the zeros that follow; 0: there are none.
    pub(super) bss_end: u32,
    /// The entry.
    pub(super) entry: u32,
}

fn field(head: &[u8], at: usize) -> Option<u32> {
    let bytes = head.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

impl Header {
    /// The first header in the first bytes of a file, if there is one: longword aligned, with magic,
    /// flags and checksum adding up to zero.
    pub(super) fn find(head: &[u8]) -> Result<Option<Self>, ImageFault> {
        let head = head.get(..SEARCH).unwrap_or(head);
        let sums = |at: &usize| {
            let parts = [0, 4, 8].map(|offset| field(head, at.saturating_add(offset)));
            matches!(parts, [Some(MAGIC), Some(flags), Some(checksum)]
                if MAGIC.wrapping_add(flags).wrapping_add(checksum) == 0)
        };
        let Some(at) = (0..head.len()).step_by(4).find(sums) else {
            return Ok(None);
        };
        let flags = field(head, at.saturating_add(4)).unwrap_or_default();
        let unknown = flags & REQUIREMENTS & !UNDERSTOOD;
        if unknown != 0 {
            return Err(ImageFault::MultibootWants { flags: unknown });
        }
        let addresses = match flags & HAS_ADDRESSES {
            0 => None,
            _ => Some(
                Addresses::read(head, at).ok_or(ImageFault::BrokenMultiboot {
                    what: "its address fields lie past the first 8 KiB of the file",
                })?,
            ),
        };
        Ok(Some(Self {
            offset: at as u64,
            addresses,
        }))
    }
}

impl Addresses {
    fn read(head: &[u8], at: usize) -> Option<Self> {
        let field = |offset| field(head, at.checked_add(offset)?);
        Some(Self {
            header: field(12)?,
            load: field(16)?,
            load_end: field(20)?,
            bss_end: field(24)?,
            entry: field(28)?,
        })
    }

    /// What to load of a file of `size` bytes whose header is at `offset`.
    pub(super) fn segment(&self, offset: u64, size: u64) -> Result<Segment, ImageFault> {
        let broken = |what| ImageFault::BrokenMultiboot { what };
        let before = self
            .header
            .checked_sub(self.load)
            .ok_or_else(|| broken("its header_addr lies below its load_addr"))?;
        let start = offset
            .checked_sub(before.into())
            .ok_or_else(|| broken("its load_addr lies before the beginning of the file"))?;
        let load = u64::from(self.load);
        let len = match self.load_end {
            0 => size.saturating_sub(start),
            end => u64::from(end)
                .checked_sub(load)
                .ok_or_else(|| broken("its load_end_addr lies below its load_addr"))?,
        };
        let need = start.saturating_add(len);
        if need > size {
            return Err(ImageFault::Truncated {
                part: "what the multiboot header has loaded",
                need,
                have: size,
            });
        }
        let loaded = load.saturating_add(len);
        let end = match self.bss_end {
            0 => loaded,
            end if u64::from(end) < loaded => {
                return Err(broken("its bss_end_addr lies below its load_end_addr"));
            }
            end => end.into(),
        };
        if end <= load {
            return Err(broken("it has nothing loaded"));
        }
        Ok(Segment {
            offset: start,
            file_len: len,
            memory: Span { start: load, end },
        })
    }
}
