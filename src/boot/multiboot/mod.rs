//! Kernels that follow the Multiboot Specification 0.6.96 ("multiboot 1"): told by a header in their
//! first 8 KiB, loaded by the program headers of an ELF32 file or by addresses in the header itself.
//!
//! Test guests of kvm-unit-tests are of the first kind, with none of the header's flags set: 64-bit
//! code in a file that says it is 32-bit.

mod elf32;
mod header;
mod info;
mod load;

use std::fs::File;

use super::elf::{Elf, Segment};
use super::fault::ImageFault;

pub(super) use load::{Given, load};

use elf32::Elf32;
use header::{Addresses, Header};

/// A multiboot kernel, as far as its headers tell.
#[derive(Debug, Clone)]
pub(super) struct Multiboot {
    /// The 32-bit entry, a physical address.
    pub(super) entry: u32,
    /// What to load.
    pub(super) segments: Vec<Segment>,
}

impl Multiboot {
    /// Reads a file that starts with `head` and is `size` bytes long; none when it has no multiboot
    /// header and is no ELF32 file.
    pub(super) fn parse(file: &File, head: &[u8], size: u64) -> Result<Option<Self>, ImageFault> {
        let Some(header) = Header::find(head)? else {
            return Ok(None);
        };
        if let Some(addresses) = &header.addresses {
            // "If bit 16 is set, the boot loader should use them instead of the fields in the actual
            // executable header" (3.1.2).
            return Self::of_addresses(&header, addresses, size).map(Some);
        }
        if Elf32::recognises(head) {
            let elf = Elf32::parse(file, head, size)?;
            return Ok(Some(Self {
                entry: elf.entry,
                segments: elf.segments,
            }));
        }
        if Elf::recognises(head) {
            return Err(ImageFault::MultibootElf64);
        }
        Err(ImageFault::BrokenMultiboot {
            what: "it gives no addresses (flag 16 is clear), and the file is not ELF",
        })
    }

    fn of_addresses(header: &Header, addresses: &Addresses, size: u64) -> Result<Self, ImageFault> {
        let segment = addresses.segment(header.offset, size)?;
        Ok(Self {
            entry: addresses.entry,
            segments: vec![segment],
        })
    }
}

#[cfg(test)]
pub(super) mod rig;
#[cfg(test)]
mod tests;
