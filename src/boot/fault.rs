//! Why a file is not a kernel that boots here.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A kernel file that cannot be used, and why.
#[derive(Debug)]
pub struct ImageError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: ImageFault,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: {}", self.path.display(), self.fault)
    }
}

impl Error for ImageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with a kernel file, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ImageFault {
    /// Nothing at this path.
    #[error("no such file; `trapline kernel list` shows the kernels there are")]
    Missing,
    /// No permission.
    #[error(
        "this user may not read it (Ubuntu keeps /boot/vmlinuz-* for root); \
         copy it with `sudo install -m 644`, or get one with `trapline kernel get`"
    )]
    Unreadable(#[source] io::Error),
    /// open(2) or fstat(2) failed otherwise.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// pread(2) failed.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// A directory.
    #[error("is a directory; name the kernel in it, for example arch/x86/boot/bzImage or vmlinux")]
    Directory,
    /// A device, a pipe or a socket.
    #[error("is not a regular file; copy its content to a file first")]
    NotRegular,
    /// No bytes.
    #[error("is empty; the copy or download that made it did not finish, make it again")]
    Empty,
    /// Ends before its own headers say.
    #[error(
        "is truncated: {part} ends at byte {need}, the file at byte {have}; copy or download it again"
    )]
    Truncated {
        /// What is cut off.
        part: &'static str,
        /// The length needed to hold it.
        need: u64,
        /// The file's length.
        have: u64,
    },
    /// Printable characters only.
    #[error("is a text file, not a kernel; give a bzImage (vmlinuz) or an ELF vmlinux")]
    Text,
    /// A cpio archive.
    #[error("is a cpio archive, so probably an initramfs; give it with --initrd and a kernel here")]
    Initramfs,
    /// A compressed file, whatever is inside.
    #[error(
        "is a {format}-compressed file; if a vmlinux is inside, unpack it with `{tool}`, \
         if it is an initramfs, give it with --initrd"
    )]
    Compressed {
        /// The compression.
        format: &'static str,
        /// The command that undoes it.
        tool: &'static str,
    },
    /// An ELF file of 32 bits.
    #[error(
        "is a 32-bit {machine} ELF without a multiboot header; Trapline boots 64-bit x86 kernels, \
         build with CONFIG_64BIT=y, and multiboot kernels"
    )]
    Elf32 {
        /// The machine it is for.
        machine: &'static str,
    },
    /// A kernel for another architecture.
    #[error("is a kernel for {machine}; Trapline boots x86-64 kernels")]
    Machine {
        /// The machine it is for.
        machine: &'static str,
    },
    /// An ELF file that no loader starts.
    #[error("is an ELF {what}, not a kernel; give a bzImage (vmlinuz) or an ELF vmlinux")]
    NotAKernel {
        /// What it is instead.
        what: &'static str,
    },
    /// An ELF file whose headers contradict each other.
    #[error("is a broken ELF file: {what}; build or download it again")]
    BrokenElf {
        /// The contradiction.
        what: &'static str,
    },
    /// A PE file without a Linux setup header.
    #[error(
        "is an EFI program without a Linux setup header; if it is a unified kernel image, take the \
         kernel out with `objcopy -O binary --only-section=.linux IN OUT`"
    )]
    Efi,
    /// A boot sector or a disk.
    #[error("is a boot sector or disk image, not a kernel")]
    BootSector,
    /// Setup header older than the 64-bit entry.
    #[error(
        "is a bzImage with boot protocol {}.{:02}; the 64-bit entry needs 2.12 (Linux 3.8)",
        version >> 8, version & 0xff
    )]
    OldProtocol {
        /// The version, major in the high byte.
        version: u16,
    },
    /// The loader flag of a zImage.
    #[error("is a zImage, which loads below 640 KiB; build a bzImage")]
    ZImage,
    /// No 64-bit entry.
    #[error(
        "is a bzImage without the 64-bit entry (XLF_KERNEL_64 is clear), so a 32-bit kernel; \
         build with CONFIG_64BIT=y"
    )]
    NoEntry64,
    /// An ELF64 file with a multiboot header that has no addresses.
    #[error(
        "is a 64-bit ELF with a multiboot header; multiboot loads ELF32, so convert it: \
         objcopy -O elf32-i386 IN OUT (kvm-unit-tests calls the result *.flat)"
    )]
    MultibootElf64,
    /// A multiboot header whose fields contradict each other or the file.
    #[error("has a broken multiboot header: {what}; build it again")]
    BrokenMultiboot {
        /// The contradiction.
        what: &'static str,
    },
    /// A multiboot header with requirements that the specification does not define.
    #[error(
        "has a multiboot header that requires what multiboot 1 does not define (flags {flags:#x}); \
         build it without them"
    )]
    MultibootWants {
        /// The bits.
        flags: u32,
    },
    /// None of the above.
    #[error(
        "is neither a bzImage nor an ELF file (it starts {start}); give a bzImage (vmlinuz) or an \
         ELF vmlinux"
    )]
    Unknown {
        /// Its first bytes in hexadecimal.
        start: String,
    },
}
