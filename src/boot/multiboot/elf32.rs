//! The program headers of an ELF32 file.

use std::fs::File;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader32, ProgramHeader32};
use object::pod::{from_bytes, slice_from_bytes};

use crate::boot::elf::Segment;
use crate::boot::fault::ImageFault;
use crate::boot::image::read_up_to;
use crate::boot::place::Span;

/// Entry and segments of an ELF32 file for the i386.
#[derive(Debug, Clone)]
pub(super) struct Elf32 {
    /// The entry, as a physical address.
    pub(super) entry: u32,
    /// The PT_LOAD segments that are not empty.
    pub(super) segments: Vec<Segment>,
}

impl Elf32 {
    /// Whether these first bytes are those of a little-endian ELF32 file for the i386.
    pub(super) fn recognises(head: &[u8]) -> bool {
        let ident = [elf::ELFCLASS32, elf::ELFDATA2LSB];
        head.starts_with(&elf::ELFMAG)
            && head.get(4..6) == Some(&ident)
            && head.get(18..20) == Some(&elf::EM_386.to_le_bytes())
    }

    /// Reads the headers of a file that starts with `head` and is `size` bytes long.
    pub(super) fn parse(file: &File, head: &[u8], size: u64) -> Result<Self, ImageFault> {
        let truncated = |part, need| ImageFault::Truncated {
            part,
            need,
            have: size,
        };
        let broken = |what| ImageFault::BrokenElf { what };
        let (header, _) = from_bytes::<FileHeader32<LE>>(head)
            .map_err(|()| truncated("the ELF header", size_of::<FileHeader32<LE>>() as u64))?;
        if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader32<LE>>() {
            return Err(broken("its program headers are not 32 bytes each"));
        }
        let count = usize::from(header.e_phnum.get(LE));
        let len = count.saturating_mul(size_of::<ProgramHeader32<LE>>());
        let start = u64::from(header.e_phoff.get(LE));
        let end = start.saturating_add(len as u64);
        if end > size {
            return Err(truncated("the program header table", end));
        }
        let bytes = read_up_to(file, start, len)?;
        let (headers, _) = slice_from_bytes::<ProgramHeader32<LE>>(&bytes, count)
            .map_err(|()| truncated("the program header table", end))?;
        let mut segments = Vec::new();
        for header in headers {
            match header.p_type.get(LE) {
                elf::PT_INTERP => {
                    return Err(ImageFault::NotAKernel {
                        what: "program for an operating system",
                    });
                }
                elf::PT_LOAD => segments.extend(segment(header, size)?),
                _ => {}
            }
        }
        if segments.is_empty() {
            return Err(broken("it has no loadable segment"));
        }
        Ok(Self {
            entry: physical(header.e_entry.get(LE), headers),
            segments,
        })
    }
}

/// A loadable segment; none when it takes no memory.
fn segment(header: &ProgramHeader32<LE>, size: u64) -> Result<Option<Segment>, ImageFault> {
    let memory = Span::new(header.p_paddr.get(LE).into(), header.p_memsz.get(LE).into())
        .filter(|span| !span.is_empty());
    let Some(memory) = memory else {
        return Ok(None);
    };
    let (offset, file_len) = (
        u64::from(header.p_offset.get(LE)),
        u64::from(header.p_filesz.get(LE)),
    );
    if file_len > memory.len() {
        return Err(ImageFault::BrokenElf {
            what: "a segment is longer in the file than in memory",
        });
    }
    let need = offset.saturating_add(file_len);
    if need > size {
        return Err(ImageFault::Truncated {
            part: "a loadable segment",
            need,
            have: size,
        });
    }
    Ok(Some(Segment {
        offset,
        file_len,
        memory,
    }))
}

/// `e_entry` is virtual where a segment says it is: GRUB and QEMU take it so.
fn physical(entry: u32, headers: &[ProgramHeader32<LE>]) -> u32 {
    let holds = |header: &&ProgramHeader32<LE>| {
        let offset = entry.checked_sub(header.p_vaddr.get(LE));
        header.p_type.get(LE) == elf::PT_LOAD
            && offset.is_some_and(|offset| offset < header.p_memsz.get(LE))
    };
    match headers.iter().find(holds) {
        Some(header) => entry
            .wrapping_sub(header.p_vaddr.get(LE))
            .wrapping_add(header.p_paddr.get(LE)),
        None => entry,
    }
}
