//! PCI as a function sees it: configuration space, BARs, capabilities, interrupts; and the ports
//! through which the CPU reaches configuration space.
//!
//! A device implements [`PciDevice`]: what it looks like ([`Shape`]), and what is behind its BARs.
//! [`Function`] makes a [`crate::bus::Device`] of it and does the rest: the configuration registers as
//! tables of masks, sizing and relocation of BARs, the Bus Master gate, INTx, MSI and MSI-X. The board
//! gives each function a [`Seat`]: its address, and its ways to memory and to the interrupt
//! controllers. References are to PCI Local Bus 3.0.
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

mod bar;
mod capability;
mod config_ports;
mod device;
mod field;
mod function;
mod header;
mod interrupts;
mod msi;
mod msix;
mod pirq;
pub mod regs;
mod seat;
mod space;

#[cfg(test)]
mod rig;

pub use bar::{Bar, BarKind};
pub use capability::Capability;
pub use config_ports::{ConfigPorts, config_address};
pub use device::{FIRST_OWN_WINDOW, PciDevice, Shape};
pub use field::Field;
pub use function::{CONFIG_WINDOW, Function, FunctionUse};
pub use header::{Header, Pin};
pub use interrupts::Interrupts;
pub use msi::MsiShape;
pub use msix::MsixShape;
pub use pirq::Pirqs;
pub use seat::Seat;
pub use space::ConfigSpace;
