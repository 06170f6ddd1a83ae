//! A result as other programs are told of it, whatever was run.

use std::time::Duration;

use super::judge::Verdict;

/// What the writers of TAP and JUnit ask of a result.
pub trait Told {
    /// What it belongs to: JUnit's class name.
    fn class(&self) -> &str;
    /// Its name in there.
    fn name(&self) -> &str;
    /// Both in one line.
    fn title(&self) -> String;
    /// How long it took.
    fn took(&self) -> Duration;
    /// What came of it, with its lines.
    fn verdict(&self) -> Verdict;
}
