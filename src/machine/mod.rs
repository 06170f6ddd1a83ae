//! The board: the only room that knows every device.

mod aftermath;
mod board;
mod console;
pub mod control;
mod cpu_time;
mod deadline;
mod desk;
mod devices;
mod disk;
mod end;
mod escape;
mod firmware;
mod footprint;
mod hang;
mod hex;
pub mod layout;
mod listing;
mod memory;
mod memory_verbs;
mod msr_ask;
mod msr_trace;
mod msrs;
mod notice;
mod outcome;
mod postmortem;
mod printk;
mod pulse;
mod report;
mod run;
mod signals;
mod size;
mod spec;
mod stdin;
mod strays;
mod terminal;
mod thrift;
mod timeline;
mod verbs;
mod walk;
mod watch;

pub use aftermath::FindSymbols;
pub use board::{Board, BoardError, Plugs};
pub use console::{Console, ConsoleSink, ConsoleSummary, Heard};
pub use cpu_time::CpuTime;
pub use deadline::DeadlineTimer;
pub use desk::{Control, Desk, Standing};
pub use devices::FitError;
pub use disk::{DiskError, DriveSpec, DriveUse, HeldDrives, Tell};
pub use end::End;
pub use escape::{Action, BadKey, Escape, EscapeKey};
pub use footprint::Footprint;
pub use hang::{Activity, Hang, HangWatch, Sample, Stuck, Verdict};
pub use hex::Hex;
pub use listing::{BarItem, BoardItem, describe, table};
pub use memory::MemoryUse;
pub use msr_ask::Program;
pub use msr_trace::{MsrTrace, Place, Recorder};
pub use msrs::MsrSetupError;
pub use notice::{Notice, Post};
pub use outcome::{ExitRule, Next, OnOops, OnReboot, Outcome, for_bisect};
pub use postmortem::{
    CodeLine, Evidence, Frame, Names, PostMortem, SegmentReport, StackWord, Symbol, VcpuFindings,
    VcpuPicture, slide,
};
pub use printk::Level;
pub use report::{
    Booted, ConsoleReport, Counts, ExitTotals, MsrCount, Report, ReportError, ReportFile,
};
pub use run::{Connections, Finished, RunError, run};
pub use size::{BadSize, Size};
pub use spec::{Equipment, Extra, Input, Rules, Spec};
pub use terminal::{RawTerminal, TerminalError, restore as restore_terminal};
pub use timeline::{Mark, Step, Timeline, timing};
pub use walk::{Found, Paging, Physical, Walk, WalkStep};
pub use watch::{Alarm, AlarmCounts, Sighting, Watch};
