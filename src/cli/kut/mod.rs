//! `trapline kut [FILE]... [--unittests F] [--group G]... [--junit F] [--tap] [--json]`

mod tests_of;

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use serde::Serialize;

use super::progress::Bar;
use super::values::{Size, Span};
use super::{Failure, Global, LabArgs, Status, out};
use crate::check::kut::{Kind, Limits, Plan, Runner, StartError, TestResult};
use crate::check::{junit, tap};
use crate::kernels::Progress;
use crate::lab::{self, Command, Decision, Exit, Need, Options};

use tests_of::Test;

/// Memory of a guest that is told nothing else (`trapline boot`).
const GUEST_MEMORY: u64 = 256 << 20;

/// Run test guests that end with a status, as those of kvm-unit-tests do
///
/// FILE is a multiboot guest (*.flat). --unittests takes smp, parameters, time limits, groups and conditions from
/// kvm-unit-tests' table, which lies beside the guests; without FILE all its tests run. A parameter that cannot
/// be honoured is a skip with the reason. Guests find testdev, pci-testdev and NR_CPUS in their environment.
#[derive(Debug, clap::Args)]
pub(super) struct Kut {
    /// Guests to run
    #[arg(value_name = "FILE", required_unless_present = "unittests")]
    files: Vec<PathBuf>,
    /// Table of tests: unittests.cfg
    #[arg(long, value_name = "FILE")]
    unittests: Option<PathBuf>,
    /// Run only tests of this group or name
    #[arg(short = 'g', long, value_name = "NAME", requires = "unittests")]
    group: Vec<String>,
    /// Architecture the guests were built for
    #[arg(long, value_name = "ARCH", default_value = "x86_64", value_parser = ["x86_64", "i386"])]
    arch: String,
    /// Tests to run at a time [default: one a CPU]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Limit of each test [default: its own, else 90s]
    #[arg(long, value_name = "DUR")]
    timeout: Option<Span>,
    /// Add a line to the guests' environment
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Keep what each guest printed, as NAME.log
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
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
#[error("cannot write {}", path.display())]
struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { path, source }
    }
}

/// A result in JSON.
#[derive(Debug, Serialize)]
struct Item<'r> {
    name: &'r str,
    file: &'r str,
    result: &'r str,
    why: &'r str,
    reported: Option<u64>,
    seconds: Option<f64>,
    notes: &'r [String],
    log: String,
}

impl Kut {
    pub(super) fn run(&self, global: &Global) -> Result<ExitCode, Failure> {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits {
            groups: self.group.clone(),
            arch: self.arch.clone(),
            timeout: self.timeout.map(|span| span.0),
            cpus,
        };
        let tests = tests_of::read(&self.files, self.unittests.as_deref(), &limits)?;
        self.try_to_write()?;
        let jobs = self.jobs.map_or(cpus, usize::from);
        match lab::choose(global.place.into(), Need::Payload) {
            Decision::Here => self.run_here(tests, jobs, global),
            // What is skipped for its own sake needs no lab; a condition is the lab's to answer.
            decision @ Decision::Lab(_) => {
                if !global.quiet {
                    out::say(&decision);
                }
                self.run_in_lab(&tests, jobs, global)
            }
        }
    }

    /// Results are not lost at the end of a long run for want of a place.
    fn try_to_write(&self) -> Result<(), Failure> {
        if let Some(path) = &self.junit {
            File::create(path).map_err(|error| Failure::usage(WriteError::at(path)(error)))?;
        }
        if let Some(path) = &self.logs {
            fs::create_dir_all(path)
                .map_err(|error| Failure::usage(WriteError::at(path)(error)))?;
        }
        Ok(())
    }

    fn run_in_lab(
        &self,
        tests: &[Test],
        jobs: usize,
        global: &Global,
    ) -> Result<ExitCode, Failure> {
        let size = |plan: &Plan| {
            let size = plan
                .memory
                .as_ref()
                .and_then(|text| text.parse::<Size>().ok());
            size.map_or(GUEST_MEMORY, |size| size.0)
        };
        let largest = tests
            .iter()
            .filter_map(|test| test.plan.as_ref().ok())
            .map(size)
            .max();
        // Guests touch little of what they have; the largest may touch all.
        let others = GUEST_MEMORY.saturating_mul(jobs as u64);
        let memory = largest.unwrap_or(GUEST_MEMORY).saturating_add(others);
        let mut options = self.lab.apply(Options::for_guest(memory));
        options.writable.extend(self.junit.clone());
        options.writable.extend(self.logs.clone());
        options.show_console = global.verbose > 1;
        let exit = lab::run(&Command::own()?, &options)?;
        if let Exit::Refused { why, .. } = &exit {
            out::say(why);
        }
        Ok(exit.into())
    }

    fn run_here(
        &self,
        tests: Vec<Test>,
        jobs: usize,
        global: &Global,
    ) -> Result<ExitCode, Failure> {
        let runner = Runner {
            program: env::current_exe().map_err(Failure::internal)?,
            environment: self.env.clone(),
        };
        if !self.tap && !self.json {
            out::print(TestResult::head())?;
        }
        let total = tests.len();
        let bar = Bar::new(global.quiet);
        let mut rows = Vec::new();
        let mut failure = None;
        each(&runner, tests, jobs, |row| {
            let place = (rows.len() + 1, total);
            match self.show(row, &bar, place, global.verbose > 0) {
                Ok(row) => rows.push(row),
                Err(error) => failure = Some(error),
            }
            failure.is_none()
        });
        bar.clear();
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.conclude(&rows)
    }

