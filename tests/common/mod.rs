//! What integration tests share: a harness for tests that name what they need of the machine.

mod harness;
mod need;
mod remote;

pub(crate) use harness::{Case, main};
pub(crate) use need::Need;

/// The program under test.
pub(crate) const TRAPLINE: &str = env!("CARGO_BIN_EXE_trapline");
