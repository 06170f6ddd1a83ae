//! Devices that are not the chipset's.
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
mod pci_testdev;
mod testdev;
pub mod virtio;

pub use edu::{DEFAULT_DMA_BITS, Edu};
pub use pci_testdev::PciTestDevice;
pub use testdev::{TESTDEV_LINES, TESTDEV_MEMORY, TestDevice, Unmap};
