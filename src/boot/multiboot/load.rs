//! Puts a multiboot kernel, its modules and its information into guest RAM.

use crate::boot::e820::LEGACY_HOLE;
use crate::boot::load::{LoadRequest, Module, Start};
use crate::boot::load_error::LoadError;
use crate::boot::place::{CMDLINE_ROOM, Span, highest_gap};
use crate::boot::plan::{check_cmdline_to, low_ram_end};
use crate::boot::{e820, segments};
use crate::mem::{Gpa, GuestRam, HOLE_START};

use std::fs::File;
use std::path::Path;

use super::Multiboot;
use super::info::{Facts, LOADER_MAGIC, PlacedModule, build};

/// The page at 0: kvm-unit-tests and others start their further CPUs from there.
const START_UP_PAGE: Span = Span {
    start: 0,
    end: 0x1000,
};

/// A kernel and where it was read from.
pub(in crate::boot) struct Given<'a> {
    pub(in crate::boot) kernel: &'a Multiboot,
    pub(in crate::boot) file: &'a File,
    pub(in crate::boot) path: &'a Path,
}

/// First all decisions, then all writes.
pub(in crate::boot) fn load(
    ram: &GuestRam,
    given: &Given<'_>,
    request: &LoadRequest<'_>,
) -> Result<Start, LoadError> {
    let kernel = given.kernel;
    let map = e820::map(ram.regions(), request.reserved).ok_or(LoadError::MapTooLong)?;
    let limit = usize::try_from(CMDLINE_ROOM.saturating_sub(1)).unwrap_or(usize::MAX);
    check_cmdline_to(request.cmdline, limit)?;
    check(ram, kernel)?;

    let mut taken: Vec<Span> = kernel.segments.iter().map(|s| s.memory).collect();
    taken.extend([START_UP_PAGE, LEGACY_HOLE]);
    taken.extend_from_slice(request.reserved);
    let initrd = request.initrd.map(|file| Module {
        file: file.clone(),
        string: file.name(),
    });
    let mut placed = Vec::new();
    for module in initrd.iter().chain(request.modules) {
        let len = module.file.len();
        let too_large = || LoadError::ModuleTooLarge {
            name: module.file.name(),
            len,
            limit: low_ram_end(ram),
        };
        // An empty module still has an address; a page keeps it from another's.
        let span = place(ram, len.max(1), &taken).ok_or_else(too_large)?;
        taken.push(span);
        placed.push((
            module,
            Span {
                start: span.start,
                end: span.start.saturating_add(len),
            },
        ));
    }
    let modules: Vec<PlacedModule<'_>> = placed
        .iter()
        .map(|(module, span)| PlacedModule {
            span: *span,
            string: &module.string,
        })
        .collect();
    let facts = Facts {
        cmdline: request.cmdline,
        modules: &modules,
        map: &map,
        ram_end: low_ram_end(ram),
    };
    let len = build(0, &facts).len() as u64;
    let at = place(ram, len, &taken).ok_or(LoadError::NoRoom {
        what: "the multiboot information",
        len,
    })?;
    // RAM below the hole ends at 3 GiB.
    let ebx = u32::try_from(at.start).unwrap_or(u32::MAX);

    segments::read(ram, given.file, given.path, &kernel.segments)?;
    for (module, span) in &placed {
        module.file.read_to(ram, Gpa(span.start))?;
    }
    ram.write(Gpa(at.start), &build(ebx, &facts))
        .map_err(|source| LoadError::Write {
            what: "multiboot information",
            source,
        })?;
    Ok(Start::Multiboot {
        eip: kernel.entry,
        eax: LOADER_MAGIC,
        ebx,
    })
}

/// As high as it goes below 640 KiB, where a test guest has neither image nor heap; else as high as
/// it goes below 3 GiB.
fn place(ram: &GuestRam, len: u64, taken: &[Span]) -> Option<Span> {
    let low = LEGACY_HOLE.start.min(low_ram_end(ram));
    let start =
        highest_gap(low, len, taken).or_else(|| highest_gap(low_ram_end(ram), len, taken))?;
    Span::new(start, len)
}

/// Whether the kernel's segments lie in RAM below the hole, apart, with the entry in one of them.
fn check(ram: &GuestRam, kernel: &Multiboot) -> Result<(), LoadError> {
    let ram_end = low_ram_end(ram);
    for (index, segment) in kernel.segments.iter().enumerate() {
        let Span { start, end } = segment.memory;
        let misplaced = |why| LoadError::KernelMisplaced { start, end, why };
        if end > HOLE_START {
            return Err(misplaced(
                "beyond the 3 GiB of RAM that lie below the device hole",
            ));
        }
        if end > ram_end {
            return Err(LoadError::KernelTooLarge { end, ram_end });
        }
        if segment.memory.overlaps(LEGACY_HOLE) {
            return Err(misplaced("over the hole at 0xa0000..0x100000 of every PC"));
        }
        let others = kernel.segments.iter().skip(index.saturating_add(1));
        if others
            .clone()
            .any(|other| other.memory.overlaps(segment.memory))
        {
            return Err(misplaced("over another of its own segments"));
        }
    }
    let entry = u64::from(kernel.entry);
    if kernel.segments.iter().any(|s| s.memory.contains(entry)) {
        Ok(())
    } else {
        Err(LoadError::EntryOutside { entry })
    }
}
