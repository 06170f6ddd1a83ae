use vm_memory::{Bytes, GuestAddress};

use super::rig::{Load, by_addresses, elf32, header, kut, plain};
use crate::boot::load::{LoadRequest, Module, Protocol, Start, load};
use crate::boot::synthetic::{PT_LOAD, Phdr};
use crate::boot::synthetic::{Scratch, bzimage, elf, put, pvh_note, ram, request, vmlinux};
use crate::boot::{Image, Initrd, Kind};
use crate::mem::{Gpa, GuestRam};

const MIB: u32 = 1 << 20;

fn fault(bytes: &[u8]) -> String {
    Image::open(&Scratch::new(bytes).path)
        .unwrap_err()
        .to_string()
}

fn start(ram: &GuestRam, image: &[u8], request: &LoadRequest<'_>) -> Result<Start, String> {
    let image = Scratch::new(image).open();
    load(ram, &image, request).map_err(|error| error.to_string())
}

fn module(bytes: &[u8], string: &str) -> Module {
    Module {
        file: Initrd::named("env", bytes).unwrap(),
        string: string.into(),
    }
}

/// The information as a kernel reads it.
struct Info<'a>(&'a GuestRam, u64);

impl Info<'_> {
    fn word(&self, at: u32) -> u32 {
        self.0
            .memory()
            .read_obj(GuestAddress(u64::from(at)))
            .unwrap()
    }

    fn field(&self, offset: u32) -> u32 {
        self.word(u32::try_from(self.1).unwrap() + offset)
    }

    fn bytes(&self, at: u32, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read(Gpa(at.into()), &mut bytes).unwrap();
        bytes
    }

    fn text(&self, at: u32) -> String {
        let bytes = self.bytes(at, 256);
        let len = bytes.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    }

    fn modules(&self) -> Vec<(u32, u32, String)> {
        let list = self.field(24);
        (0..self.field(20))
            .map(|n| list + n * 16)
            .map(|at| {
                (
                    self.word(at),
                    self.word(at + 4),
                    self.text(self.word(at + 8)),
                )
            })
            .collect()
    }
}

