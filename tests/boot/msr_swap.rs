//! `ctl NAME msr-policy` against a guest whose every access is known: counts, reasons, answers and RIPs, on one
//! vCPU and on four, while the policy changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::common::{Case, Need, TRAPLINE};
use super::{Run, finish};

pub(crate) const CASES: &[Case] = &[Case {
    name: "accesses_are_answered_and_counted_exactly_while_the_policy_changes",
    needs: &[Need::Kvm],
    run: swapped,
}];

const ROUNDS: u64 = 8000;

/// The filter hands both MSRs out ...
const FILTERED: &str = "[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 3\nread-only = true\n\
                        [[rule]]\nmsr = 0x667\ndo = 'emulate'\n";
/// ... or KVM does, because it does not know them: they read as zero.
const UNKNOWN: &str = "[default]\nunknown = 'ignore'\n";

fn trapline(runtime: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(TRAPLINE);
    command
        .args(["--in", "here"])
        .args(words)
        .env("XDG_RUNTIME_DIR", runtime)
        .stdin(Stdio::null());
    command
}

fn swapped() {
    for cpus in [1_u64, 4] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let policies = [("filtered", FILTERED), ("unknown", UNKNOWN)].map(|(name, text)| {
            fs::write(at(name), text).unwrap();
            at(name)
        });
        let (count, rounds) = (cpus.to_string(), ROUNDS.to_string());
        let (events, report) = (at("events"), at("report"));
        let boot = [
            "boot",
            ":msrloop",
            "-a",
            &rounds,
            "-c",
            &count,
            "--name",
            "swap",
            "--timeout",
            "120s",
            "--events",
            &events,
            "--json",
            &report,
            "--msr-policy",
            &policies[0],
        ];
        let mut guest = trapline(folder.path(), &boot);
        let guest = guest.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guest = guest.spawn().unwrap();
        let mut swaps = 0_usize;
        while guest.try_wait().unwrap().is_none() {
            let next = &policies[(swaps + 1) % 2];
            let changed = finish(trapline(
                folder.path(),
                &["ctl", "swap", "msr-policy", next],
            ));
            // Before it listens, and once it is over, nobody answers.
            swaps += usize::from(changed.status == Some(0));
        }
        let output = guest.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let run = Run {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        run.ends(0).prints(&format!("{cpus} CPUs read at "));
        assert!(swaps >= 2, "the policy was changed {swaps} times");
        check(cpus, &run, &events, &report);
    }
}

/// The number behind some words of what the guest printed.
fn told(run: &Run, words: &str) -> u64 {
    let rest = run.stdout.split(words).nth(1).unwrap_or_default();
    let word = rest
        .split([' ', ':', '\r', '\n'])
        .next()
        .unwrap_or_default();
    let hex = word
        .strip_prefix("0x")
        .map(|hex| u64::from_str_radix(hex, 16));
    hex.unwrap_or_else(|| word.parse())
        .unwrap_or_else(|_| panic!("{words}: {}", run.stdout))
}

fn check(cpus: u64, run: &Run, events: &str, report: &str) {
    let rips = [
        ("read", told(run, "read at ")),
        ("write", told(run, "wrote at ")),
    ];
    let mut came: BTreeMap<(u64, String), u64> = BTreeMap::new();
    let mut by_reason = BTreeMap::from([(2, 0_u64), (4, 0)]);
    for line in fs::read_to_string(events).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["event"] != "msr" {
            continue;
        }
        let (direction, reason) = (
            event["direction"].as_str().unwrap(),
            event["reason"].as_u64().unwrap(),
        );
        let index = if direction == "read" {
            "0x666"
        } else {
            "0x667"
        };
        assert_eq!(
            (&event["index"], &event["refused"]),
            (&index.into(), &false.into()),
            "{line}"
        );
        let rip = rips.iter().find(|(way, _)| *way == direction).unwrap().1;
        assert_eq!(event["rip"], format!("{rip:#x}"), "{line}");
        if direction == "read" {
            let answer = if reason == 4 { "0x3" } else { "0x0" };
            assert_eq!(event["value"], answer, "{line}");
            *by_reason.get_mut(&reason).expect("filtered or unknown") += 1;
        }
        *came
            .entry((event["vcpu"].as_u64().unwrap(), direction.into()))
            .or_default() += 1;
    }
    let expected: BTreeMap<_, _> = (0..cpus)
        .flat_map(|vcpu| ["read", "write"].map(|way| ((vcpu, way.to_owned()), ROUNDS)))
        .collect();
    assert_eq!(came, expected);
    assert_eq!(told(run, "sum up to "), 3 * by_reason[&4], "{by_reason:?}");
    assert!(
        by_reason.values().all(|count| *count > 0),
        "each policy answered some: {by_reason:?}"
    );
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["events"]["dropped"], 0);
    let sum = ROUNDS * cpus;
    let counts = serde_json::json!([
        {"index": "0x666", "reads": sum, "writes": 0, "refused": 0},
        {"index": "0x667", "reads": 0, "writes": sum, "refused": 0},
    ]);
    assert_eq!(report["counts"]["msrs"], counts);
}
