//! `trapline msr trace [boot's arguments] [--trace FILE] [--as-policy FILE]`

use std::process::ExitCode;

use super::{Failure, Global, LabArgs};
use crate::cli::boot::{BootArgs, TraceFiles};

/// Boot a guest and record every MSR access that can be seen
///
/// Takes what `boot` takes. When the guest has ended, standard output has a line for each MSR, below what the
/// guest printed: how often it was read, written and refused, and by whom first.
#[derive(Debug, clap::Args)]
pub(super) struct Trace {
    #[command(flatten)]
    files: TraceFiles,
    #[command(flatten)]
    boot: BootArgs,
}

impl Trace {
    pub(super) fn run(mut self, lab: LabArgs, global: &Global) -> Result<ExitCode, Failure> {
        self.boot.msr_trace = Some(self.files);
        self.boot.lab = self.boot.lab.over(lab);
        self.boot.run(global)
    }
}
