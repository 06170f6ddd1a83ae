//! What is behind the guest's drives: files of the host.
//!
//! Errors of the host become faults of the medium, which the drive tells the guest, and a line for the
//! user; the run goes on.

mod error;
mod file;
mod iso;
mod overlay;

use std::path::PathBuf;
use std::sync::Arc;

use crate::chipset::{DriveKind, DriveMedium};

pub use error::DiskError;
use file::{FileMedium, Sharing};
use overlay::Overlay;

/// How many drives two channels have.
pub(super) const DRIVES: usize = 4;

/// Tells the user what the host has to say of a file.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// A file for a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveSpec {
    /// Which.
    pub path: PathBuf,
    /// What it is for.
    pub kind: DriveUse,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveUse {
    /// A disk.
    Disk {
        /// Writes of the guest fail.
        read_only: bool,
        /// Writes of the guest stay in memory and are lost at the end.
        overlay: bool,
    },
    /// A disc.
    CdRom,
}

impl DriveSpec {
    /// Whether the run writes the file.
    #[must_use]
    pub const fn writes(&self) -> bool {
        matches!(
            self.kind,
            DriveUse::Disk {
                read_only: false,
                overlay: false
            }
        )
    }

    /// Opens the file, and locks it until the medium is dropped; `tell` takes the host's later errors.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(&self, tell: &Tell) -> Result<DriveMedium, DiskError> {
        let sharing = match self.writes() {
            true => Sharing::Alone,
            false => Sharing::Readers,
        };
        let file = FileMedium::open(&self.path, sharing, Arc::clone(tell))?;
        Ok(match self.kind {
            DriveUse::CdRom => {
                iso::check(&file)?;
                (DriveKind::CdRom, Box::new(file))
            }
            DriveUse::Disk { overlay, .. } => {
                file.check_sectors()?;
                match overlay {
                    true => (DriveKind::Disk, Box::new(Overlay::new(Box::new(file)))),
                    false => (DriveKind::Disk, Box::new(file)),
                }
            }
        })
    }
}

/// Which drive each file gets: primary device 0 and 1, secondary device 0 and 1. Disks fill them in
/// their order; discs go to the secondary channel while there is room.
///
/// # Errors
/// [`DiskError::TooMany`].
pub(super) fn seats(specs: &[DriveSpec]) -> Result<[Option<&DriveSpec>; DRIVES], DiskError> {
    if specs.len() > DRIVES {
        return Err(DiskError::TooMany {
            wanted: specs.len(),
        });
    }
    let is_disk = |spec: &&DriveSpec| matches!(spec.kind, DriveUse::Disk { .. });
    let disks = specs.iter().filter(is_disk);
    let mut seats = [None; DRIVES];
    for (seat, disk) in seats.iter_mut().zip(disks) {
        *seat = Some(disk);
    }
    let discs = specs.iter().filter(|spec| !is_disk(spec));
    for disc in discs {
        let order = [2, 3, 1, 0];
        if let Some(free) = order.into_iter().find(|seat| seats[*seat].is_none()) {
            seats[free] = Some(disc);
        }
    }
    Ok(seats)
}

/// Files held for a run that happens elsewhere, in a lab: opened, checked and locked as that run would.
#[derive(Debug)]
pub struct HeldDrives {
    _media: Vec<DriveMedium>,
}

impl HeldDrives {
    /// Holds them until this is dropped.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn hold(specs: &[DriveSpec]) -> Result<Self, DiskError> {
        let seated = seats(specs)?.into_iter().flatten();
        // Nothing is read or written here.
        let tell: Tell = Arc::new(drop);
        let media = seated.map(|spec| spec.open(&tell));
        let media = media.collect::<Result<_, _>>()?;
        Ok(Self { _media: media })
    }
}

#[cfg(test)]
mod tests;
