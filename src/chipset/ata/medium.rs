//! What a drive reads and writes.

use std::fmt;

/// Why a medium did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediumFault {
    /// The bytes cannot be read.
    Unreadable,
    /// The bytes cannot be written, or not be made to last.
    Unwritable,
}

/// The bytes of a disk or a disc. All calls come from one thread, a worker's.
pub trait Medium: fmt::Debug + Send {
    /// How many bytes there are; the same every time.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `bytes` from `at`.
    ///
    /// # Errors
    /// [`MediumFault::Unreadable`].
    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), MediumFault>;

    /// Writes `bytes` at `at`, where a read sees them at once.
    ///
    /// # Errors
    /// [`MediumFault::Unwritable`].
    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), MediumFault>;

    /// Returns when all that was written would survive a power cut.
    ///
    /// # Errors
    /// [`MediumFault::Unwritable`].
    fn flush(&mut self) -> Result<(), MediumFault>;
}
