//! Loads an image into guest RAM: first all decisions, then all writes.

use linux_loader::loader::{self, KernelLoader};
use vm_memory::GuestAddress;

use crate::mem::{Gpa, GuestRam, MemError};

use super::e820;
use super::image::{Form, Image};
use super::initrd::Initrd;
use super::linux;
use super::load_error::LoadError;
use super::multiboot;
use super::place::{Places, Span};
use super::plan::{Entry, Plan, check_cmdline};
use super::pvh;

/// Which protocol to start a kernel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// The 64-bit entry where it is Linux's, else PVH where the image has its note.
    #[default]
    Auto,
    /// The Linux 64-bit boot protocol.
    Linux,
    /// PVH, the 32-bit entry.
    Pvh,
    /// Multiboot 1, the 32-bit entry.
    Multiboot,
}

/// A module of a boot loader: a file in memory, and what the kernel is told about it.
#[derive(Debug, Clone)]
pub struct Module {
    /// The file.
    pub file: Initrd,
    /// Its string, by custom the file's name and words for it.
    pub string: String,
}

/// What to load beside the kernel, and where.
#[derive(Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    /// The protocol.
    pub protocol: Protocol,
    /// The command line, without a NUL.
    pub cmdline: &'a str,
    /// The initial RAM disk; to a multiboot kernel, its first module.
    pub initrd: Option<&'a Initrd>,
    /// Modules for a multiboot kernel.
    pub modules: &'a [Module],
    /// The ACPI root pointer.
    pub rsdp: Option<Gpa>,
    /// Ranges the guest must leave alone, beside the hole below 1 MiB.
    pub reserved: &'a [Span],
    /// Where the structures go.
    pub places: Places,
}

/// Where the first vCPU starts, and with what in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// 64-bit mode, paging on: see [`super::write_long_mode_tables`].
    Long64 {
        /// The entry.
        rip: u64,
        /// The address of `boot_params`.
        rsi: u64,
    },
    /// 32-bit protected mode, paging off: see [`super::write_flat_tables`].
    Protected32 {
        /// The entry.
        eip: u32,
        /// The address of `hvm_start_info`.
        ebx: u32,
    },
    /// 32-bit protected mode, paging off, segments flat; no GDT the guest could rely on.
    Multiboot {
        /// The entry.
        eip: u32,
        /// What says that a multiboot loader was here.
        eax: u32,
        /// The address of the multiboot information.
        ebx: u32,
    },
    /// Real mode.
    Real16 {
        /// Code segment.
        cs: u16,
        /// The entry in it.
        ip: u16,
        /// Stack, in the segment at 0.
        sp: u16,
    },
}

