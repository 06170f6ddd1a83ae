//! Decides where a kernel and its initrd go. Nothing is written here.

use linux_loader::loader::bootparam::setup_header;

use crate::mem::{GuestRam, HOLE_START};

use super::bzimage::BzImage;
use super::e820::LEGACY_HOLE;
use super::elf::Elf;
use super::linux::{self, CMDLINE_SIZE, ENTRY_64, INITRD_ADDR_MAX};
use super::load::{LoadRequest, Protocol};
use super::load_error::LoadError;
use super::place::{CMDLINE_ROOM, Places, Span, highest_gap};

#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Linux(u64),
    Pvh(u32),
}

/// What goes where.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) entry: Entry,
    pub(super) header: setup_header,
    /// For a bzImage: where its protected-mode code goes. ELF segments bring their own addresses.
    pub(super) load_at: Option<u64>,
    /// All memory the kernel takes for itself before it knows the memory map.
    kernel: Vec<Span>,
}

impl Plan {
    /// A bzImage goes to its preferred address. Lower would not save memory: the decompressor moves
    /// a relocatable kernel up to there, and one that is not relocatable runs nowhere else.
    pub(super) fn of_bzimage(kernel: &BzImage, size: u64) -> Result<Self, LoadError> {
        let at = kernel.header.pref_address;
        let code_len = size.saturating_sub(kernel.setup_len);
        let len = u64::from(kernel.header.init_size).max(code_len);
        let misplaced = |why| LoadError::KernelMisplaced {
            start: at,
            end: at.saturating_add(len),
            why,
        };
        let align = u64::from(kernel.header.kernel_alignment);
        if kernel.header.relocatable_kernel != 0 && align != 0 && !at.is_multiple_of(align) {
            return Err(misplaced(
                "which is not a multiple of its own kernel_alignment",
            ));
        }
        let span = Span::new(at, len).ok_or_else(|| misplaced("which wraps"))?;
        let entry = at.saturating_add(ENTRY_64);
        if code_len <= ENTRY_64 {
            return Err(LoadError::EntryOutside { entry });
        }
        Ok(Self {
            entry: Entry::Linux(entry),
            header: kernel.header,
            load_at: Some(at),
            kernel: vec![span],
        })
    }

    pub(super) fn of_elf(kernel: &Elf, protocol: Protocol) -> Result<Self, LoadError> {
        let entry = match (protocol, kernel.pvh) {
            (Protocol::Pvh, None) => return Err(LoadError::NoPvhNote),
            (Protocol::Pvh, Some(eip)) => Entry::Pvh(eip),
            // Not Linux, so what its e_entry expects is unknown, and PVH's contract is known.
            (Protocol::Auto, Some(eip)) if !kernel.linux => Entry::Pvh(eip),
            (Protocol::Auto | Protocol::Linux | Protocol::Multiboot, _) => {
                Entry::Linux(kernel.entry)
            }
        };
        let address = match entry {
            Entry::Linux(rip) => rip,
            Entry::Pvh(eip) => u64::from(eip),
        };
        if !kernel
            .segments
            .iter()
            .any(|segment| segment.memory.contains(address))
        {
            return Err(LoadError::EntryOutside { entry: address });
        }
        Ok(Self {
            entry,
            header: linux::header_of_elf(),
            load_at: None,
            kernel: kernel
                .segments
                .iter()
                .map(|segment| segment.memory)
                .collect(),
        })
    }

    /// Whether every part of the kernel lies in RAM below 4 GiB that nothing else uses. The page
    /// tables of the 64-bit entry map no more, and the 32-bit entry reaches no more.
    pub(super) fn check(&self, ram: &GuestRam, places: &Places) -> Result<(), LoadError> {
        let ram_end = low_ram_end(ram);
        for span in &self.kernel {
            let Span { start, end } = *span;
            let misplaced = |why| LoadError::KernelMisplaced { start, end, why };
            if end > HOLE_START {
                return Err(misplaced(
                    "beyond the 3 GiB of RAM that lie below the device hole",
                ));
            }
            if end > ram_end {
                return Err(LoadError::KernelTooLarge { end, ram_end });
            }
            if span.overlaps(LEGACY_HOLE) {
                return Err(misplaced("over the hole at 0xa0000..0x100000 of every PC"));
            }
            if places.spans().any(|(_, place)| place.overlaps(*span)) {
                return Err(misplaced("over the structures handed to it below 640 KiB"));
            }
        }
        Ok(())
    }

    /// As high as the kernel allows: low memory is where it unpacks itself.
    pub(super) fn place_initrd(
        &self,
        ram: &GuestRam,
        request: &LoadRequest<'_>,
    ) -> Result<Option<Span>, LoadError> {
        place_initrd_of(&self.kernel, self.header.initrd_addr_max, ram, request)
    }
}

/// The same for a kernel that takes `kernel` for itself and reaches `initrd_addr_max`.
pub(super) fn place_initrd_of(
    kernel: &[Span],
    initrd_addr_max: u32,
    ram: &GuestRam,
    request: &LoadRequest<'_>,
) -> Result<Option<Span>, LoadError> {
    let Some(initrd) = request.initrd.filter(|initrd| !initrd.is_empty()) else {
        return Ok(None);
    };
    let len = initrd.len();
    let reach = match initrd_addr_max {
        0 => INITRD_ADDR_MAX,
        max => max,
    };
    let limit = low_ram_end(ram).min(u64::from(reach).saturating_add(1));
    let below_1_mib = Span {
        start: 0,
        end: LEGACY_HOLE.end,
    };
    let reserved = request.reserved.iter().copied();
    let taken: Vec<Span> = kernel
        .iter()
        .copied()
        .chain(reserved)
        .chain([below_1_mib])
        .collect();
    let start = highest_gap(limit, len, &taken).ok_or(LoadError::InitrdTooLarge { len, limit })?;
    Ok(Span::new(start, len))
}

