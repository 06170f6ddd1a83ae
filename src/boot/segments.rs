//! Reads a kernel's segments from its file straight into guest memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use vm_memory::{Bytes, GuestAddress};

use crate::mem::GuestRam;

use super::elf::Segment;
use super::load_error::LoadError;

/// What of a segment is not in the file stays as it is: `ram` is taken to be zero.
pub(super) fn read(
    ram: &GuestRam,
    file: &File,
    path: &Path,
    segments: &[Segment],
) -> Result<(), LoadError> {
    let failed = |source| LoadError::ReadSegment {
        path: path.to_owned(),
        source,
    };
    for segment in segments {
        let mut file = file;
        file.seek(SeekFrom::Start(segment.offset)).map_err(failed)?;
        // A length above usize::MAX has been refused for want of RAM.
        let len = usize::try_from(segment.file_len).unwrap_or(usize::MAX);
        ram.memory()
            .read_exact_volatile_from(GuestAddress(segment.memory.start), &mut file, len)
            .map_err(|error| failed(io::Error::other(error)))?;
    }
    Ok(())
}
