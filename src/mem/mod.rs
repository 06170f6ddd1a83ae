//! Guest RAM: one shared memfd, split around the hole below 4 GiB, with a dirty bitmap.
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

mod layout;
mod ram;

pub use layout::{HOLE_END, HOLE_START, RamRegion, split_around_hole};
pub use ram::{Gpa, GuestMemory, GuestRam, HugePages, MemError, PAGE_SIZE, available};
