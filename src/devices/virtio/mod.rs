//! Virtio devices on PCI, modern only.
//!
//! A device implements [`VirtioDevice`]: its features, its configuration, and what it does with the
//! buffers of a queue. [`VirtioPci`] makes a [`crate::pci::PciDevice`] of it: the structures behind
//! the BAR, negotiation, the queues, MSI-X and INTx. Rings and buffers are reached through the
//! function's [`crate::dma::Dma`] alone; where an IOMMU stands in its way, the transport offers
//! VIRTIO_F_ACCESS_PLATFORM and insists on it.
//!
//! References are to Virtual I/O Device (VIRTIO) Version 1.2, OASIS Committee Specification 01.

mod balloon;
mod common;
mod device;
mod regs;
mod ring;
mod signals;
mod transport;
mod virtqueue;

#[cfg(test)]
pub(crate) mod driver;
#[cfg(test)]
mod transport_tests;

pub use balloon::{
    BALLOON_QUEUES, Balloon, BalloonError, BalloonFigures, BalloonHandle, Statistics,
};
pub use device::{Served, VirtioDevice};
pub use ring::{Chain, Part, Ring, RingError};
pub use signals::Signals;
pub use transport::VirtioPci;
