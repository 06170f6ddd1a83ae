//! From what a boot said to what it proves.

use std::time::Duration;

use super::case::{Case, Line, Source};
use super::pattern::matches;

/// What a module or a script says that cannot do its experiment on this machine.
const SKIP: &str = ": skip: ";
/// Lines of the console that a failure shows.
const TAIL: usize = 12;

/// A boot that is over.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its exit status.
    pub status: u8,
    /// What the guest said.
    pub console: String,
    /// What Trapline said.
    pub said: String,
    /// How long it took.
    pub took: Duration,
}

/// What came of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It showed what it was to show.
    Pass {
        /// The lines that prove it.
        proof: Vec<String>,
    },
    /// It did not.
    Fail {
        /// What is wrong.
        why: String,
        /// The lines there were: those found, then the last ones.
        lines: Vec<String>,
    },
    /// It could not be made here.
    Skip {
        /// Why not, and what mends it.
        why: String,
    },
}

impl Verdict {
    /// `pass`, `fail`, `skip`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pass { .. } => "pass",
            Self::Fail { .. } => "fail",
            Self::Skip { .. } => "skip",
        }
    }
}

/// Holds a boot against what was expected of it.
#[must_use]
pub fn judge(case: &Case, ran: &Ran) -> Verdict {
    if let Some(why) = skipped(&ran.console) {
        return Verdict::Skip { why };
    }
    let (mut console, mut said) = (ran.console.lines(), ran.said.lines());
    let mut proof = Vec::new();
    for line in case.lines {
        let found = match line.source {
            Source::Console => console.find(|text| matches(line.pattern, text)),
            Source::Trapline => said.find(|text| matches(line.pattern, text)),
        };
        let Some(text) = found else {
            return fail(missing(line), proof, ran);
        };
        proof.push(tidy(text));
    }
    let forbidden = ran.console.lines().find_map(|text| {
        let never = case.never.iter().find(|never| matches(never, text))?;
        Some(format!("a line must not hold {never:?}: {}", tidy(text)))
    });
    if let Some(why) = forbidden {
        return fail(why, proof, ran);
    }
    if ran.status != case.status {
        let (status, expected) = (ran.status, case.status);
        return fail(format!("status {status}, expected {expected}"), proof, ran);
    }
    Verdict::Pass { proof }
}

fn skipped(console: &str) -> Option<String> {
    let mut lines = console.lines().filter(|line| line.contains("trapline_"));
    let why = lines.find_map(|line| Some(line.split_once(SKIP)?.1))?;
    Some(tidy(why))
}

fn missing(line: &Line) -> String {
    let who = match line.source {
        Source::Console => "the guest",
        Source::Trapline => "Trapline",
    };
    format!("{who} did not say {:?}", line.pattern)
}

fn fail(why: String, mut lines: Vec<String>, ran: &Ran) -> Verdict {
    for text in [&ran.console, &ran.said] {
        let all: Vec<_> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let from = all.len().saturating_sub(TAIL);
        lines.extend(all.iter().skip(from).map(|line| tidy(line)));
    }
    Verdict::Fail { why, lines }
}

/// A line as it can be printed: the guest may have said anything.
fn tidy(line: &str) -> String {
    line.trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::case::{Setup, guest, trapline};
    use super::*;

    const CASE: Case = Case {
        on: &[],
        from: "",
        expects: "",
        setup: Setup::module("trapline_stack", ""),
        status: 70,
        lines: &[
            guest("going down"),
            guest("BUG: * guard page"),
            trapline("oopsed"),
        ],
        never: &["unnoticed"],
    };

    fn ran(status: u8, console: &str, said: &str) -> Ran {
        Ran {
            status,
            console: console.into(),
            said: said.into(),
            took: Duration::ZERO,
        }
    }

    const GOOD: &str = "[1] going down\r\n[2] more\r\n[3] BUG: TASK stack guard page was hit\r\n";
    const SAID: &str = "trapline: guest kernel oopsed: BUG";

    #[test]
    fn the_lines_that_prove_it_are_those_of_the_patterns() {
        let Verdict::Pass { proof } = judge(&CASE, &ran(70, GOOD, SAID)) else {
            panic!("it did what was expected");
        };
        let expected = [
            "[1] going down",
            "[3] BUG: TASK stack guard page was hit",
            "trapline: guest kernel oopsed: BUG",
        ];
        assert_eq!(proof, expected);
    }

    #[test]
    fn each_expectation_alone_can_fail_it() {
        let late = format!("{GOOD}[4] the overflow went unnoticed\n");
        let table = [
            (ran(0, GOOD, SAID), "status 0, expected 70"),
            (ran(70, GOOD, ""), "Trapline did not say \"oopsed\""),
            (
                ran(70, "[1] going down\n", SAID),
                "the guest did not say \"BUG: * guard page\"",
            ),
            (
                ran(70, "BUG: a guard page\ngoing down\n", SAID),
                "the guest did not say \"BUG: * guard page\"",
            ),
            (
                ran(70, &late, SAID),
                "a line must not hold \"unnoticed\": [4] the overflow went unnoticed",
            ),
        ];
        for (ran, expected) in table {
            let Verdict::Fail { why, lines } = judge(&CASE, &ran) else {
                panic!("{expected}");
            };
            assert_eq!(why, expected);
            assert!(!lines.is_empty());
        }
    }

    #[test]
    fn a_module_that_cannot_says_why_and_a_program_cannot_say_it_for_one() {
        let text = "[1] trapline_memory: skip: this processor has no SMAP\n";
        let expected = Verdict::Skip {
            why: "this processor has no SMAP".into(),
        };
        assert_eq!(judge(&CASE, &ran(0, text, "")), expected);
        let other = judge(&CASE, &ran(0, "rsync: skip: a file\n", ""));
        assert!(matches!(other, Verdict::Fail { .. }));
    }

    #[test]
    fn what_the_guest_prints_cannot_drive_a_terminal() {
        assert_eq!(tidy("a\x1b[2Jb\tc\r"), "a [2Jb c");
    }
}
