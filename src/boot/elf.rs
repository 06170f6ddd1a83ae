//! The headers of an ELF kernel: ELF-64 and Xen's PVH note.

use std::fs::File;

use object::LittleEndian as LE;
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::pod::{from_bytes, slice_from_bytes};
use object::read::elf::NoteIterator;

use super::fault::ImageFault;
use super::image::read_up_to;
use super::place::Span;

/// `XEN_ELFNOTE_PHYS32_ENTRY` of xen/include/public/elfnote.h: the 32-bit entry.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Notes larger than this are not read.
const NOTES_LEN: u64 = 1 << 20;

/// A PT_LOAD segment: where it is in the file and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    /// First byte in the file.
    pub(super) offset: u64,
    /// Bytes in the file; the rest of `memory` is zero.
    pub(super) file_len: u64,
    /// Guest physical addresses.
    pub(super) memory: Span,
}

/// An ELF kernel, as far as its headers tell.
#[derive(Debug, Clone)]
pub(super) struct Elf {
    /// The 64-bit entry.
    pub(super) entry: u64,
    /// The 32-bit entry of the PVH note.
    pub(super) pvh: Option<u32>,
    /// Whether it carries Linux's own notes, so that its 64-bit entry is Linux's.
    pub(super) linux: bool,
    /// The PT_LOAD segments that are not empty.
    pub(super) segments: Vec<Segment>,
}

impl Elf {
    /// Whether these first bytes of a file are an ELF file's, cut within its magic or not.
    pub(super) fn recognises(head: &[u8]) -> bool {
        head.starts_with(&elf::ELFMAG) || elf::ELFMAG.starts_with(head)
    }

    /// Reads the headers of a file that starts with `head` and is `size` bytes long.
    pub(super) fn parse(file: &File, head: &[u8], size: u64) -> Result<Self, ImageFault> {
        let truncated = |part, need| ImageFault::Truncated {
            part,
            need,
            have: size,
        };
        let broken = |what| ImageFault::BrokenElf { what };
        identify(head, size)?;
        let (header, _) = from_bytes::<FileHeader64<LE>>(head)
            .map_err(|()| truncated("the ELF header", size_of::<FileHeader64<LE>>() as u64))?;
        kind(header)?;

        if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err(broken("its program headers are not 56 bytes each"));
        }
        let count = usize::from(header.e_phnum.get(LE));
        let len = count.saturating_mul(size_of::<ProgramHeader64<LE>>());
        let table = Span::new(header.e_phoff.get(LE), len as u64)
            .ok_or_else(|| broken("its program headers lie past the end of any file"))?;
        if table.end > size {
            return Err(truncated("the program header table", table.end));
        }
        let bytes = read_up_to(file, table.start, len)?;
        let (headers, _) = slice_from_bytes::<ProgramHeader64<LE>>(&bytes, count)
            .map_err(|()| truncated("the program header table", table.end))?;

