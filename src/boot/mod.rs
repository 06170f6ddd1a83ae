//! Kernel formats, boot protocols, the initramfs and the ACPI tables.
//!
//! [`Image::open`] says what a file is, [`load`] puts it into guest RAM by one of the protocols
//! and answers where the first vCPU starts, [`acpi::write`] describes the board to the guest.
//! A kernel file is hostile input: nothing in it may panic, overflow or write outside guest RAM.
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

pub mod acpi;
mod banner;
mod bzimage;
mod e820;
mod elf;
mod fault;
mod flat;
mod foreign;
mod image;
pub mod initramfs;
mod initrd;
#[path = "../../guest/job_abi.rs"]
pub mod job;
mod kallsyms;
mod linux;
mod load;
mod load_error;
mod multiboot;
pub mod payload;
mod place;
mod plan;
mod pvh;
mod segments;
mod symbols;
mod tables;
pub mod vmlinux;

#[cfg(test)]
mod synthetic;

pub use fault::{ImageError, ImageFault};
pub use flat::{BadFormat, Flat, FlatMode, Format};
pub use image::{Image, Kind, Protocols};
pub use initrd::Initrd;
pub use load::{LoadRequest, Module, Protocol, Start, load};
pub use load_error::LoadError;
pub use place::{Places, Span};
pub use symbols::{Symbols, SymbolsError};
pub use tables::{FlatTables, LongModeTables, write_flat_tables, write_long_mode_tables};