/// First address after the RAM that starts at 0.
pub(super) fn low_ram_end(ram: &GuestRam) -> u64 {
    ram.regions()
        .iter()
        .find(|r| r.base == 0)
        .map_or(0, |r| r.len)
}

/// Whether the kernel takes a command line this long and would read all of it.
pub(super) fn check_cmdline(cmdline: &str, cmdline_size: u32) -> Result<(), LoadError> {
    let size = match cmdline_size {
        0 => CMDLINE_SIZE,
        size => size,
    };
    let limit = u64::from(size).min(CMDLINE_ROOM.saturating_sub(1));
    check_cmdline_to(cmdline, usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Whether a command line has no end in its middle and at most `limit` bytes.
pub(super) fn check_cmdline_to(cmdline: &str, limit: usize) -> Result<(), LoadError> {
    if let Some(at) = cmdline.bytes().position(|byte| byte == 0) {
        return Err(LoadError::CmdlineNul { at });
    }
    if cmdline.len() > limit {
        return Err(LoadError::CmdlineTooLong {
            len: cmdline.len(),
            limit,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::load::{Start, load};
    use crate::boot::synthetic::{
        PT_LOAD, Phdr, Scratch, bzimage, elf, put, pvh_note, ram, request, vmlinux,
    };

    const MIB: u64 = 1 << 20;

    fn load_bytes(image: &[u8], mib: u64, request: &LoadRequest<'_>) -> Result<Start, LoadError> {
        load(&ram(mib), &Scratch::new(image).open(), request)
    }

    #[test]
    fn pvh_of_a_kernel_without_the_note_names_config_pvh() {
        let asked = LoadRequest {
            protocol: Protocol::Pvh,
            ..request()
        };
        for image in [vmlinux(b""), bzimage(b"")] {
            let error = load_bytes(&image, 64, &asked).unwrap_err().to_string();
            assert!(error.contains("CONFIG_PVH=y"), "{error}");
        }
    }

    #[test]
    fn a_command_line_too_long_says_the_limit_and_the_longest_one_passes() {
        let long = "x".repeat(2048);
        let error = load_bytes(
            &bzimage(b""),
            64,
            &LoadRequest {
                cmdline: &long,
                ..request()
            },
        )
        .unwrap_err();
        assert!(error.to_string().contains("2047"), "{error}");
        let longest = LoadRequest {
            cmdline: &long[1..],
            ..request()
        };
        load_bytes(&bzimage(b""), 64, &longest).unwrap();
        load_bytes(&vmlinux(b""), 64, &longest).unwrap();
        let nul = LoadRequest {
            cmdline: "a\0b",
            ..request()
        };
        let error = load_bytes(&bzimage(b""), 64, &nul).unwrap_err();
        assert!(error.to_string().contains("offset 1"), "{error}");
    }

    #[test]
    fn a_header_that_claims_a_huge_command_line_is_held_to_the_room_there_is() {
        let mut image = bzimage(b"");
        put(&mut image, 0x238, &u32::MAX.to_le_bytes());
        let long = "x".repeat(0x1_0000);
        let asked = LoadRequest {
            cmdline: &long,
            ..request()
        };
        let error = load_bytes(&image, 64, &asked).unwrap_err();
        assert!(error.to_string().contains("65535"), "{error}");
    }

    #[test]
    fn a_kernel_larger_than_memory_says_how_much_it_needs() {
        let error = load_bytes(&bzimage(b""), 16, &request()).unwrap_err();
        assert!(error.to_string().contains("--mem 18"), "{error}");
        let text = Phdr {
            kind: PT_LOAD,
            paddr: MIB,
            memsz: 8 * MIB,
            bytes: &[0xf4],
        };
        let error = load_bytes(&elf(MIB, &[text]), 8, &request()).unwrap_err();
        assert!(error.to_string().contains("--mem 9"), "{error}");
    }

    #[test]
    fn segments_over_tables_holes_or_4_gib_are_refused() {
        let places = Places::default();
        let spots = [
            (places.boot_params.0, "below 640 KiB"),
            (places.page_tables.0 + 0x5fff, "below 640 KiB"),
            (0x9_ffff, "0xa0000"),
            (0xf_ffff, "0xa0000"),
            (HOLE_START - 1, "device hole"),
            (1 << 32, "device hole"),
            (u64::MAX - 8, "device hole"),
        ];
        for (paddr, why) in spots {
            let image = elf(
                paddr,
                &[Phdr {
                    kind: PT_LOAD,
                    paddr,
                    memsz: 8,
                    bytes: b"\xf4",
                }],
            );
            let error = load_bytes(&image, 8, &request()).unwrap_err().to_string();
            assert!(error.contains(why), "{paddr:#x}: {error}");
        }
    }

    #[test]
    fn an_entry_outside_the_segments_is_refused() {
        let text = || Phdr {
            kind: PT_LOAD,
            paddr: MIB,
            memsz: 16,
            bytes: b"\xf4",
        };
        for entry in [0, MIB - 1, MIB + 16, u64::MAX] {
            let error = load_bytes(&elf(entry, &[text()]), 8, &request()).unwrap_err();
            assert!(matches!(error, LoadError::EntryOutside { .. }), "{error}");
        }
        let image = vmlinux(&pvh_note(0xffff_fff0));
        assert!(matches!(
            load_bytes(&image, 8, &request()),
            Err(LoadError::EntryOutside { entry: 0xffff_fff0 })
        ));
    }
}
