//! Side effects a device returns as values; the dispatcher applies them after unlocking it.

use super::device::{Place, ResetKind};

/// Something an access does beyond the device's own registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A window of this device now lies at `base`.
    Place(Place),
    /// A window of this device answers no more.
    Withdraw {
        /// The device's own number for it.
        window: u8,
    },
    /// The guest asked for a reset.
    Reset(ResetKind),
    /// The guest switched the machine off.
    PowerOff,
    /// The guest reported a status and the run ends now.
    Exit(u64),
    /// The guest reported a status and goes on; it will switch itself off.
    Report(u64),
    /// The guest's kernel reported a panic (pvpanic).
    Panicked,
    /// The guest's kernel has a crash kernel and starts it (pvpanic).
    CrashLoaded,
    /// A step in the guest's life, for the timeline.
    Milestone(&'static str),
}

/// The effects of one access, in order.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    /// None yet; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds one.
    pub fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes them all.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.0.drain(..)
    }
}

/// Takes the effects the bus does not apply itself: everything but window moves.
pub trait EffectSink: Send + Sync {
    /// Applies one. Called with no lock held.
    fn apply(&self, effect: Effect);
}
