//! Test guests that end with a status, as those of kvm-unit-tests do: what to run, with what, and what
//! came of it.
//!
//! Each runs in a process of its own, `trapline boot`, which anybody can repeat.

mod config;
mod log;
mod plan;
mod result;
mod run;
mod words;

pub use config::{ConfigError, Entry, parse};
pub use plan::{Limits, Plan, plan};
pub use result::{Kind, Outcome, Ran, TestResult, judge};
pub use run::{Runner, StartError};
