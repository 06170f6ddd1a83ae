//! The board: the only room that knows every device.

mod console;
pub mod control;
mod end;
mod escape;
mod hex;
mod outcome;
mod printk;
mod terminal;
mod watch;

pub use console::{Console, ConsoleSink, ConsoleSummary, Heard};
pub use end::End;
pub use escape::{Action, BadKey, Escape, EscapeKey};
pub use hex::Hex;
pub use outcome::{Next, OnOops, OnReboot, Outcome, for_bisect};
pub use printk::Level;
pub use terminal::{RawTerminal, TerminalError, restore as restore_terminal};
pub use watch::{Alarm, AlarmCounts, Sighting, Watch};
