//! Who answers the guest's `rdmsr` and `wrmsr`, and what is known of each MSR.
//!
//! The room is pure: it knows neither KVM's descriptors nor threads. [`names`] is the table,
//! [`policy`] says what becomes of an access, [`filter`] is that as KVM_X86_SET_MSR_FILTER takes it,
//! [`model`] are MSRs that Trapline keeps itself, [`forward`] decides how an access is done that KVM would
//! have done, and [`Engine`] answers with all of them.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod access;
mod ask;
mod cells;
mod engine;
mod explain;
pub mod filter;
pub mod forward;
mod limiter;
pub mod model;
pub mod names;
pub mod policy;
pub mod record;

pub use access::{Cpu, MsrAccess, MsrAnswer, MsrHandler, Op, Reason};
pub use ask::{AskError, Asker, Question, Reply, understand};
pub use cells::{BadMsrState, MsrState};
pub use engine::{Engine, MsrListener, MsrTally};
pub use explain::explain;

/// An MSR in words: its name with its index, or the index alone.
#[must_use]
pub fn describe(index: u32) -> String {
    match names::of(index) {
        Some(msr) => format!("{} ({index:#x})", msr.name),
        None => format!("{index:#x}"),
    }
}
