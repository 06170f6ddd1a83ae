//! Runs tests where the machine can, else in one lab for all of them that it takes the same lab for,
//! else says why not.
//!
//! A test program that uses this is started again inside the lab, by the same path, with the names of
//! the tests to run there; what it finds comes back as JSON lines and is merged into this run.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::need::Need;
use super::remote::{self, Group, Outcome, Profile};

/// One test. It fails by panicking.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// The rule it proves.
    pub name: &'static str,
    /// What it needs of the machine.
    pub needs: &'static [Need],
    /// The test.
    pub run: fn(),
}

/// Where a test runs.
#[derive(Debug)]
enum Place {
    Here,
    Lab(Profile),
    Nowhere(Need, String),
}

/// The `main` of a test program.
pub(crate) fn main(cases: &[Case]) -> ExitCode {
    hear_signals();
    if let Some(order) = remote::order() {
        return remote::serve(&order, cases);
    }
    let arguments = Arguments::from_args();
    let places: Vec<(Case, Place)> = cases.iter().map(|case| (*case, place(case))).collect();

    let mut wanted: BTreeMap<Profile, Vec<&'static str>> = BTreeMap::new();
    for (case, place) in &places {
        let probe = Trial::test(case.name, || Ok(()));
        if let (Place::Lab(profile), false) = (place, arguments.is_filtered_out(&probe)) {
            wanted.entry(*profile).or_default().push(case.name);
        }
    }
    let groups: BTreeMap<Profile, Arc<Group>> = wanted
        .into_iter()
        .map(|(profile, names)| (profile, Arc::new(Group::new(profile, names))))
        .collect();

    let trials = places.into_iter().map(|(case, place)| {
        let group = match &place {
            Place::Lab(profile) => groups.get(profile).cloned(),
            _ => None,
        };
        Trial::ignorable_test(case.name, move || match (place, group) {
            (Place::Nowhere(need, why), _) => unmet(need, &why),
            (_, Some(group)) => match group.outcome(case.name) {
                Outcome::Passed => Ok(Completion::Completed),
                Outcome::Failed(message) => Err(Failed::from(message)),
                Outcome::Lacks(need, why) => match case.needs.iter().find(|n| n.name() == need) {
                    Some(need) => unmet(*need, &format!("in the lab, {why}")),
                    None => Err(Failed::from(why)),
                },
            },
            _ => {
                (case.run)();
                Ok(Completion::Completed)
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A shell starts background jobs with SIGINT and SIGQUIT ignored, nohup(1) all with SIGHUP, and what they
/// start inherits that: the programs under test would never hear them. A signal that is caught here is a
/// default one there (execve(2)).
fn hear_signals() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
        if ignored.is_some_and(|mask| mask >> (signal - 1) & 1 != 0) {
            let _ = vmm_sys_util::signal::register_signal_handler(signal, nothing);
        }
    }
}

extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn place(case: &Case) -> Place {
    let lacking = |has: fn(Need) -> Result<(), String>| {
        let mut needs = case.needs.iter();
        needs.find_map(|need| has(*need).err().map(|why| (*need, why)))
    };
    let Some((_, why)) = lacking(Need::here) else {
        return Place::Here;
    };
    match lacking(Need::in_lab) {
        None => Place::Lab(Profile::of(case.needs)),
        Some((other, and)) => Place::Nowhere(other, format!("here, {why}; in the lab, {and}")),
    }
}

fn unmet(need: Need, why: &str) -> Result<Completion, Failed> {
    let why = format!("needs {}: {why}", need.name());
    if need.is_required() {
        return Err(Failed::from(format!("{why} (TRAPLINE_REQUIRE lists it)")));
    }
    Ok(Completion::ignored_with(why))
}
