//! What this host's KVM does with MSRs, asked directly and through payloads.
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
