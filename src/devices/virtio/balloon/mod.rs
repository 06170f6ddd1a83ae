//! The balloon (VIRTIO 1.2, 5.5): guest memory that its kernel can do without goes back to the host.
//!
//! Three ways: the host asks for pages and the driver inflates the balloon with them; the driver takes
//! them back; and, unasked, it reports runs of free pages. Pages are named by guest physical frame
//! number, so they are RAM's and no bus addresses: Linux's driver refuses VIRTIO_F_ACCESS_PLATFORM,
//! and the board puts no IOMMU before this device.

mod device;
mod figures;
mod handle;
mod pages;
mod statistics;

#[cfg(test)]
mod tests;

pub use device::{BALLOON_QUEUES, Balloon};
pub use figures::BalloonFigures;
pub use handle::{BalloonError, BalloonHandle};
pub use statistics::Statistics;
