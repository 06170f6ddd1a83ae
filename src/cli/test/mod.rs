//! `trapline test [NAME...] [--list] [--kernel K]... [--junit F] [--tap] [--json]`

mod list;
mod plan;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::progress::Bar;
use super::{Failure, Global, LabArgs, Status, out};
use crate::check::{
    Boot, EXPERIMENTS, Experiment, Row, RunError, Tally, Verdict, find, hand_on_signals, judge,
    junit, tap,
};
use crate::kernels::{Cache, Kernel, Progress};
use crate::lab::{self, Command, Decision, Exit, Need, Options};

use plan::{Job, Planner};

/// Memory of a guest that is told nothing else (`trapline boot`).
const GUEST_MEMORY: u64 = 256 << 20;

/// Make experiments in a guest, and show what proves their outcome
///
/// Each boots a kernel, loads a module into it and holds what happens against what that kernel's
/// configuration lets one expect. Without --kernel each runs on one kernel of the cache for every
/// outcome it can have.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// Which experiments [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// List the experiments, and what is expected of which kernel
    #[arg(long, conflicts_with_all = ["kernel", "junit", "tap"])]
    list: bool,
    /// A kernel to make them on: a name in the cache, an image or a build directory
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// Also write the results as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print the Test Anything Protocol instead of the table
    #[arg(long, conflicts_with = "json")]
    tap: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lab: LabArgs,
}

/// A file of results that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct JunitError {
    path: PathBuf,
    source: std::io::Error,
}

/// A result in JSON.
#[derive(Debug, Serialize)]
struct Item<'r> {
    experiment: &'r str,
    shows: &'r str,
    kernel: Option<&'r str>,
    expects: &'r str,
    result: &'r str,
    why: Option<&'r str>,
    lines: &'r [String],
    status: Option<u8>,
    seconds: f64,
}

impl Test {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        let chosen = self.chosen()?;
        if self.list {
            return list::print(&chosen, self.json).map(ExitCode::from);
        }
        let cache = Cache::from_env().map_err(plan::of_kernels)?;
        if let Some(path) = &self.junit {
            File::create(path).map_err(|source| Failure::usage(self.junit_error(path, source)))?;
        }
        let inside = lab::inside();
        // In a lab everything takes ten times as long, and the one who started it has tried already.
        let planner = Planner::new(&cache, !inside, global.quiet);
        let jobs = planner.plan(&chosen, &self.kernel)?;
        match lab::choose(global.place.into(), Need::Linux) {
            Decision::Here => self.run_here(jobs, global),
            decision @ Decision::Lab(_) => {
                if !jobs.iter().any(Job::is_boot) {
                    return self.run_here(jobs, global);
                }
                if !global.quiet {
                    out::say(&decision);
                }
                self.run_in_lab(global)
            }
        }
    }

    fn chosen(&self) -> Result<Vec<&'static Experiment>, Failure> {
        if self.names.is_empty() {
            return Ok(EXPERIMENTS.iter().collect());
        }
        let unknown = |name: &String| {
            let score = |e: &&Experiment| strsim::jaro_winkler(e.name, name);
            let nearest = EXPERIMENTS
                .iter()
                .max_by(|a, b| score(a).total_cmp(&score(b)));
            let hint = nearest.filter(|e| score(e) > 0.7);
            let hint = hint.map_or_else(String::new, |e| format!("; did you mean {}?", e.name));
            Failure::usage(format!(
                "no experiment {name:?}{hint} (trapline test --list shows all)"
            ))
        };
        let names = self.names.iter();
        names
            .map(|name| find(name).ok_or_else(|| unknown(name)))
            .collect()
    }

    fn run_in_lab(&self, global: &Global) -> Result<ExitCode, Failure> {
        let mut options = self.lab.apply(Options::for_guest(GUEST_MEMORY));
        options.writable.extend(self.junit.clone());
        options.show_console = global.verbose > 1;
        let exit = lab::run(&Command::own()?, &options)?;
        if let Exit::Refused { why, .. } = &exit {
            out::say(why);
        }
        Ok(exit.into())
    }

    fn run_here(&self, jobs: Vec<Job>, global: &Global) -> Result<ExitCode, Failure> {
        let program = env::current_exe().map_err(Failure::internal)?;
        hand_on_signals().map_err(Failure::internal)?;
        let table = !self.tap && !self.json;
        if table {
            out::print(Row::head())?;
        }
        let mut rows = Vec::new();
        for job in jobs {
            let row = match make(job, &program, global) {
                Ok(row) => row,
                Err(RunError::Signal { signal, .. }) => {
                    let signal = u8::try_from(signal).unwrap_or(0);
                    return Ok(ExitCode::from(128 | signal));
                }
                Err(error) => return Err(Failure::internal(error)),
            };
            if table {
                out::print(&row)?;
            }
            // The user has ended the boot, and means all of it.
            if let Some(status @ (130 | 143)) = row.status {
                return Ok(ExitCode::from(status));
            }
            rows.push(row);
        }
        self.conclude(&rows)
    }

    fn conclude(&self, rows: &[Row]) -> Result<ExitCode, Failure> {
        let tally = Tally::of(rows);
        if self.tap {
            out::print(tap(rows))?;
        } else if self.json {
            out::json("test", &rows.iter().map(item).collect::<Vec<_>>())?;
        } else {
            out::line(format_args!("\n{tally}"))?;
        }
        if let Some(path) = &self.junit {
            let written = fs::write(path, junit("trapline test", rows));
            written.map_err(|source| Failure::internal(self.junit_error(path, source)))?;
        }
        Ok(status(rows, tally).into())
    }

    fn junit_error(&self, path: &Path, source: std::io::Error) -> JunitError {
        JunitError {
            path: path.into(),
            source,
        }
    }
}

