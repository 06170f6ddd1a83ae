//! Small kernels for tests, built byte by byte.

use std::path::PathBuf;

use crate::mem::{Gpa, GuestRam, HugePages};

use super::image::Image;
use super::load::{LoadRequest, Protocol};
use super::place::Places;

/// A file in a scratch directory that vanishes with it.
pub(super) struct Scratch {
    _dir: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Scratch {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kernel");
        std::fs::write(&path, bytes).unwrap();
        Self { _dir: dir, path }
    }

    pub(super) fn open(&self) -> Image {
        Image::open(&self.path).unwrap()
    }
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Setup length of [`bzimage`]: the boot sector and one sector of setup.
pub(super) const SETUP_LEN: usize = 1024;
/// Where [`bzimage`] wants to be loaded, and how much it needs there.
pub(super) const PREF_ADDRESS: u64 = 0x100_0000;
pub(super) const INIT_SIZE: u32 = 0x20_0000;

/// A bzImage whose protected-mode code is `payload` after 0x400 bytes of 0x90.
pub(super) fn bzimage(payload: &[u8]) -> Vec<u8> {
    const CODE: usize = 0x400;
    let code_len = (CODE + payload.len()).next_multiple_of(16);
    let mut image = vec![0x90; SETUP_LEN + code_len];
    image[..SETUP_LEN].fill(0);
    put(&mut image, 0, b"MZ");
    put(&mut image, 0x1f1, &[1]);
    put(
        &mut image,
        0x1f4,
        &u32::try_from(code_len / 16).unwrap().to_le_bytes(),
    );
    put(&mut image, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &0x020f_u16.to_le_bytes());
    put(&mut image, 0x20e, &0x180_u16.to_le_bytes());
    put(&mut image, 0x211, &[1]);
    put(&mut image, 0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(&mut image, 0x230, &0x20_0000_u32.to_le_bytes());
    put(&mut image, 0x234, &[1]);
    put(&mut image, 0x236, &1_u16.to_le_bytes());
    put(&mut image, 0x238, &2047_u32.to_le_bytes());
    put(
        &mut image,
        0x248,
        &u32::try_from(CODE).unwrap().to_le_bytes(),
    );
    put(
        &mut image,
        0x24c,
        &u32::try_from(payload.len()).unwrap().to_le_bytes(),
    );
    put(&mut image, 0x258, &PREF_ADDRESS.to_le_bytes());
    put(&mut image, 0x260, &INIT_SIZE.to_le_bytes());
    put(&mut image, 0x380, b"6.1.0-test (builder@host) #1 SMP\0");
    put(&mut image, SETUP_LEN + CODE, payload);
    image
}

/// A program header of [`elf`].
pub(super) struct Phdr<'a> {
    pub(super) kind: u32,
    pub(super) paddr: u64,
    pub(super) memsz: u64,
    pub(super) bytes: &'a [u8],
}

pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_NOTE: u32 = 4;

/// An ELF-64 x86-64 executable: header, program headers, then each one's bytes.
pub(super) fn elf(entry: u64, headers: &[Phdr<'_>]) -> Vec<u8> {
    let mut image = vec![0; 64];
    put(&mut image, 0, b"\x7fELF\x02\x01\x01");
    put(&mut image, 16, &2_u16.to_le_bytes());
    put(&mut image, 18, &62_u16.to_le_bytes());
    put(&mut image, 20, &1_u32.to_le_bytes());
    put(&mut image, 24, &entry.to_le_bytes());
    put(&mut image, 32, &64_u64.to_le_bytes());
    put(&mut image, 52, &64_u16.to_le_bytes());
    put(&mut image, 54, &56_u16.to_le_bytes());
    put(
        &mut image,
        56,
        &u16::try_from(headers.len()).unwrap().to_le_bytes(),
    );
    let mut offset = 64 + 56 * headers.len() as u64;
    for header in headers {
        let len = header.bytes.len() as u64;
        image.extend(header.kind.to_le_bytes());
        image.extend(5_u32.to_le_bytes());
        for value in [offset, header.paddr, header.paddr, len, header.memsz, 4] {
            image.extend(value.to_le_bytes());
        }
        offset += len;
    }
    for header in headers {
        image.extend(header.bytes);
    }
    image
}

/// An ELF note.
pub(super) fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in [name.len(), desc.len()] {
        bytes.extend(u32::try_from(value).unwrap().to_le_bytes());
    }
    bytes.extend(kind.to_le_bytes());
    for part in [name, desc] {
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The note with the 32-bit entry.
pub(super) fn pvh_note(entry: u64) -> Vec<u8> {
    note(b"Xen\0", 18, &entry.to_le_bytes())
}

/// A vmlinux with a banner at 1 MiB, entry 0x100010, and these notes.
pub(super) fn vmlinux(notes: &[u8]) -> Vec<u8> {
    let text = *b"\xf4\0Linux version %s\0Linux version 6.1.0-elf (b@h) #2\n\0";
    elf(
        0x10_0010,
        &[
            Phdr {
                kind: PT_LOAD,
                paddr: 0x10_0000,
                memsz: 0x1_0000,
                bytes: &text,
            },
            Phdr {
                kind: PT_NOTE,
                paddr: 0,
                memsz: notes.len() as u64,
                bytes: notes,
            },
        ],
    )
}

/// Guest RAM of this many MiB.
pub(super) fn ram(mib: u64) -> GuestRam {
    GuestRam::new(mib << 20, HugePages::None).unwrap()
}

/// A request with a command line and the RSDP, at the default places.
pub(super) fn request<'a>() -> LoadRequest<'a> {
    LoadRequest {
        protocol: Protocol::Auto,
        cmdline: "console=ttyS0",
        initrd: None,
        modules: &[],
        rsdp: Some(Gpa(0xe_0000)),
        reserved: &[],
        places: Places::default(),
    }
}
