//! The board: the only room that knows every device.

mod end;
mod hex;
mod outcome;
mod printk;
mod watch;

pub use end::End;
pub use hex::Hex;
pub use outcome::{Next, OnOops, OnReboot, Outcome, for_bisect};
pub use printk::Level;
pub use watch::{Alarm, AlarmCounts, Sighting, Watch};
