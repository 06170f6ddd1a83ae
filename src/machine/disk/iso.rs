//! Whether a file is an image of a disc.

use super::error::DiskError;
use super::file::FileMedium;

/// Volume descriptors begin here (ECMA-119, 6.2.1): a byte of type, then an identifier.
const DESCRIPTORS: u64 = 16 * 2048;
/// ISO 9660, and the extended area that announces UDF (ECMA-167, 2/9.1).
const IDENTIFIERS: [&[u8; 5]; 2] = [b"CD001", b"BEA01"];

/// Refuses a file that is none.
pub(super) fn check(file: &FileMedium) -> Result<(), DiskError> {
    let mut descriptor = [0; 6];
    let read = file.read_at(DESCRIPTORS, &mut descriptor);
    let [_, identifier @ ..] = descriptor;
    if read.is_ok() && IDENTIFIERS.contains(&&identifier) {
        return Ok(());
    }
    Err(DiskError::NotIso {
        path: file.path().into(),
    })
}