/// Puts the kernel, its command line, its initrd and what the protocol hands over into `ram`, which
/// is taken to be zero.
///
/// # Errors
/// [`LoadError`]; `ram` may be partly written then.
pub fn load(ram: &GuestRam, image: &Image, request: &LoadRequest<'_>) -> Result<Start, LoadError> {
    let kind = image.kind().name();
    let not_that = |protocol| Err(LoadError::NotThatProtocol { kind, protocol });
    if !request.modules.is_empty() && !matches!(image.form(), Form::Multiboot(_)) {
        return Err(LoadError::Modules { kind });
    }
    let plan = match (image.form(), request.protocol) {
        (Form::Multiboot(_) | Form::Flat(_), Protocol::Linux) => return not_that("linux"),
        (Form::Multiboot(_) | Form::Flat(_), Protocol::Pvh) => return not_that("pvh"),
        (Form::BzImage(_) | Form::Elf(_) | Form::Flat(_), Protocol::Multiboot) => {
            return not_that("multiboot");
        }
        (Form::Multiboot(kernel), _) => {
            let (file, path) = (image.file(), image.path());
            return multiboot::load(ram, &multiboot::Given { kernel, file, path }, request);
        }
        (Form::Flat(flat), _) => {
            return flat.load(ram, (image.file(), image.path()), request);
        }
        (Form::BzImage(_), Protocol::Pvh) => return Err(LoadError::PvhOfBzImage),
        (Form::BzImage(kernel), _) => Plan::of_bzimage(kernel, image.size())?,
        (Form::Elf(kernel), protocol) => Plan::of_elf(kernel, protocol)?,
    };
    let map = e820::map(ram.regions(), request.reserved).ok_or(LoadError::MapTooLong)?;
    plan.check(ram, &request.places)?;
    check_cmdline(request.cmdline, plan.header.cmdline_size)?;
    let initrd = plan.place_initrd(ram, request)?;

    read_kernel(ram, image, plan.load_at)?;
    let writing = |what| move |source| LoadError::Write { what, source };
    if let (Some(span), Some(initrd)) = (initrd, request.initrd) {
        initrd.read_to(ram, Gpa(span.start))?;
    }
    let cmdline = request.places.cmdline;
    let end = Gpa(cmdline.0.saturating_add(request.cmdline.len() as u64));
    ram.write(cmdline, request.cmdline.as_bytes())
        .map_err(writing("command line"))?;
    ram.write(end, &[0]).map_err(writing("command line"))?;

    let rsdp = request.rsdp;
    match plan.entry {
        Entry::Linux(rip) => {
            let at = request.places.boot_params;
            let header = plan.header;
            linux::write(
                ram,
                at,
                &linux::Handover {
                    header,
                    cmdline,
                    initrd,
                    rsdp,
                    map: &map,
                },
            )?;
            Ok(Start::Long64 { rip, rsi: at.0 })
        }
        Entry::Pvh(eip) => {
            let at = request.places.start_info;
            pvh::write(
                ram,
                at,
                &pvh::Handover {
                    cmdline,
                    initrd,
                    rsdp,
                    map: &map,
                },
            )?;
            let ebx = u32::try_from(at.0).map_err(|_| LoadError::Write {
                what: "hvm_start_info",
                source: MemError::NotRam { at, len: 4096 },
            })?;
            Ok(Start::Protected32 { eip, ebx })
        }
    }
}

