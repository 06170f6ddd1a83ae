//! Test guests that are no Linux: what kvm-unit-tests' guests expect of a machine, proven by guests of
//! this repository that are linked and converted as those are (`guest/kut`).

mod common;

#[path = "kut/guests.rs"]
mod guests;
#[path = "kut/runner.rs"]
mod runner;
#[path = "kut/start.rs"]
mod start;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::main(&[start::CASES, runner::CASES].concat())
}
