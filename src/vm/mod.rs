//! KVM: the VM, its memory slots, vCPU set-up and state, the run loop and the irqchip.
//!
//! A [`Vm`] is the board's processor side. Its vCPUs run on threads of a [`Fleet`], reach devices
//! through a [`crate::bus::BusPort`] and MSR answers through a [`crate::msr::MsrHandler`]; the room knows not one
//! device. An exit that is half done (port, memory, MSR) is retired before anyone looks at the state
//! of a vCPU: KVM completes it at the next KVM_RUN, one with `immediate_exit` is enough.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod collected;
mod counts;
pub mod cpuid;
mod create;
mod entry;
mod error;
mod fleet;
mod irqchip;
mod kick;
mod msr;
mod open;
mod run_page;
mod state;
mod vcpu;

pub use collected::Ring;
pub use counts::{ExitCounts, LastExit};
pub use create::{CpuidError, Vm, VmSpec};
pub use entry::{Entry, Flat, Segments};
pub use error::VmError;
pub use fleet::{Fleet, FleetError, VcpuNotice, VcpuReport};
pub use irqchip::KernelIrqchip;
pub use msr::{DenyAll, ignores_msrs};
pub use open::{CAPABILITIES, Capability, OpenError, capability, open};
pub use state::{MSRS_OF_STATE, VcpuState, VmState};
pub use vcpu::{Step, Vcpu, VcpuEnd};
