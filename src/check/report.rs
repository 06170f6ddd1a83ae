//! What is told of experiments when they are over.

use std::fmt;
use std::time::Duration;

use super::judge::Verdict;
use super::told::Told;

/// One experiment on one kernel.
#[derive(Debug, Clone)]
pub struct Row {
    /// The experiment.
    pub name: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// The kernel; none when there is none that it is for.
    pub kernel: Option<String>,
    /// What was expected there.
    pub expects: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// The exit status of the boot, when there was one.
    pub status: Option<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Row {
    /// The kernel's name, or `-`.
    #[must_use]
    pub fn kernel(&self) -> &str {
        self.kernel.as_deref().unwrap_or("-")
    }

    /// The line above the rows.
    #[must_use]
    pub fn head() -> String {
        columns(
            "RESULT",
            "EXPERIMENT",
            "KERNEL",
            "TIME",
            "WHAT WAS EXPECTED",
        )
    }
}

fn columns(result: &str, name: &str, kernel: &str, time: &str, expects: &str) -> String {
    format!("{result:<6}  {name:<18}  {kernel:<16}  {time:>7}  {expects}\n")
}

/// The row, and the lines that prove it.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = match self.status {
            Some(_) => format!("{:.1} s", self.took.as_secs_f64()),
            None => "-".to_owned(),
        };
        let word = self.verdict.word();
        f.write_str(&columns(
            word,
            self.name,
            self.kernel(),
            &time,
            self.expects,
        ))?;
        let mut told = |text: &str| writeln!(f, "        | {text}");
        match &self.verdict {
            Verdict::Pass { proof } => proof.iter().try_for_each(|line| told(line))?,
            Verdict::Skip { why } => why.lines().try_for_each(told)?,
            Verdict::Fail { why, lines } => {
                told(&format!("not as expected: {why}"))?;
                lines.iter().try_for_each(|line| told(line))?;
            }
        }
        match (self.status, &self.verdict) {
            (Some(status), Verdict::Pass { .. }) => writeln!(f, "        | exit status {status}"),
            _ => Ok(()),
        }
    }
}

impl Told for Row {
    fn class(&self) -> &str {
        self.kernel()
    }

    fn name(&self) -> &str {
        self.name
    }

    fn title(&self) -> String {
        format!("{} on {}", self.name, self.kernel())
    }

    fn took(&self) -> Duration {
        self.took
    }

    fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }
}

/// How many there were of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

impl Tally {
    /// Counts them.
    #[must_use]
    pub fn of(rows: &[Row]) -> Self {
        let mut tally = Self::default();
        for row in rows {
            let count = match row.verdict {
                Verdict::Pass { .. } => &mut tally.passed,
                Verdict::Fail { .. } => &mut tally.failed,
                Verdict::Skip { .. } => &mut tally.skipped,
            };
            *count += 1;
        }
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
pub(super) fn sample(verdict: Verdict) -> Row {
    Row {
        name: "stack-overflow",
        shows: "what happens",
        kernel: Some("debian-6.12".into()),
        expects: "the guard page catches it",
        status: (!matches!(verdict, Verdict::Skip { .. })).then_some(70),
        verdict,
        took: Duration::from_millis(9_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_proof_below_it() {
        let row = sample(Verdict::Pass {
            proof: vec!["[    3.1] BUG: TASK stack guard page was hit".into()],
        });
        assert_eq!(
            row.to_string(),
            "pass    stack-overflow      debian-6.12         9.4 s  the guard page catches it\n        \
             | [    3.1] BUG: TASK stack guard page was hit\n        \
             | exit status 70\n"
        );
        assert_eq!(Row::head().find("KERNEL"), row.to_string().find("debian"));
    }

    #[test]
    fn rows_are_counted_by_kind() {
        let why = String::new;
        let rows = [
            sample(Verdict::Pass { proof: vec![] }),
            sample(Verdict::Skip { why: why() }),
            sample(Verdict::Fail {
                why: why(),
                lines: vec![],
            }),
            sample(Verdict::Skip { why: why() }),
        ];
        let tally = Tally::of(&rows);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
    }
}
