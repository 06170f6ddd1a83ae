//! A file that cannot be a drive's.

use std::io;
use std::path::PathBuf;

use super::DRIVES;

/// Why not, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("cannot open the disk image {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can be read and not written.
    #[error(
        "the disk image {} cannot be written; say {},ro to have the guest only read it, or \
         {},overlay to keep what the guest writes in memory",
        path.display(), path.display(), path.display()
    )]
    ReadOnly {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a socket, a terminal.
    #[error("{} is no disk image: it is neither a file nor a block device", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("the disk image {} is empty; give it a size, for example: truncate -s 1G {}",
        path.display(), path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// Not whole sectors.
    #[error(
        "the disk image {} has {len} bytes, which is not a multiple of 512; fill it up: \
         truncate -s %512 {}", path.display(), path.display()
    )]
    Sectors {
        /// Which.
        path: PathBuf,
        /// How many bytes it has.
        len: u64,
    },
    /// Another run has it.
    #[error(
        "the disk image {} is in use by another Trapline, or by another drive of this one{}",
        path.display(),
        if *readers { ", which writes it" } else { "; several can share it with ro or overlay" }
    )]
    InUse {
        /// Which.
        path: PathBuf,
        /// Whether this run would only read it.
        readers: bool,
    },
    /// No lock could be had for another reason.
    #[error("cannot lock the disk image {}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disc without a volume on it.
    #[error(
        "{} is not an image of a CD or DVD: it has neither an ISO 9660 nor a UDF volume; a disk image \
         goes with --disk", path.display()
    )]
    NotIso {
        /// Which.
        path: PathBuf,
    },
    /// More than there are drives.
    #[error("{wanted} disks and discs are more than two IDE channels take: {DRIVES}")]
    TooMany {
        /// How many were asked for.
        wanted: usize,
    },
}
