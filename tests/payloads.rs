//! What is in the bundled payloads. Software KVM emulates ring 0 instruction by instruction, and a
//! payload saves no vector state: one SSE instruction that a compiler slips in ends a run there.

use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction};
use object::elf::{EM_X86_64, SHF_EXECINSTR};
use object::read::elf::{ElfFile64, FileHeader};
use object::{Object, ObjectSection, SectionFlags};
use trapline::boot::payload::{self, Payload};

/// What every x86-64 processor has beside SSE and x87, which it has too.
const ALLOWED: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::MSR,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::TSC,
    CpuidFeature::X64,
];

/// The instructions in `code` that need more than [`ALLOWED`], or are none.
fn forbidden(code: &[u8], bitness: u32, at: u64) -> Vec<String> {
    let decoder = Decoder::with_ip(bitness, code, at, DecoderOptions::NONE);
    decoder
        .into_iter()
        .filter(|instruction| !allowed(instruction))
        .map(|bad| {
            format!(
                "{:#x}: {:?} {:?}",
                bad.ip(),
                bad.code(),
                bad.cpuid_features()
            )
        })
        .collect()
}

fn allowed(instruction: &Instruction) -> bool {
    !instruction.is_invalid()
        && instruction
            .cpuid_features()
            .iter()
            .all(|feature| ALLOWED.contains(feature))
}

/// Executable sections: name, address, bytes.
fn code_of(payload: &Payload) -> Vec<(String, u64, Vec<u8>)> {
    let elf: ElfFile64<'_> = ElfFile64::parse(payload.elf).unwrap();
    elf.sections()
        .filter(|section| {
            let SectionFlags::Elf { sh_flags } = section.flags() else {
                return false;
            };
            sh_flags & u64::from(SHF_EXECINSTR) != 0
        })
        .map(|s| {
            let name = s.name().unwrap().to_owned();
            (name, s.address(), s.data().unwrap().to_vec())
        })
        .collect()
}

#[test]
fn payloads_hold_general_register_instructions_only() {
    for payload in payload::all() {
        let mut decoded = 0;
        for (name, at, code) in code_of(payload) {
            let bitness = if name == ".text16" { 16 } else { 64 };
            let bad = forbidden(&code, bitness, at);
            assert!(bad.is_empty(), ":{} {name}: {bad:#?}", payload.name);
            decoded += code.len();
        }
        assert!(decoded > 0, ":{} has no code", payload.name);
        assert!(
            decoded <= 4096,
            ":{} has {decoded} bytes of code",
            payload.name
        );
    }
}

#[test]
fn vector_and_floating_point_instructions_would_be_seen() {
    for (code, what) in [
        (&[0x0f, 0x28, 0xc1][..], "movaps xmm0, xmm1"),
        (&[0x66, 0x0f, 0xef, 0xc0], "pxor xmm0, xmm0"),
        (&[0xd9, 0xe8], "fld1"),
        (&[0x0f, 0x77], "emms"),
        (&[0xc5, 0xf8, 0x58, 0xc1], "vaddps xmm0, xmm0, xmm1"),
        (&[0xf3, 0x0f, 0xb8, 0xc0], "popcnt eax, eax"),
        (&[0x06], "push es, which long mode does not have"),
    ] {
        assert_eq!(forbidden(code, 64, 0).len(), 1, "{what}");
    }
    assert!(forbidden(&[0x48, 0x0f, 0x44, 0xc1, 0xf3, 0x90], 64, 0).is_empty());
}

#[test]
fn payloads_are_elf64_for_x86_64_with_their_entry_in_their_code() {
    for payload in payload::all() {
        let elf: ElfFile64<'_> = ElfFile64::parse(payload.elf).unwrap();
        let header = elf.elf_header();
        assert_eq!(header.e_machine(elf.endian()), EM_X86_64);
        let (_, at, code) = code_of(payload).remove(0);
        assert!((at..at + code.len() as u64).contains(&elf.entry()));
    }
}
