//! The board: the only room that knows every device.

mod board;
mod console;
pub mod control;
mod deadline;
mod desk;
mod end;
mod escape;
mod hex;
pub mod layout;
mod notice;
mod outcome;
mod printk;
mod run;
mod signals;
mod spec;
mod stdin;
mod terminal;
mod verbs;
mod watch;

pub use board::{Board, BoardError, Plugs};
pub use console::{Console, ConsoleSink, ConsoleSummary, Heard};
pub use deadline::DeadlineTimer;
pub use desk::{Control, Desk, Standing};
pub use end::End;
pub use escape::{Action, BadKey, Escape, EscapeKey};
pub use hex::Hex;
pub use notice::{Notice, Post};
pub use outcome::{Next, OnOops, OnReboot, Outcome, for_bisect};
pub use printk::Level;
pub use run::{Connections, Finished, RunError, run};
pub use spec::{Rules, Spec};
pub use terminal::{RawTerminal, TerminalError, restore as restore_terminal};
pub use watch::{Alarm, AlarmCounts, Sighting, Watch};