/// What the rows amount to.
fn status(rows: &[Row], tally: Tally) -> Status {
    let failed = |row: &&Row| matches!(row.verdict, Verdict::Fail { .. });
    let broke = |row: &Row| row.status == Some(Status::Internal as u8);
    if rows.iter().filter(failed).any(broke) {
        Status::Internal
    } else if tally.failed > 0 {
        Status::Findings
    } else if tally.passed == 0 {
        Status::Host
    } else {
        Status::Ok
    }
}

/// Makes one experiment.
fn make(job: Job, program: &Path, global: &Global) -> Result<Row, RunError> {
    let mut row = Row {
        name: job.experiment.name,
        shows: job.experiment.shows,
        kernel: job.kernel.as_ref().map(|kernel| kernel.name.clone()),
        expects: job.case.map_or("-", |case| case.expects),
        verdict: Verdict::Skip { why: String::new() },
        status: None,
        took: Duration::ZERO,
    };
    let (modules, case) = match (job.modules, job.case) {
        (Ok(modules), Some(case)) => (modules, case),
        (modules, _) => {
            let why = modules.err().unwrap_or_default();
            row.verdict = Verdict::Skip { why };
            return Ok(row);
        }
    };
    let kernel = job.kernel.as_ref().map_or_else(PathBuf::new, whereabouts);
    let boot = Boot {
        program,
        kernel: &kernel,
        modules: modules.as_deref(),
    };
    let bar = Bar::new(global.quiet);
    bar.step(&format!("{} on {}", row.name, row.kernel()));
    let ran = boot.run(case)?;
    bar.clear();
    row.verdict = judge(case, &ran);
    row.status = Some(ran.status);
    row.took = ran.took;
    Ok(row)
}

/// A path, for a name may also be that of something in the working directory.
fn whereabouts(kernel: &Kernel) -> PathBuf {
    match kernel.image.parent() {
        Some(entry) if kernel.flavour.is_some() => entry.into(),
        _ => kernel.name.clone().into(),
    }
}

fn item(row: &Row) -> Item<'_> {
    let (why, lines) = match &row.verdict {
        Verdict::Pass { proof } => (None, proof.as_slice()),
        Verdict::Fail { why, lines } => (Some(why.as_str()), lines.as_slice()),
        Verdict::Skip { why } => (Some(why.as_str()), &[][..]),
    };
    Item {
        experiment: row.name,
        shows: row.shows,
        kernel: row.kernel.as_deref(),
        expects: row.expects,
        result: row.verdict.word(),
        why,
        lines,
        status: row.status,
        seconds: row.took.as_secs_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict, status: u8) -> Row {
        Row {
            name: "x",
            shows: "",
            kernel: None,
            expects: "",
            verdict,
            status: Some(status),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn the_status_says_what_the_rows_amount_to() {
        let pass = || row(Verdict::Pass { proof: vec![] }, 70);
        let skip = || row(Verdict::Skip { why: String::new() }, 0);
        let fail = |status| {
            let verdict = Verdict::Fail {
                why: String::new(),
                lines: vec![],
            };
            row(verdict, status)
        };
        let table = [
            (vec![pass(), skip()], Status::Ok),
            (vec![pass(), fail(0)], Status::Findings),
            (vec![fail(0), fail(74), pass()], Status::Internal),
            (vec![skip()], Status::Host),
            (vec![], Status::Host),
        ];
        for (rows, expected) in table {
            assert_eq!(status(&rows, Tally::of(&rows)), expected, "{rows:?}");
        }
    }
}
