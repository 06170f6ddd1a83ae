//! What came of a test.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::check::judge::Verdict as Common;
use crate::check::told::Told;

/// What a guest writes that had nothing to test (kvm-unit-tests, report_skip()).
const SKIPPED: u64 = 77;
/// Statuses of `trapline boot` (design section 5).
const REFUSED: i32 = 64;
const HOST_LACKS: i32 = 65;
/// Lines of the log that the table shows of what failed.
const SHOWN: usize = 12;

/// How a run looked from outside.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// The exit status; none when a signal ended it.
    pub status: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Its report, when it got as far.
    pub report: Option<Value>,
    /// What the guest printed.
    pub log: String,
    /// What Trapline said.
    pub said: String,
    /// How long it took.
    pub took: Duration,
}

/// The kinds of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It reported 0.
    Pass,
    /// It reported something else, or nothing, or could not start.
    Fail,
    /// It was not run, or reported 77.
    Skip,
    /// It did not come to an end.
    Timeout,
    /// A triple fault, an error of KVM or of Trapline.
    Crash,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Skip => "skip",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
        }
    }

    /// Whether it is one that a run must not have.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Fail | Self::Timeout | Self::Crash)
    }
}

/// A verdict with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which kind.
    pub kind: Kind,
    /// One line on it.
    pub why: String,
    /// The status the guest reported, when it did.
    pub reported: Option<u64>,
    /// Whether Trapline itself failed.
    pub ours: bool,
}

impl Outcome {
    fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self {
            kind,
            why: why.into(),
            reported: None,
            ours: false,
        }
    }

    /// A test that was not run.
    #[must_use]
    pub fn skip(why: impl Into<String>) -> Self {
        Self::new(Kind::Skip, why)
    }
}

/// The ends of a report with this name.
fn end<'r>(report: &'r Value, name: &str) -> Option<&'r Value> {
    let ends = report.get("ends")?.as_array()?;
    ends.iter()
        .find(|end| end.get("end").and_then(Value::as_str) == Some(name))
}

fn reported(end: &Value) -> Option<u64> {
    let text = end.get("value")?.as_str()?.strip_prefix("0x")?;
    u64::from_str_radix(text, 16).ok()
}

/// The last line of the log that begins so.
fn line<'l>(log: &'l str, begin: &str) -> Option<&'l str> {
    let mut lines = log.lines().rev().map(str::trim);
    lines.find(|line| line.starts_with(begin))
}

/// Judges a run: what broke the machine goes before what the guest said of itself, and that before its
/// having been stopped.
#[must_use]
pub fn judge(ran: &Ran) -> Outcome {
    let Some(report) = &ran.report else {
        return without_report(ran);
    };
    let reason = report
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let has = |name| end(report, name).is_some();
    if has("vmm") {
        return Outcome {
            ours: true,
            ..Outcome::new(Kind::Crash, reason)
        };
    }
    let broken = [
        "internal_error",
        "failed_entry",
        "triple_fault",
        "panicked",
        "policy",
    ];
    if broken.into_iter().any(has) {
        return Outcome::new(Kind::Crash, reason);
    }
    let said = end(report, "exited").or_else(|| end(report, "reported"));
    if let Some(value) = said.and_then(reported) {
        let outcome = match value {
            0 => Outcome::new(Kind::Pass, line(&ran.log, "SUMMARY:").unwrap_or_default()),
            SKIPPED => {
                let why = line(&ran.log, "SKIP:").or_else(|| line(&ran.log, "SUMMARY:"));
                Outcome::skip(why.unwrap_or("the guest had nothing to test"))
            }
            value => {
                let summary = line(&ran.log, "SUMMARY:").unwrap_or_default();
                Outcome::new(Kind::Fail, format!("reported {value} {summary}").trim())
            }
        };
        return Outcome {
            reported: Some(value),
            ..outcome
        };
    }
    if has("timed_out") || has("hung") {
        return Outcome::new(Kind::Timeout, reason);
    }
    Outcome::new(Kind::Fail, format!("ended without a status: {reason}"))
}

fn without_report(ran: &Ran) -> Outcome {
    // Said of the guest's start: the last line has the reason.
    let said = ran.said.lines().rev().find(|line| !line.trim().is_empty());
    let why = said
        .unwrap_or("nothing was said")
        .trim_start_matches("trapline: ");
    match (ran.status, ran.signal) {
        (Some(HOST_LACKS), _) => Outcome::skip(why),
        (Some(REFUSED), _) => Outcome::new(Kind::Fail, format!("did not start: {why}")),
        (_, Some(signal)) => Outcome {
            ours: true,
            ..Outcome::new(
                Kind::Crash,
                format!("Trapline was ended by signal {signal}"),
            )
        },
        _ => Outcome {
            ours: true,
            ..Outcome::new(Kind::Crash, why)
        },
    }
}

/// A test and what came of it.
#[derive(Debug, Clone)]
pub struct TestResult {
    /// Its name.
    pub name: String,
    /// The guest.
    pub file: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What the guest printed.
    pub log: String,
    /// What Trapline said of a run that did not end well: the post-mortem.
    pub said: String,
    /// How long it took; none when it was not run.
    pub took: Option<Duration>,
    /// What was left out without harm, and other remarks.
    pub notes: Vec<String>,
}

impl TestResult {
    /// The line above the rows.
    #[must_use]
    pub fn head() -> String {
        columns("RESULT", "TEST", "TIME", "")
    }

    /// All there is to read of it: what the guest printed, then what Trapline said.
    #[must_use]
    pub fn full_log(&self) -> String {
        match self.said.trim_end() {
            "" => self.log.clone(),
            said => format!("{}\n--- trapline\n{said}\n", self.log.trim_end()),
        }
    }
}

