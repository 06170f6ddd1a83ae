//! What this host's KVM does with MSRs, asked directly and through payloads.
//!
//! [`Fresh`] is a vCPU that has run nothing, for the host's side. A [`Prober`] has a guest that does `rdmsr` and
//! `wrmsr` as told, many for each KVM_RUN; who answers what comes out is a [`crate::msr::policy::Policy`] or a closure.
//! [`matrix()`] tries everything on a list of MSRs. The examples `answer_an_msr` and `sweep_a_range` show both ways:
//!
//! ```no_run
//! use trapline::msr::policy::Policy;
//! use trapline::probe::{GuestOp, Prober};
//! use trapline::vm::cpuid::Profile;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut guest = Prober::new(Policy::load(&[":strict".into()])?, Profile::default())?;
//! for outcome in guest.run(&[GuestOp::Read(0x1a0), GuestOp::Write(0x277, 6)])?? {
//!     println!("{:x?}, handed out: {:?}", outcome.seen, outcome.exit);
//! }
//! # Ok(())
//! # }
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod fresh;
mod matrix;
mod ops;
mod prober;

pub use fresh::{Fresh, Lists, ProbeError, Value};
pub use matrix::{Cell, Matrix, Row, matrix, tier};
pub use ops::{GuestOp, SACRIFICE, Seen};
pub use prober::{ExitSeen, Lost, Outcome, Prober};