        let mut kernel = Self {
            entry: header.e_entry.get(LE),
            pvh: None,
            linux: false,
            segments: Vec::new(),
        };
        for header in headers {
            kernel.take(file, header, size)?;
        }
        if kernel.segments.is_empty() {
            return Err(broken("it has no loadable segment"));
        }
        Ok(kernel)
    }

    fn take(
        &mut self,
        file: &File,
        header: &ProgramHeader64<LE>,
        size: u64,
    ) -> Result<(), ImageFault> {
        let truncated = |part, need| ImageFault::Truncated {
            part,
            need,
            have: size,
        };
        let broken = |what| ImageFault::BrokenElf { what };
        let in_file = Span::new(header.p_offset.get(LE), header.p_filesz.get(LE))
            .ok_or_else(|| broken("a segment lies past the end of any file"))?;
        match header.p_type.get(LE) {
            elf::PT_INTERP => {
                return Err(ImageFault::NotAKernel {
                    what: "program for an operating system",
                });
            }
            elf::PT_LOAD => {
                let memory = Span::new(header.p_paddr.get(LE), header.p_memsz.get(LE))
                    .ok_or_else(|| broken("a segment wraps around the end of memory"))?;
                if in_file.len() > memory.len() {
                    return Err(broken("a segment is longer in the file than in memory"));
                }
                if in_file.end > size {
                    return Err(truncated("a loadable segment", in_file.end));
                }
                if !memory.is_empty() {
                    let (offset, file_len) = (in_file.start, in_file.len());
                    self.segments.push(Segment {
                        offset,
                        file_len,
                        memory,
                    });
                }
            }
            elf::PT_NOTE => {
                if in_file.end > size {
                    return Err(truncated("the note segment", in_file.end));
                }
                let len = usize::try_from(in_file.len().min(NOTES_LEN)).unwrap_or_default();
                let bytes = read_up_to(file, in_file.start, len)?;
                self.notes(&bytes, header.p_align.get(LE))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn notes(&mut self, bytes: &[u8], align: u64) -> Result<(), ImageFault> {
        let broken = |_| ImageFault::BrokenElf {
            what: "its notes do not parse",
        };
        // Linux aligns notes to 4 whatever p_align says; object takes 8 for 8 only.
        let align = if align == 8 { 8 } else { 4 };
        let mut notes = NoteIterator::<FileHeader64<LE>>::new(LE, align, bytes).map_err(broken)?;
        while let Some(note) = notes.next().map_err(broken)? {
            match note.name() {
                b"Xen" if note.n_type(LE) == XEN_ELFNOTE_PHYS32_ENTRY => {
                    // The descriptor is an _ASM_PTR in Linux: 8 bytes, of which the low 4 count.
                    let low = note
                        .desc()
                        .first_chunk::<4>()
                        .ok_or(ImageFault::BrokenElf {
                            what: "its PVH note is shorter than an address",
                        })?;
                    self.pvh = Some(u32::from_le_bytes(*low));
                }
                b"Linux" => self.linux = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Class and byte order, which decide how the rest of the header reads.
fn identify(head: &[u8], size: u64) -> Result<(), ImageFault> {
    let truncated = ImageFault::Truncated {
        part: "the ELF header",
        need: 64,
        have: size,
    };
    let Some([class, data]) = head.get(4..6) else {
        return Err(truncated);
    };
    let Some(machine) = head.get(18..20).and_then(|m| m.first_chunk::<2>()) else {
        return Err(truncated);
    };
    if *data != elf::ELFDATA2LSB {
        return Err(ImageFault::Machine {
            machine: "a big-endian machine",
        });
    }
    let machine = u16::from_le_bytes(*machine);
    match *class {
        elf::ELFCLASS64 if machine == elf::EM_X86_64 => Ok(()),
        elf::ELFCLASS64 => Err(ImageFault::Machine {
            machine: machine_name(machine),
        }),
        elf::ELFCLASS32 => Err(ImageFault::Elf32 {
            machine: machine_name(machine),
        }),
        _ => Err(ImageFault::BrokenElf {
            what: "it is neither of 32 nor of 64 bits",
        }),
    }
}

fn kind(header: &FileHeader64<LE>) -> Result<(), ImageFault> {
    let what = match header.e_type.get(LE) {
        // ET_DYN: a position-independent kernel; programs of that type have an interpreter.
        elf::ET_EXEC | elf::ET_DYN => return Ok(()),
        elf::ET_REL => "object file or kernel module",
        elf::ET_CORE => "core dump",
        _ => "file of a type unknown here",
    };
    Err(ImageFault::NotAKernel { what })
}

const fn machine_name(machine: u16) -> &'static str {
    match machine {
        elf::EM_386 => "i386",
        elf::EM_X86_64 => "x86-64 (x32)",
        elf::EM_AARCH64 => "arm64 (aarch64)",
        elf::EM_ARM => "arm",
        elf::EM_RISCV => "RISC-V",
        elf::EM_PPC64 => "powerpc64",
        elf::EM_S390 => "s390",
        elf::EM_LOONGARCH => "LoongArch",
        elf::EM_MIPS => "MIPS",
        _ => "a machine other than x86",
    }
}