fn info(ram: &GuestRam, start: Start) -> Info<'_> {
    match start {
        Start::Multiboot {
            eax: 0x2bad_b002,
            ebx,
            ..
        } => Info(ram, ebx.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_header_without_flags_is_loaded_by_elf32_program_headers() {
    let ram = ram(8);
    let image = Scratch::new(&kut()).open();
    assert_eq!(image.kind(), Kind::Multiboot);
    let start = load(&ram, &image, &request()).unwrap();
    assert!(
        matches!(start, Start::Multiboot { eip: 0x40_000c, .. }),
        "{start:?}"
    );
    assert_eq!(info(&ram, start).bytes(0x40_000c, 2), [0xf4, 0xf4]);
}

#[test]
fn the_information_tells_memory_command_line_and_map_whatever_was_asked() {
    let ram = ram(8);
    let asked = LoadRequest {
        cmdline: "x.flat one two",
        ..request()
    };
    let start = start(&ram, &kut(), &asked).unwrap();
    let info = info(&ram, start);
    assert_eq!(info.field(0) & 0x4d, 0x4d);
    assert_eq!((info.field(4), info.field(8)), (640, 7 * 1024));
    assert_eq!(info.text(info.field(16)), "x.flat one two");
    assert_eq!(info.field(20), 0);
    assert_eq!(info.text(info.field(64)), "Trapline");
    let (len, map) = (info.field(44), info.field(48));
    let entries: Vec<_> = (0..len / 24)
        .map(|n| map + n * 24)
        .map(|at| [0, 4, 12, 20].map(|offset| info.word(at + offset)))
        .collect();
    assert_eq!(
        entries,
        [
            [20, 0, 0xa_0000, 1],
            [20, 0xa_0000, 0x6_0000, 2],
            [20, MIB, 7 * MIB, 1]
        ]
    );
    // Clear of page 0, where test guests put the code their further CPUs start with.
    assert!((0x1000..0xa_0000).contains(&info.1), "{:#x}", info.1);
}

#[test]
fn memory_above_4_gib_is_in_the_map_alone() {
    let ram = ram(4096);
    let start = start(&ram, &kut(), &request()).unwrap();
    let info = info(&ram, start);
    assert_eq!(info.field(8), (3 << 20) - 1024);
    let (len, map) = (info.field(44), info.field(48));
    let last = map + len - 24;
    assert_eq!(
        [0, 4, 8, 12, 16, 20].map(|o| info.word(last + o)),
        [20, 0, 1, 1 << 30, 0, 1]
    );
}

#[test]
fn modules_follow_the_initrd_and_carry_their_strings() {
    let ram = ram(8);
    let disk = Initrd::named("/a/environ", b"NR_CPUS=3\n").unwrap();
    let more = [module(&[7; 5000], "disk words"), module(b"", "empty")];
    let asked = LoadRequest {
        initrd: Some(&disk),
        modules: &more,
        ..request()
    };
    let start = start(&ram, &kut(), &asked).unwrap();
    let info = info(&ram, start);
    let modules = info.modules();
    let strings: Vec<_> = modules.iter().map(|m| m.2.as_str()).collect();
    assert_eq!(strings, ["environ", "disk words", "empty"]);
    let lens: Vec<_> = modules.iter().map(|m| m.1 - m.0).collect();
    assert_eq!(lens, [10, 5000, 0]);
    assert_eq!(info.bytes(modules[0].0, 10), b"NR_CPUS=3\n");
    assert_eq!(info.bytes(modules[1].0, 5000), [7; 5000]);
    assert!(modules.iter().all(|m| m.0.is_multiple_of(4096) && m.0 != 0));
}

#[test]
fn a_hundred_modules_lie_apart_and_clear_of_the_kernel() {
    let ram = ram(8);
    let many: Vec<Module> = (0..100_u8).map(|n| module(&[n; 9000], "m")).collect();
    let asked = LoadRequest {
        modules: &many,
        ..request()
    };
    let start = start(&ram, &kut(), &asked).unwrap();
    let info = info(&ram, start);
    let mut spans: Vec<_> = info.modules().iter().map(|m| (m.0, m.1)).collect();
    assert_eq!(spans.len(), 100);
    for (n, (at, _)) in (0_u8..).zip(&spans) {
        assert_eq!(info.bytes(*at, 9000), [n; 9000]);
    }
    spans.extend([(0x40_0000, 0x41_0000), (0xa_0000, 0x10_0000)]);
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

#[test]
fn a_module_larger_than_memory_says_so_and_what_to_do() {
    let big = [module(&vec![1; 8 << 20], "big")];
    let asked = LoadRequest {
        modules: &big,
        ..request()
    };
    let error = start(&ram(8), &kut(), &asked).unwrap_err();
    assert!(
        error.contains("env of 8192 KiB") && error.contains("--mem"),
        "{error}"
    );
}

#[test]
fn addresses_in_the_header_go_before_those_of_the_file() {
    // Loaded from the header on, 16 bytes of zeros after it, entry behind the header.
    let fields = [MIB, MIB, 0, MIB + 64, MIB + 32];
    let flat = by_addresses(fields, &[0x90; 16]);
    let ram = ram(8);
    let started = start(&ram, &flat, &request()).unwrap();
    assert!(matches!(started, Start::Multiboot { eip, .. } if eip == MIB + 32));
    let info = info(&ram, started);
    assert_eq!(info.bytes(MIB, flat.len()), flat);
    // In an ELF64 file, which no program header of a multiboot loader could describe, too.
    let inner = by_addresses([2 * MIB, 2 * MIB, 0, 0, 2 * MIB + 32], &[0xf4; 8]);
    let wide = elf(
        0,
        &[Phdr {
            kind: PT_LOAD,
            paddr: u64::from(MIB),
            memsz: inner.len() as u64,
            bytes: &inner,
        }],
    );
    let started = start(&ram, &wide, &request()).unwrap();
    assert!(matches!(started, Start::Multiboot { eip, .. } if eip == 2 * MIB + 32));
}

#[test]
fn address_fields_that_contradict_the_file_are_refused() {
    let table = [
        ([MIB - 4, MIB, 0, 0, MIB], "header_addr lies below"),
        (
            [MIB + 4, MIB, 0, 0, MIB],
            "before the beginning of the file",
        ),
        ([MIB, MIB, MIB - 1, 0, MIB], "load_end_addr lies below"),
        ([MIB, MIB, MIB, 0, MIB], "nothing loaded"),
        ([MIB, MIB, MIB + 4096, 0, MIB], "truncated"),
        ([MIB, MIB, 0, MIB + 8, MIB], "bss_end_addr lies below"),
    ];
    for (fields, says) in table {
        let message = fault(&by_addresses(fields, b""));
        assert!(message.contains(says), "{fields:x?}: {message}");
    }
    let message = fault(&header(0, &[]));
    assert!(message.contains("the file is not ELF"), "{message}");
}

#[test]
fn segments_that_overlap_or_lie_where_nothing_may_are_refused() {
    let text = [header(0, &[]), vec![0xf4; 4]].concat();
    let with = |load: Load<'_>| {
        let image = elf32(0x40_0000, &[plain(0x40_0000, &text), load]);
        start(&ram(8), &image, &request()).unwrap_err()
    };
    let zeros = |paddr, memsz| Load {
        memsz,
        ..plain(paddr, b"")
    };
    let table = [
        (zeros(0x3f_fff0, 0x20), "over another of its own segments"),
        (zeros(0x9_f000, 0x2000), "0xa0000"),
        (zeros(0xc000_0000, 0x1000), "device hole"),
        (zeros(0xffff_f000, 0x2000), "device hole"),
        (zeros(0x7f_f000, 0x2000), "--mem 9"),
    ];
    for (load, says) in table {
        let (at, error) = (load.paddr, with(load));
        assert!(error.contains(says), "{at:#x}: {error}");
    }
}

#[test]
fn an_entry_outside_the_segments_is_refused_and_a_virtual_one_translated() {
    let text = [header(0, &[]), vec![0xf4; 4]].concat();
    for entry in [0, 0x3f_ffff, 0x40_0010, u32::MAX] {
        let image = elf32(entry, &[plain(0x40_0000, &text)]);
        let error = start(&ram(8), &image, &request()).unwrap_err();
        assert!(error.contains("in none of its loaded segments"), "{error}");
    }
    let high = Load {
        vaddr: 0xc040_0000,
        ..plain(0x40_0000, &text)
    };
    let started = start(&ram(8), &elf32(0xc040_000c, &[high]), &request()).unwrap();
    assert!(matches!(started, Start::Multiboot { eip: 0x40_000c, .. }));
}

#[test]
fn an_elf64_with_a_multiboot_header_says_how_to_convert_it() {
    let text = [header(0, &[]), vec![0xf4; 4]].concat();
    let load = Phdr {
        kind: PT_LOAD,
        paddr: 0x40_0000,
        memsz: 16,
        bytes: &text,
    };
    let message = fault(&elf(0x40_0000, &[load]));
    assert!(message.contains("objcopy -O elf32-i386"), "{message}");
}

#[test]
fn a_linux_or_pvh_kernel_with_a_multiboot_header_is_that_first() {
    let note = pvh_note(0x10_0020);
    let mut image = vmlinux(&note);
    image.resize(image.len().next_multiple_of(4), 0);
    image.extend(header(0, &[]));
    assert_eq!(Scratch::new(&image).open().kind(), Kind::Elf);
}

#[test]
fn requirements_that_no_loader_knows_are_refused_and_wishes_are_not() {
    let with = |flags| {
        let text = [header(flags, &[0; 9]), vec![0xf4; 4]].concat();
        elf32(0x40_0000, &[plain(0x40_0000, &text)])
    };
    assert!(fault(&with(0x8)).contains("flags 0x8"));
    for flags in [0b11, 0b111, 1 << 17] {
        assert_eq!(Scratch::new(&with(flags)).open().kind(), Kind::Multiboot);
    }
}

#[test]
fn a_header_counts_only_aligned_and_in_the_first_8_kib() {
    let at = |offset: usize| {
        let mut text = vec![0x90; offset];
        text.extend(header(0, &[]));
        elf32(0x40_0000, &[plain(0x40_0000, &text)])
    };
    let lead = 52 + 32;
    assert_eq!(
        Scratch::new(&at(8192 - lead - 12)).open().kind(),
        Kind::Multiboot
    );
    for offset in [8192 - lead - 8, 2] {
        let message = fault(&at(offset));
        assert!(
            message.contains("32-bit i386 ELF without a multiboot header"),
            "{message}"
        );
    }
}

#[test]
fn every_prefix_of_a_kernel_is_a_clean_error() {
    let image = kut();
    for len in 0..image.len() - 1 {
        let message = fault(&image[..len]);
        // Cut before its header ends, it is an ELF32 file like others.
        let clean = ["truncated", "is empty", "32-bit i386 ELF"];
        assert!(
            clean.iter().any(|says| message.contains(says)),
            "{len}: {message}"
        );
    }
}

#[test]
fn protocols_and_modules_that_do_not_fit_the_kernel_say_so() {
    let asked = |protocol| LoadRequest {
        protocol,
        ..request()
    };
    for protocol in [Protocol::Linux, Protocol::Pvh] {
        let error = start(&ram(8), &kut(), &asked(protocol)).unwrap_err();
        assert!(error.contains("multiboot kernel is not started"), "{error}");
    }
    start(&ram(8), &kut(), &asked(Protocol::Multiboot)).unwrap();
    for image in [bzimage(b""), vmlinux(b"")] {
        let error = start(&ram(64), &image, &asked(Protocol::Multiboot)).unwrap_err();
        assert!(error.contains("--protocol multiboot"), "{error}");
        let one = [module(b"x", "x")];
        let given = LoadRequest {
            modules: &one,
            ..request()
        };
        let error = start(&ram(64), &image, &given).unwrap_err();
        assert!(error.contains("--boot-module"), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_multiboot_kernel_makes_the_loader_panic(
        fields in proptest::collection::vec((0_usize..112, proptest::num::u8::ANY), 1..24)
    ) {
        let mut image = kut();
        for (at, value) in fields {
            put(&mut image, at, &[value]);
        }
        let scratch = Scratch::new(&image);
        if let Ok(image) = Image::open(&scratch.path) {
            let _ = load(&ram(8), &image, &request());
        }
    }

    #[test]
    fn no_address_fields_make_the_loader_panic(
        fields in proptest::array::uniform5(proptest::num::u32::ANY), low in proptest::bool::ANY,
    ) {
        let fields = fields.map(|field| if low { field & 0xff_ffff } else { field });
        let scratch = Scratch::new(&by_addresses(fields, &[0x90; 64]));
        if let Ok(image) = Image::open(&scratch.path) {
            let _ = load(&ram(8), &image, &request());
        }
    }
}
