//! Tests in a lab: the side that starts it, and the side inside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::TRAPLINE;
use super::harness::Case;
use super::need::Need;

/// Names the file with an [`Order`] for a test program inside a lab.
const ORDER: &str = "TRAPLINE_TEST_ORDER";
/// How long one lab may take for all its tests.
const LIMIT: Duration = Duration::from_secs(60 * 60);
/// Memory of such a lab: small guests, several at a time.
const MEMORY: &str = "3G";

/// What tells one lab from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Profile {
    devices: bool,
    own_kernel: bool,
}

impl Profile {
    pub(crate) fn of(needs: &[Need]) -> Self {
        Self {
            devices: needs
                .iter()
                .any(|need| matches!(need, Need::Vfio | Need::Iommu | Need::Iommufd)),
            own_kernel: needs.contains(&Need::Iommufd),
        }
    }
}

/// How a test in a lab ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    /// The lab lacks this need after all, and why.
    Lacks(String, String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    names: Vec<String>,
    results: PathBuf,
}

/// All tests that share a lab. The first that is asked for starts it.
#[derive(Debug)]
pub(crate) struct Group {
    profile: Profile,
    names: Vec<&'static str>,
    results: OnceLock<Results>,
}

#[derive(Debug)]
struct Results {
    outcomes: BTreeMap<String, Outcome>,
    /// What the lab said, for tests without an outcome.
    said: String,
}

impl Group {
    pub(crate) fn new(profile: Profile, names: Vec<&'static str>) -> Self {
        Self {
            profile,
            names,
            results: OnceLock::new(),
        }
    }

    /// How one of its tests ended.
    pub(crate) fn outcome(&self, name: &str) -> Outcome {
        let results = self.results.get_or_init(|| self.run());
        let outcome = results.outcomes.get(name).cloned();
        outcome.unwrap_or_else(|| {
            Outcome::Failed(format!(
                "the lab ended before this test did; it said:\n{}",
                results.said
            ))
        })
    }

    fn run(&self) -> Results {
        // One at a time: labs are large.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);

        let shared = tempfile::tempdir().unwrap();
        let order = Order {
            names: self.names.iter().map(|name| (*name).into()).collect(),
            results: shared.path().join("results"),
        };
        let order_file = shared.path().join("order");
        fs::write(&order_file, serde_json::to_vec(&order).unwrap()).unwrap();

        let mut command = Command::new(TRAPLINE);
        command.args(["lab", "--lab-mem", MEMORY, "--share"]);
        command.arg(shared.path());
        if !self.profile.devices {
            command.arg("--no-devices");
        }
        if self.profile.own_kernel {
            command.args(["--lab-kernel", "lab"]);
        }
        command.arg("--").arg(env::current_exe().unwrap());
        command.env(ORDER, &order_file).stdin(Stdio::null());
        let said = output(command);

        let lines = fs::read_to_string(&order.results).unwrap_or_default();
        let outcomes = lines
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        Results {
            outcomes: outcomes.collect(),
            said,
        }
    }
}

/// Runs a command for at most [`LIMIT`] and gives the end of what it said.
fn output(mut command: Command) -> String {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (done, limit) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if limit.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    let _ = watchdog.join();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    let end = lines.len().saturating_sub(40);
    format!("{}\n({})", lines[end..].join("\n"), output.status)
}

/// The order for this process, when it runs inside a lab to do one.
pub(crate) fn order() -> Option<Order> {
    let file = env::var_os(ORDER)?;
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// Tests at a time in a lab: as many as it has processors here, and its memory holds two guests with ease.
const AT_A_TIME: usize = 2;

/// Does an order: each result is on disk before its thread starts the next test.
pub(crate) fn serve(order: &Order, cases: &[Case]) -> ExitCode {
    thread_local! {
        static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    }
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANIC.set(info.to_string());
        usual(info);
    }));
    let results = Mutex::new(File::create(&order.results).unwrap());
    let ordered = |case: &&Case| order.names.iter().any(|name| name == case.name);
    let waiting = Mutex::new(cases.iter().filter(ordered));
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let mut needs = case.needs.iter();
                    let lacks = needs.find_map(|need| need.here().err().map(|why| (need, why)));
                    let outcome = match lacks {
                        Some((need, why)) => Outcome::Lacks(need.name().into(), why),
                        None => match panic::catch_unwind(case.run) {
                            Ok(()) => Outcome::Passed,
                            Err(_) => Outcome::Failed(PANIC.take()),
                        },
                    };
                    let line = serde_json::to_string(&(case.name, outcome)).unwrap();
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    writeln!(results, "{line}").unwrap();
                }
            });
        }
    });
    ExitCode::SUCCESS
}
