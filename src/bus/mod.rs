//! How devices are reached.
//!
//! The bus is an arena of devices, one lock each, and three range maps (ports, memory, PCI configuration). An access looks its address up
//! under the map's read lock, copies the target out, drops the guard, locks that one device, calls
//! it, unlocks, and only then applies the side effects the device returned as values.
//!
//! A bridge answers a cycle with [`Refusal::Forward`]; the bus then runs it in the other space, with
//! the bridge unlocked.
//!
//! **Lock order:** range map, then device, then IOMMU unit, then leaf (a device's shared state, a PCI
//! function's interrupts, the line router, the trace ring, in this order).
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
mod maps;
mod msi;
mod ranges;
pub mod state;
mod worker;

pub use clock::{Clock, HostClock, Ns, TestClock};
pub use device::{Access, Answer, Device, Place, Refusal, ResetKind, StateError, Width, Window};
pub use dispatch::{AttachError, Bus, BusPort, DeviceCounts};
pub use effect::{Effect, EffectSink, Effects};
pub use line::{GsiSink, Line, LineListener, LineUse, Lines, Switch};
pub use maps::{DeviceId, Placed};
pub use msi::{Msi, MsiSink};
pub use ranges::{Overlap, RangeMap};
pub use worker::Worker;
