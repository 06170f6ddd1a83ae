//! Who answers the guest's `rdmsr` and `wrmsr`, and what is known of each MSR.
//!
//! The room is pure: it knows neither KVM's descriptors nor threads. [`names`] is the table.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod names;