/// Straight from the file into guest memory, without a copy in between.
fn read_kernel(ram: &GuestRam, image: &Image, at: Option<u64>) -> Result<(), LoadError> {
    let mut file = image.file();
    let loaded = match at {
        Some(at) => loader::BzImage::load(ram.memory(), Some(GuestAddress(at)), &mut file, None),
        None => loader::Elf::load(ram.memory(), None, &mut file, None),
    };
    loaded.map(|_| ()).map_err(|source| LoadError::Read {
        path: image.path().display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use linux_loader::loader::bootparam::boot_params;
    use linux_loader::loader::elf::start_info::{
        hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
    };
    use vm_memory::{ByteValued, Bytes};

    use super::*;
    use crate::boot::synthetic::{
        INIT_SIZE, PREF_ADDRESS, Scratch, bzimage, put, pvh_note, ram, request, vmlinux,
    };

    const MIB: u64 = 1 << 20;

    fn read<T: ByteValued>(ram: &GuestRam, at: u64) -> T {
        ram.memory().read_obj(GuestAddress(at)).unwrap()
    }

    fn bytes(ram: &GuestRam, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    fn disk(bytes: &[u8]) -> Initrd {
        Initrd::from_bytes(bytes).unwrap()
    }

    fn load_bytes(image: &[u8], mib: u64, request: &LoadRequest<'_>) -> Result<Start, LoadError> {
        load(&ram(mib), &Scratch::new(image).open(), request)
    }

    #[test]
    fn a_bzimage_starts_at_its_64_bit_entry_with_boot_params_in_rsi() {
        let ram = ram(64);
        let image = Scratch::new(&bzimage(b"the payload"));
        let initrd = vec![0x5a; 5000];
        let start = load(
            &ram,
            &image.open(),
            &LoadRequest {
                initrd: Some(&disk(&initrd)),
                ..request()
            },
        )
        .unwrap();
        let places = Places::default();
        let rsi = places.boot_params.0;
        assert_eq!(
            start,
            Start::Long64 {
                rip: PREF_ADDRESS + 0x200,
                rsi
            }
        );
        assert_eq!(bytes(&ram, PREF_ADDRESS + 0x400, 11), b"the payload");
        assert_eq!(bytes(&ram, places.cmdline.0, 14), b"console=ttyS0\0");

        let params: boot_params = read(&ram, rsi);
        let header = params.hdr;
        assert_eq!({ header.header }, u32::from_le_bytes(*b"HdrS"));
        assert_eq!({ header.type_of_loader }, 0xff);
        assert_eq!(u64::from(header.cmd_line_ptr), places.cmdline.0);
        assert_eq!({ params.acpi_rsdp_addr }, 0xe_0000);
        assert_eq!({ header.ramdisk_size }, 5000);
        let at = u64::from(header.ramdisk_image);
        assert_eq!(at, 64 * MIB - 8192);
        assert_eq!(bytes(&ram, at, 5000), initrd);
        let table = params.e820_table;
        let map: Vec<_> = table[..usize::from(params.e820_entries)]
            .iter()
            .map(|e| ({ e.addr }, { e.size }, { e.r#type }))
            .collect();
        assert_eq!(
            map,
            [
                (0, 0xa_0000, 1),
                (0xa_0000, 0x6_0000, 2),
                (MIB, 63 * MIB, 1)
            ]
        );
    }

    #[test]
    fn a_vmlinux_starts_at_its_elf_entry_unless_pvh_is_asked() {
        let image = Scratch::new(&vmlinux(
            &[
                pvh_note(0x10_0020),
                crate::boot::synthetic::note(b"Linux\0", 0x100, b""),
            ]
            .concat(),
        ))
        .open();
        let ram = ram(8);
        let rsi = Places::default().boot_params.0;
        let start = load(&ram, &image, &request()).unwrap();
        assert_eq!(
            start,
            Start::Long64 {
                rip: 0x10_0010,
                rsi
            }
        );
        let params: boot_params = read(&ram, rsi);
        assert_eq!({ params.hdr.version }, 0x020f);
        assert_eq!(bytes(&ram, 0x10_0000, 1), [0xf4]);

        let start = load(
            &ram,
            &image,
            &LoadRequest {
                protocol: Protocol::Pvh,
                ..request()
            },
        )
        .unwrap();
        let ebx = u32::try_from(Places::default().start_info.0).unwrap();
        assert_eq!(
            start,
            Start::Protected32 {
                eip: 0x10_0020,
                ebx
            }
        );
    }

    #[test]
    fn an_elf_with_a_pvh_note_that_is_not_linux_starts_by_pvh() {
        let image = vmlinux(&pvh_note(0x10_0020));
        let start = load_bytes(&image, 8, &request()).unwrap();
        assert!(
            matches!(start, Start::Protected32 { eip: 0x10_0020, .. }),
            "{start:?}"
        );
        let asked = LoadRequest {
            protocol: Protocol::Linux,
            ..request()
        };
        assert!(matches!(
            load_bytes(&image, 8, &asked).unwrap(),
            Start::Long64 { .. }
        ));
    }

    #[test]
    fn pvh_hands_over_map_module_command_line_and_rsdp() {
        let ram = ram(8);
        let image = Scratch::new(&vmlinux(&pvh_note(0x10_0020)));
        let asked = LoadRequest {
            initrd: Some(&disk(b"cpio")),
            ..request()
        };
        load(&ram, &image.open(), &asked).unwrap();
        let info: hvm_start_info = read(&ram, Places::default().start_info.0);
        assert_eq!(
            (info.magic, info.version, info.nr_modules),
            (0x336e_c578, 1, 1)
        );
        assert_eq!(bytes(&ram, info.cmdline_paddr, 14), b"console=ttyS0\0");
        assert_eq!(info.rsdp_paddr, 0xe_0000);
        let module: hvm_modlist_entry = read(&ram, info.modlist_paddr);
        assert_eq!((module.paddr, module.size), (8 * MIB - 4096, 4));
        assert_eq!(bytes(&ram, module.paddr, 4), b"cpio");
        let map: Vec<_> = (0..u64::from(info.memmap_entries))
            .map(|i| read::<hvm_memmap_table_entry>(&ram, info.memmap_paddr + i * 24))
            .map(|e| (e.addr, e.size, e.type_))
            .collect();
        assert_eq!(
            map,
            [(0, 0xa_0000, 1), (0xa_0000, 0x6_0000, 2), (MIB, 7 * MIB, 1)]
        );
    }

    #[test]
    fn an_initrd_never_touches_the_memory_a_kernel_unpacks_into() {
        let kernel_end = PREF_ADDRESS + u64::from(INIT_SIZE);
        let room = 64 * MIB - kernel_end;
        let initrd = vec![1; usize::try_from(room).unwrap() + 1];
        let ram = ram(64);
        let image = Scratch::new(&bzimage(b"")).open();
        let fits = LoadRequest {
            initrd: Some(&disk(&initrd[1..])),
            ..request()
        };
        load(&ram, &image, &fits).unwrap();
        let params: boot_params = read(&ram, Places::default().boot_params.0);
        assert_eq!(u64::from(params.hdr.ramdisk_image), kernel_end);
        // One byte more and the only gap left is below the kernel, which is too small.
        let error = load(
            &ram,
            &image,
            &LoadRequest {
                initrd: Some(&disk(&initrd)),
                ..request()
            },
        )
        .unwrap_err();
        assert!(error.to_string().contains("--mem"), "{error}");
    }

    #[test]
    fn an_initrd_stays_out_of_reserved_ranges_and_in_the_kernels_reach() {
        let mut image = bzimage(b"");
        put(&mut image, 0x22c, &0x2ff_ffff_u32.to_le_bytes());
        let held = [Span {
            start: 47 * MIB,
            end: 48 * MIB,
        }];
        let asked = LoadRequest {
            initrd: Some(&disk(&[7; 4096])),
            reserved: &held,
            ..request()
        };
        let ram = ram(64);
        load(&ram, &Scratch::new(&image).open(), &asked).unwrap();
        let params: boot_params = read(&ram, Places::default().boot_params.0);
        assert_eq!(u64::from(params.hdr.ramdisk_image), 47 * MIB - 4096);
    }

    #[test]
    fn a_file_that_shrank_after_it_was_opened_is_an_error() {
        let scratch = Scratch::new(&vmlinux(b""));
        let image = scratch.open();
        std::fs::write(&scratch.path, b"").unwrap();
        let error = load(&ram(8), &image, &request()).unwrap_err();
        assert!(error.to_string().contains("replaced"), "{error}");
    }

    proptest::proptest! {
        /// Whatever the header says, loading ends with a start or an error.
        #[test]
        fn no_setup_header_makes_the_loader_panic(
            fields in proptest::collection::vec((0x206_usize..0x26c, proptest::num::u8::ANY), 1..24)
        ) {
            let mut image = bzimage(b"payload");
            for (at, value) in fields {
                image[at] = value;
            }
            let scratch = Scratch::new(&image);
            if let Ok(image) = Image::open(&scratch.path) {
                let _ = load(&ram(24), &image, &request());
            }
        }

        #[test]
        fn no_elf_header_makes_the_loader_panic(
            fields in proptest::collection::vec((0_usize..230, proptest::num::u8::ANY), 1..24)
        ) {
            let mut image = vmlinux(&pvh_note(0x10_0020));
            for (at, value) in fields {
                image[at] = value;
            }
            let scratch = Scratch::new(&image);
            if let Ok(image) = Image::open(&scratch.path) {
                let _ = load(&ram(24), &image, &request());
                let _ = image.version();
            }
        }
    }
}