    /// Tells of a test that is over.
    fn show(
        &self,
        row: Result<TestResult, StartError>,
        bar: &Bar,
        (number, total): (usize, usize),
        notes: bool,
    ) -> Result<TestResult, Failure> {
        let row = row.map_err(Failure::internal)?;
        if let Some(dir) = &self.logs
            && row.took.is_some()
        {
            let path = dir.join(format!("{}.log", row.name.replace('/', "_")));
            fs::write(&path, row.full_log())
                .map_err(|error| Failure::internal(WriteError::at(path)(error)))?;
        }
        if !self.tap && !self.json {
            bar.clear();
            out::print(&row)?;
        }
        for note in row.notes.iter().filter(|_| notes) {
            out::say(format_args!("{}: {note}", row.name));
        }
        bar.step(&format!("{number} of {total}"));
        Ok(row)
    }

    fn conclude(&self, rows: &[TestResult]) -> Result<ExitCode, Failure> {
        if self.tap {
            out::print(tap(rows))?;
        } else if self.json {
            out::json("kut", &rows.iter().map(item).collect::<Vec<_>>())?;
        } else {
            out::line(format_args!("\n{}", tally(rows)))?;
        }
        if let Some(path) = &self.junit {
            fs::write(path, junit("trapline kut", rows))
                .map_err(|error| Failure::internal(WriteError::at(path)(error)))?;
        }
        Ok(status(rows).into())
    }
}

/// Runs tests, `jobs` at a time, and hands over each result in the order of the list. Stops when `take`
/// has had enough.
fn each(
    runner: &Runner,
    tests: Vec<Test>,
    jobs: usize,
    mut take: impl FnMut(Result<TestResult, StartError>) -> bool,
) {
    let queue = Mutex::new(tests.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let send = send.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some((index, test)) = next() {
                    let done = match test.plan {
                        Ok(plan) => runner.run(&plan),
                        Err(why) => Ok(Runner::skipped(&test.name, &test.file, why)),
                    };
                    if send.send((index, done)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        let mut early = BTreeMap::new();
        let mut wanted = 0;
        'all: for (index, done) in receive {
            early.insert(index, done);
            while let Some(done) = early.remove(&wanted) {
                wanted += 1;
                if !take(done) {
                    break 'all;
                }
            }
        }
    });
}

fn item(row: &TestResult) -> Item<'_> {
    Item {
        name: &row.name,
        file: &row.file,
        result: row.outcome.kind.word(),
        why: &row.outcome.why,
        reported: row.outcome.reported,
        seconds: row.took.map(|took| took.as_secs_f64()),
        notes: &row.notes,
        log: row.full_log(),
    }
}

fn tally(rows: &[TestResult]) -> String {
    let kinds = [
        (Kind::Pass, "passed"),
        (Kind::Fail, "failed"),
        (Kind::Skip, "skipped"),
        (Kind::Timeout, "timed out"),
        (Kind::Crash, "crashed"),
    ];
    let count = |kind| rows.iter().filter(|row| row.outcome.kind == kind).count();
    let words = kinds.map(|(kind, word)| format!("{} {word}", count(kind)));
    words.join(", ")
}

/// What the rows amount to: 0 only if nothing failed.
fn status(rows: &[TestResult]) -> Status {
    if rows.iter().any(|row| row.outcome.ours) {
        Status::Internal
    } else if rows.iter().any(|row| row.outcome.kind.is_failure()) {
        Status::Findings
    } else {
        Status::Ok
    }
}

/// The folder a file lies in.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, ours: bool) -> TestResult {
        let mut row = Runner::skipped("t", "t.flat", String::new());
        row.outcome.kind = kind;
        row.outcome.ours = ours;
        row
    }

    #[test]
    fn the_status_is_0_only_if_nothing_failed() {
        use Kind::{Crash, Fail, Pass, Skip, Timeout};
        let of = |kinds: &[Kind]| {
            let rows: Vec<_> = kinds.iter().map(|kind| row(*kind, false)).collect();
            status(&rows)
        };
        assert_eq!(of(&[Pass, Skip]), Status::Ok);
        assert_eq!(of(&[]), Status::Ok);
        for kind in [Fail, Timeout, Crash] {
            assert_eq!(of(&[Pass, kind, Skip]), Status::Findings);
        }
        assert_eq!(
            status(&[row(Fail, false), row(Crash, true)]),
            Status::Internal
        );
    }

    #[test]
    fn results_come_in_the_order_of_the_list_and_stop_when_nobody_wants_more() {
        let runner = Runner {
            program: "/nowhere/trapline".into(),
            environment: Vec::new(),
        };
        let tests = |count: usize| -> Vec<Test> {
            let test = |n: usize| Test {
                name: n.to_string(),
                file: String::new(),
                plan: Err("no".into()),
            };
            (0..count).map(test).collect()
        };
        let mut names = Vec::new();
        each(&runner, tests(100), 7, |row| {
            names.push(row.unwrap().name);
            true
        });
        let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(names, expected);
        let mut taken = 0;
        each(&runner, tests(1000), 3, |_| {
            taken += 1;
            taken < 5
        });
        assert_eq!(taken, 5);
    }

    #[test]
    fn the_tally_tells_every_kind() {
        let rows = [
            row(Kind::Pass, false),
            row(Kind::Timeout, false),
            row(Kind::Pass, false),
        ];
        assert_eq!(
            tally(&rows),
            "2 passed, 0 failed, 0 skipped, 1 timed out, 0 crashed"
        );
    }
}
