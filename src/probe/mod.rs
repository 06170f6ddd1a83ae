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

pub use fresh::{Fresh, Lists, ProbeError, Value};
