//! Why a kernel cannot be loaded.

use std::io;
use std::path::PathBuf;

use linux_loader::{configurator, loader};

use crate::mem::{Gpa, MemError};

/// A kernel that cannot be loaded into this guest's memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// PVH asked of an ELF file without the note.
    #[error(
        "this vmlinux has no PVH entry; build it with CONFIG_PVH=y, or boot it with --protocol linux"
    )]
    NoPvhNote,
    /// PVH asked of a bzImage.
    #[error(
        "a bzImage has no PVH entry; give the vmlinux of a kernel with CONFIG_PVH=y, \
         or use --protocol linux"
    )]
    PvhOfBzImage,
    /// The kernel does not fit.
    #[error(
        "the kernel needs RAM up to {} MiB, the guest's ends at {} MiB; give at least --mem {}",
        end.div_ceil(1 << 20), ram_end >> 20, end.div_ceil(1 << 20)
    )]
    KernelTooLarge {
        /// First address after the kernel.
        end: u64,
        /// First address after the RAM it could use.
        ram_end: u64,
    },
    /// A part of the kernel would lie where it must not.
    #[error("the kernel wants to load at {start:#x}..{end:#x}, {why}")]
    KernelMisplaced {
        /// First address.
        start: u64,
        /// First address after it.
        end: u64,
        /// What is there.
        why: &'static str,
    },
    /// An entry outside everything that was loaded.
    #[error("the kernel's entry {entry:#x} lies in none of its loaded segments; build it again")]
    EntryOutside {
        /// The entry.
        entry: u64,
    },
    /// The initrd does not fit.
    #[error(
        "the initrd of {} KiB does not fit between the kernel and {} MiB, where this guest's memory \
         or the kernel's reach ends; give more --mem or a smaller initrd",
        len.div_ceil(1024), limit >> 20
    )]
    InitrdTooLarge {
        /// Its length.
        len: u64,
        /// Where it has to end.
        limit: u64,
    },
    /// The initrd could not be read, in practice because it changed since it was opened.
    #[error("cannot read the initrd into guest memory; was {} changed just now?", path.display())]
    ReadInitrd {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The command line does not fit.
    #[error(
        "the command line has {len} bytes, this kernel takes at most {limit}; shorten --append"
    )]
    CmdlineTooLong {
        /// Its length without the NUL.
        len: usize,
        /// What the kernel takes, without the NUL.
        limit: usize,
    },
    /// The command line would end early.
    #[error("the command line has a NUL byte at offset {at}; take it out")]
    CmdlineNul {
        /// Where.
        at: usize,
    },
    /// The memory map is larger than `boot_params`.
    #[error("the memory map has more than 128 entries; reserve fewer ranges")]
    MapTooLong,
    /// linux-loader failed, in practice because the file changed since it was opened.
    #[error("cannot read the kernel into guest memory; was {path} replaced just now?")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: loader::Error,
    },
    /// linux-loader could not write what it hands over.
    #[error("cannot write {what} at {at}")]
    Handover {
        /// The structure.
        what: &'static str,
        /// Where.
        at: Gpa,
        /// Why.
        source: configurator::Error,
    },
    /// A multiboot module does not fit.
    #[error(
        "the module {name} of {} KiB does not fit beside the kernel below {} MiB; give more --mem or a \
         smaller module",
        len.div_ceil(1024), limit >> 20
    )]
    ModuleTooLarge {
        /// Its name.
        name: String,
        /// Its length.
        len: u64,
        /// Where it has to end.
        limit: u64,
    },
    /// Modules for a kernel that takes none.
    #[error(
        "{kind} kernels take no modules of a boot loader; --boot-module is for multiboot kernels"
    )]
    Modules {
        /// What the kernel is.
        kind: &'static str,
    },
    /// An initrd for a guest that cannot be told of it.
    #[error("a flat 16-bit guest cannot be told where an initrd lies; leave --initrd out")]
    InitrdOfFlat16,
    /// A protocol the image does not have.
    #[error("a {kind} kernel is not started by --protocol {protocol}; leave --protocol out")]
    NotThatProtocol {
        /// What the kernel is.
        kind: &'static str,
        /// What was asked.
        protocol: &'static str,
    },
    /// No gap for a structure.
    #[error(
        "{what} of {len} bytes does not fit beside the kernel and its modules; give more --mem"
    )]
    NoRoom {
        /// The structure.
        what: &'static str,
        /// Its length.
        len: u64,
    },
    /// A segment could not be read, in practice because the file changed since it was opened.
    #[error("cannot read the kernel into guest memory; was {} replaced just now?", path.display())]
    ReadSegment {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A structure has no RAM under it.
    #[error("cannot write the {what} for the kernel")]
    Write {
        /// The structure.
        what: &'static str,
        /// Why.
        source: MemError,
    },
}
