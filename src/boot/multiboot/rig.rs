//! Small multiboot kernels for tests, built byte by byte.

use super::header::{HAS_ADDRESSES, MAGIC};
use crate::boot::synthetic::put;

/// A multiboot header with these flags and address fields.
pub(in crate::boot) fn header(flags: u32, addresses: &[u32]) -> Vec<u8> {
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    [&[MAGIC, flags, checksum], addresses]
        .concat()
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect()
}

/// header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr, as a flat file.
pub(in crate::boot) fn by_addresses(addresses: [u32; 5], tail: &[u8]) -> Vec<u8> {
    [&header(HAS_ADDRESSES, &addresses), tail].concat()
}

/// A program header of [`elf32`].
pub(in crate::boot) struct Load<'a> {
    pub(in crate::boot) vaddr: u32,
    pub(in crate::boot) paddr: u32,
    pub(in crate::boot) memsz: u32,
    pub(in crate::boot) bytes: &'a [u8],
}

/// A segment whose addresses agree and that ends with its bytes.
pub(in crate::boot) fn plain(paddr: u32, bytes: &[u8]) -> Load<'_> {
    Load {
        vaddr: paddr,
        paddr,
        memsz: u32::try_from(bytes.len()).unwrap(),
        bytes,
    }
}

/// An ELF32 file for the i386 with these segments.
pub(in crate::boot) fn elf32(entry: u32, loads: &[Load<'_>]) -> Vec<u8> {
    let mut image = vec![0; 52];
    put(&mut image, 0, b"\x7fELF\x01\x01\x01");
    put(&mut image, 16, &[2, 0, 3, 0, 1]);
    put(&mut image, 24, &entry.to_le_bytes());
    put(&mut image, 28, &52_u32.to_le_bytes());
    put(&mut image, 40, &[52, 0, 32, 0]);
    put(
        &mut image,
        44,
        &u16::try_from(loads.len()).unwrap().to_le_bytes(),
    );
    let mut offset = 52 + 32 * loads.len();
    for load in loads {
        let len = u32::try_from(load.bytes.len()).unwrap();
        let at = u32::try_from(offset).unwrap();
        for value in [1, at, load.vaddr, load.paddr, len, load.memsz, 5, 4] {
            image.extend(value.to_le_bytes());
        }
        // A header in a segment has to be aligned in the file.
        offset += load.bytes.len().next_multiple_of(4);
    }
    for load in loads {
        image.extend(load.bytes);
        image.resize(image.len().next_multiple_of(4), 0);
    }
    image
}

/// What kvm-unit-tests builds: flags 0, linked at 4 MiB.
pub(in crate::boot) fn kut() -> Vec<u8> {
    let text = [header(0, &[]), vec![0xf4; 16]].concat();
    elf32(
        0x40_000c,
        &[Load {
            memsz: 0x1_0000,
            ..plain(0x40_0000, &text)
        }],
    )
}
