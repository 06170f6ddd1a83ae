//! Trapline: a micro-VMM for x86-64 KVM that you can see through.
//!
//! The rooms of the house, from the street inwards. A room imports only from rooms below it in this
//! list; rooms on one line never import each other (`lab` may use `kernels` and `host`). The test
//! `tests/layering.rs` reads the `use` lines and holds the arrows.
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`] | one file per subcommand: parse, call, print |
//! | [`lab`], [`kernels`], [`host`] | the disposable host; kernels got and built; what this machine can do |
//! | [`probe`] | what KVM does with MSRs, asked directly |
//! | [`check`] | experiments in a guest: what each shows, and whether it did |
//! | [`machine`] | the board: the only room that knows every device |
//! | [`boot`], [`vm`], [`chipset`], [`devices`] | kernel formats and tables; KVM; the devices of the PC; other PCI devices |
//! | [`pci`] | configuration space, BARs, capabilities, MSI and MSI-X, configuration cycles |
//! | [`msr`] | names, policy, filter and model of MSRs |
//! | [`bus`], [`dma`] | how devices are reached, and how they reach memory |
//! | [`mem`] | guest RAM |
//! | [`trace`] | typed events and where they go |
// Only `cli` speaks, through `cli::out`: `println!` panics when the reader has left.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod trace;

pub mod mem;

pub mod bus;
pub mod dma;

pub mod msr;
pub mod pci;

pub mod boot;
pub mod chipset;
pub mod devices;
pub mod vm;

pub mod machine;

pub mod check;
pub mod host;
pub mod kernels;
pub mod lab;
pub mod probe;

pub mod cli;