fn columns(result: &str, name: &str, time: &str, why: &str) -> String {
    let line = format!("{result:<7}  {name:<34}  {time:>7}  {why}");
    format!("{}\n", line.trim_end())
}

/// The row; below it the end of the log, when it failed.
impl fmt::Display for TestResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = match self.took {
            Some(took) => format!("{:.1} s", took.as_secs_f64()),
            None => "-".to_owned(),
        };
        let outcome = &self.outcome;
        f.write_str(&columns(
            outcome.kind.word(),
            &self.name,
            &time,
            &outcome.why,
        ))?;
        if outcome.kind.is_failure() {
            let lines: Vec<&str> = self.log.lines().collect();
            let skip = lines.len().saturating_sub(SHOWN);
            for line in lines.into_iter().skip(skip) {
                writeln!(f, "         | {line}")?;
            }
        }
        Ok(())
    }
}

impl Told for TestResult {
    fn class(&self) -> &str {
        &self.file
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn title(&self) -> String {
        self.name.clone()
    }

    fn took(&self) -> Duration {
        self.took.unwrap_or_default()
    }

    fn verdict(&self) -> Common {
        let Outcome { kind, why, .. } = &self.outcome;
        match kind {
            Kind::Pass => Common::Pass {
                proof: if why.is_empty() {
                    vec![]
                } else {
                    vec![why.clone()]
                },
            },
            Kind::Skip => Common::Skip { why: why.clone() },
            Kind::Fail | Kind::Timeout | Kind::Crash => Common::Fail {
                why: format!("{}: {why}", kind.word()),
                lines: self.full_log().lines().map(str::to_owned).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ran(ends: Value, log: &str) -> Ran {
        Ran {
            status: Some(0),
            report: Some(json!({"reason": "why it ended", "ends": ends})),
            log: log.into(),
            ..Ran::default()
        }
    }

    fn exited(value: &str) -> Value {
        json!([{"end": "exited", "value": value}])
    }

    fn told(ran: &Ran) -> (Kind, String) {
        let outcome = judge(ran);
        (outcome.kind, outcome.why)
    }

    #[test]
    fn a_guests_own_status_tells_pass_skip_and_fail_apart() {
        let log = "SKIP: no SVM\nSUMMARY: 3 tests, 1 skipped\n";
        assert_eq!(
            told(&ran(exited("0x0"), log)),
            (Kind::Pass, "SUMMARY: 3 tests, 1 skipped".into())
        );
        assert_eq!(
            told(&ran(exited("0x4d"), log)),
            (Kind::Skip, "SKIP: no SVM".into())
        );
        assert_eq!(
            told(&ran(exited("0x4d"), "")),
            (Kind::Skip, "the guest had nothing to test".into())
        );
        assert_eq!(
            told(&ran(exited("0x1"), "")),
            (Kind::Fail, "reported 1".into())
        );
        let outcome = judge(&ran(exited("0x7f"), log));
        assert_eq!((outcome.kind, outcome.reported), (Kind::Fail, Some(127)));
    }

    #[test]
    fn ends_without_a_status_are_told_apart() {
        for (name, kind) in [
            ("timed_out", Kind::Timeout),
            ("hung", Kind::Timeout),
            ("triple_fault", Kind::Crash),
            ("internal_error", Kind::Crash),
            ("failed_entry", Kind::Crash),
            ("vmm", Kind::Crash),
            ("powered_off", Kind::Fail),
            ("rebooted", Kind::Fail),
        ] {
            let outcome = judge(&ran(json!([{"end": name}]), ""));
            assert_eq!(outcome.kind, kind, "{name}");
            assert!(outcome.why.contains("why it ended"), "{name}");
            assert_eq!(outcome.ours, name == "vmm");
        }
        let both = json!([{"end": "exited", "value": "0x0"}, {"end": "triple_fault"}]);
        assert_eq!(judge(&ran(both, "")).kind, Kind::Crash);
        let late = json!([{"end": "exited", "value": "0x0"}, {"end": "timed_out"}]);
        assert_eq!(judge(&ran(late, "")).kind, Kind::Pass);
    }

    #[test]
    fn a_guest_that_did_not_start_says_why() {
        let refused = |status, signal| {
            judge(&Ran {
                status,
                signal,
                said: "trapline: kernel x: is empty\n\n".into(),
                ..Ran::default()
            })
        };
        let outcome = refused(Some(64), None);
        assert_eq!(
            (outcome.kind, outcome.why.as_str()),
            (Kind::Fail, "did not start: kernel x: is empty")
        );
        assert_eq!(refused(Some(65), None).kind, Kind::Skip);
        assert!(refused(Some(74), None).ours);
        assert!(refused(None, Some(11)).why.contains("signal 11"));
    }

    #[test]
    fn a_row_shows_the_end_of_the_log_of_what_failed_alone() {
        let log: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let mut row = TestResult {
            name: "smptest".into(),
            file: "smptest.flat".into(),
            outcome: Outcome::new(Kind::Fail, "reported 1"),
            log,
            said: "trapline: post-mortem\n".into(),
            took: Some(Duration::from_millis(1_250)),
            notes: Vec::new(),
        };
        let text = row.to_string();
        assert!(text.starts_with("fail     smptest "), "{text}");
        assert!(
            text.contains("1.2 s  reported 1\n         | line 18\n"),
            "{text}"
        );
        assert!(text.ends_with("| line 29\n"), "{text}");
        assert!(
            row.full_log()
                .ends_with("line 29\n--- trapline\ntrapline: post-mortem\n")
        );
        row.outcome.kind = Kind::Pass;
        assert_eq!(row.to_string().lines().count(), 1);
    }
}
