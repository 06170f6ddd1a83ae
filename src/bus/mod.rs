//! How devices are reached.
//!
//! The bus is an arena of devices, one lock each, and two range maps. An access looks its address up
//! under the map's read lock, copies the target out, drops the guard, locks that one device, calls
//! it, unlocks, and only then applies the side effects the device returned as values.
//!
//! **Lock order:** range map, then device, then IOMMU unit, then leaf (line router, trace ring).
//! Two devices are never locked at once.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod clock;
mod device;
mod dispatch;
mod effect;
mod line;
mod msi;
mod ranges;

pub use clock::{Clock, HostClock, Ns, TestClock};
pub use device::{Access, Answer, Device, Refusal, ResetKind, StateError, Width, Window};
pub use dispatch::{AttachError, Bus, BusPort, DeviceCounts, DeviceId};
pub use effect::{Effect, EffectSink, Effects};
pub use line::{GsiSink, Line, LineListener, Lines};
pub use msi::{Msi, MsiSink};
pub use ranges::{Overlap, RangeMap};
