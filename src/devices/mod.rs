//! PCI devices that are not the chipset.
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

mod edu;
pub mod virtio;

pub use edu::{DEFAULT_DMA_BITS, Edu};
