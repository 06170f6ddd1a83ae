//! Experiments in a guest: what each shows, what a kernel is expected to do, and whether it did.
//!
//! An experiment is a boot of its own: a module of `guest/modules` is loaded, or a script runs, and the
//! exit status and the lines on the console are held against what that kernel's configuration lets one
//! expect. The boot is `trapline boot` in a process of its own, which anybody can repeat.

mod case;
mod experiments;
mod judge;
mod junit;
pub mod kut;
mod pattern;
mod report;
mod run;
mod stop;
mod tap;
mod told;

pub use case::{Case, Config, Experiment, Line, Setup, Source};
pub use experiments::{EXPERIMENTS, find};
pub use judge::{Ran, Verdict, judge};
pub use junit::junit;
pub use report::{Row, Tally};
pub use run::{Boot, RunError};
pub use stop::hand_on_signals;
pub use tap::tap;
pub use told::Told;

/// The sources of the modules.
pub const SOURCES: [(&str, &str); 7] = [
    ("Kbuild", include_str!("../../guest/modules/Kbuild")),
    (
        "experiment.h",
        include_str!("../../guest/modules/experiment.h"),
    ),
    (
        "trapline_stack.c",
        include_str!("../../guest/modules/trapline_stack.c"),
    ),
    (
        "trapline_dma.c",
        include_str!("../../guest/modules/trapline_dma.c"),
    ),
    (
        "trapline_memory.c",
        include_str!("../../guest/modules/trapline_memory.c"),
    ),
    (
        "trapline_lockup.c",
        include_str!("../../guest/modules/trapline_lockup.c"),
    ),
    (
        "trapline_tsc.c",
        include_str!("../../guest/modules/trapline_tsc.c"),
    ),
];
