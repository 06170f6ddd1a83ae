//! The host's end of a balloon.

use std::sync::{Arc, Mutex};

use super::super::Signals;
use super::figures::{BalloonFigures, Shared, lock};
use crate::mem::{GuestRam, PAGE_SIZE};

/// Why the host cannot have that much.
#[derive(Debug, thiserror::Error)]
pub enum BalloonError {
    /// More than there is.
    #[error(
        "a balloon of {} MiB is larger than the guest's memory ({} MiB)", wanted >> 20, size >> 20
    )]
    TooLarge {
        /// What was asked.
        wanted: u64,
        /// What there is.
        size: u64,
    },
    /// What the guest gave up would not come to the host.
    #[error(
        "guest memory is pinned by {by}, so nothing a balloon takes from the guest would go back to the \
         host; run without that device to shrink the guest"
    )]
    Pinned {
        /// By whom.
        by: String,
    },
}

/// Sets a balloon's target and looks at it, from any thread.
#[derive(Debug, Clone)]
pub struct BalloonHandle {
    pub(super) ram: GuestRam,
    pub(super) signals: Signals,
    pub(super) shared: Arc<Mutex<Shared>>,
}

impl BalloonHandle {
    /// Asks the guest for `bytes` of its memory, all in all, rounded down to pages; 0 gives all back.
    /// The guest gives as it can.
    ///
    /// # Errors
    /// [`BalloonError`]. Giving back is never refused.
    pub fn set_target(&self, bytes: u64) -> Result<(), BalloonError> {
        let size = self.ram.size();
        let too_large = BalloonError::TooLarge {
            wanted: bytes,
            size,
        };
        if bytes > size {
            return Err(too_large);
        }
        let pages = bytes.checked_div(PAGE_SIZE).unwrap_or(0);
        let pages = u32::try_from(pages).map_err(|_| too_large)?;
        {
            let mut shared = lock(&self.shared);
            if pages > shared.target_pages
                && let Some(by) = self.ram.pinned_by()
            {
                return Err(BalloonError::Pinned { by });
            }
            shared.target_pages = pages;
        }
        self.signals.config_changed();
        Ok(())
    }

    /// Asks the guest for new statistics; they come when its driver runs. The device wants to be woken
    /// for it.
    pub fn ask_statistics(&self) {
        lock(&self.shared).asked = true;
    }

    /// How it stands.
    #[must_use]
    pub fn figures(&self) -> BalloonFigures {
        lock(&self.shared).figures()
    }
}
