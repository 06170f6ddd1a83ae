//! Guest RAM: one shared memfd, split around the hole below 4 GiB, with a dirty bitmap. Pages that the
//! guest does not need are punched out of it and are the host's again.
//!
//! KVM's dirty log sees what the guest writes; it does not see what Trapline writes on a device's
//! behalf. Every write through vm-memory marks the region's bitmap, so the two together are whole.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod advise;
mod discard;
mod layout;
mod ram;
mod zap;

pub use discard::RamPin;
pub use layout::{HOLE_END, HOLE_START, RamRegion, split_around_hole};
pub use ram::{Gpa, GuestMemory, GuestRam, HugePages, MemError, PAGE_SIZE, available};
