//! `trapline msr list|get|set|matrix|diff|explain|trace`

mod access;
mod diff;
mod explain;
mod list;
mod matrix;
mod trace;

use std::process::ExitCode;

use super::{Failure, Global, LabArgs, Status, out};
use crate::lab::{self, Command, Decision, Exit, Need, Options};
use crate::msr::policy::{Problem, Scope, target};
use crate::probe::ProbeError;
use crate::vm::cpuid::Profile;

/// List, read, write, try, compare, explain and trace MSRs
#[derive(Debug, clap::Args)]
pub(super) struct Msr {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    lab: LabArgs,
}

/// The CPU that decides which MSRs there are.
#[derive(Debug, clap::Args)]
struct CpuArg {
    /// The guest's CPU, as for `boot`
    #[arg(
        long,
        value_name = "SPEC",
        default_value = "host",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    cpu: Profile,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::List),
    Get(access::Get),
    Set(access::Set),
    Matrix(matrix::MatrixArgs),
    Diff(diff::Diff),
    Explain(explain::Explain),
    Trace(Box<trace::Trace>),
}

impl Msr {
    pub(super) fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        // A guest is booted where guests are booted.
        if let Verb::Trace(trace) = self.verb {
            return trace.run(self.lab, global);
        }
        // What is explained or compared is the same everywhere; the rest asks /dev/kvm.
        if !matches!(self.verb, Verb::Explain(_) | Verb::Diff(_))
            && let Some(status) = self.elsewhere(global)?
        {
            return Ok(status.into());
        }
        match &self.verb {
            Verb::List(list) => list.run(),
            Verb::Get(get) => get.run(),
            Verb::Set(set) => set.run(),
            Verb::Matrix(matrix) => matrix.run(global.quiet),
            Verb::Diff(diff) => diff.run(),
            Verb::Explain(explain) => explain.run(),
            Verb::Trace(_) => Ok(Status::Ok),
        }
        .map(ExitCode::from)
    }

    fn elsewhere(&self, global: &Global) -> Result<Option<u8>, Failure> {
        let decision = lab::choose(global.place.into(), Need::Payload);
        if decision == Decision::Here {
            return Ok(None);
        }
        if !global.quiet {
            out::say(&decision);
        }
        let exit = lab::run(&Command::own()?, &self.lab.apply(Options::default()))?;
        if let Exit::Refused { why, .. } = &exit {
            out::say(why);
        }
        Ok(Some(exit.status()))
    }
}

/// The MSRs that a word names, and whether it names exactly one.
fn named(word: &str) -> Result<(bool, Vec<u32>), Failure> {
    let (scope, ranges) = target(word).map_err(Failure::usage)?;
    let indices: Vec<u32> = ranges
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .take(MOST)
        .collect();
    if indices.len() == MOST {
        return Err(Failure::usage(format!(
            "{word} names more than {MOST} MSRs"
        )));
    }
    Ok((scope == Scope::Single, indices))
}

/// MSRs that one word may name here.
const MOST: usize = 1 << 16;

/// A number of the command line.
fn number(text: &str) -> Result<u64, Failure> {
    crate::msr::policy::number(text).map_err(|problem: Problem| Failure::usage(problem))
}

fn of_probe(error: ProbeError) -> Failure {
    match error {
        ProbeError::Open(_) | ProbeError::Vm(_) | ProbeError::Cpuid(_) => Failure::host(error),
        _ => Failure::internal(error),
    }
}
