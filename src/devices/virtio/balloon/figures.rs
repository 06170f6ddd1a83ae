//! What is known of a balloon.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::statistics::Statistics;
use crate::bus::Ns;
use crate::mem::PAGE_SIZE;

/// A balloon in figures. Sums are of the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BalloonFigures {
    /// Whether the guest has a driver for it.
    pub driver: bool,
    /// Bytes that the host wants to have.
    pub target: u64,
    /// Bytes that are in the balloon, as the driver says.
    pub actual: u64,
    /// Bytes that the driver put into the balloon.
    pub inflated: u64,
    /// Bytes that it took back.
    pub deflated: u64,
    /// Bytes that it reported as free.
    pub reported: u64,
    /// Of those inflated and reported, bytes that went back to the host; touched again, they count
    /// again.
    pub returned: u64,
    /// And those that stayed: pinned, parts of a huge page, or of other contents when free.
    pub kept: u64,
    /// Pages it named that are no RAM, and buffers too long to be read whole.
    pub nonsense: u64,
    /// How the driver broke the rules, when it did: the device then does nothing more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
    /// What the guest says of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// When it said so, in guest time.
    #[serde(skip)]
    pub statistics_at: Ns,
}

/// What device and host share: a leaf in the lock order, before the signals.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) target_pages: u32,
    pub(super) actual_pages: u32,
    pub(super) figures: BalloonFigures,
    /// The host wants new statistics.
    pub(super) asked: bool,
}

pub(super) fn lock(shared: &Arc<Mutex<Shared>>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn figures(&self) -> BalloonFigures {
        let bytes = |pages: u32| u64::from(pages).saturating_mul(PAGE_SIZE);
        BalloonFigures {
            target: bytes(self.target_pages),
            actual: bytes(self.actual_pages),
            ..self.figures.clone()
        }
    }
}
