//! The board: the only room that knows every device.

mod end;
mod hex;
mod outcome;

pub use end::End;
pub use hex::Hex;
pub use outcome::{Next, OnOops, OnReboot, Outcome, for_bisect};
