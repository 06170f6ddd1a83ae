//! Watches the guest's console for a kernel in trouble, and keeps its last lines.
//!
//! Who speaks is told by the stamp. A kernel that introduced itself with one (`[    0.000000] Linux
//! version`) stamps every line, so unstamped words are a program's; one that introduced itself
//! without never does. Before any introduction (`quiet`, a kernel that never gets that far, a guest
//! that is not Linux) both forms are taken, but only texts that no program prints by chance.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::collections::VecDeque;

use serde::Serialize;

use super::printk::{Level, Meaning, Stamp, meaning, split_stamp, stamped, strip_priority};

/// Bytes of a line that are kept; the rest of a longer one is dropped. LOG_LINE_MAX is 1024 less a
/// prefix.
const LINE_MAX: usize = 1024;
/// Lines kept for the post-mortem.
const LAST_LINES: usize = 64;
/// Alarms remembered, so that a `dmesg` in the guest does not raise them again.
const REMEMBERED: usize = 16;

/// Something the console said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// A kernel in trouble.
    Alarm(Alarm),
    /// The report that an alarm opened is complete.
    ReportEnds,
}

/// A line that says that the kernel is in trouble.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// How bad.
    pub level: Level,
    /// The kernel's words, without stamp.
    pub line: String,
}

/// How often each level was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AlarmCounts {
    /// Complaints.
    pub warnings: u64,
    /// Oopses, each counted once however many lines it has.
    pub oopses: u64,
    /// Panics.
    pub panics: u64,
}

/// From `BUG: unable to handle` to `Oops:` there are the reason and the page table walk.
const HEADLINES_WITHIN: u8 = 16;

/// Whether the kernel stamps its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stamps {
    #[default]
    Unknown,
    Yes,
    No,
}

/// The watch. Memory is bounded whatever the guest prints.
#[derive(Debug, Default)]
pub struct Watch {
    line: Vec<u8>,
    /// The line ended with a carriage return: a line feed makes it a line, anything else writes
    /// over it.
    returned: bool,
    last: VecDeque<String>,
    stamps: Stamps,
    /// The newest stamp at the start of a line.
    newest: Stamp,
    /// Lines in which a further headline still belongs to the `die()` before it.
    dying: u8,
    remembered: VecDeque<(Stamp, String)>,
    counts: AlarmCounts,
}

impl Watch {
    /// A watch that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the guest printed, in chunks of any size, and tells `seen` what it means.
    pub fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Sighting)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n' || b == b'\r') {
            let (head, tail) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
            self.append(head);
            let (terminator, rest) = tail.split_first().unwrap_or((&b'\n', &[]));
            if *terminator == b'\n' {
                self.end_line(&mut seen);
            } else {
                self.returned = true;
            }
            bytes = rest;
        }
        self.append(bytes);
    }

    /// The guest says no more: an unfinished line counts.
    pub fn finish(&mut self, mut seen: impl FnMut(Sighting)) {
        if !self.line.is_empty() {
            self.end_line(&mut seen);
        }
    }

    /// The last lines, oldest first; an unfinished one is the last.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        let unfinished = (!self.line.is_empty()).then(|| plain(&self.line));
        self.last.iter().cloned().chain(unfinished).collect()
    }

    /// How often each level was seen.
    #[must_use]
    pub const fn counts(&self) -> AlarmCounts {
        self.counts
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.returned {
            self.returned = false;
            self.line.clear();
        }
        let room = LINE_MAX.saturating_sub(self.line.len());
        self.line
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end_line(&mut self, seen: &mut impl FnMut(Sighting)) {
        self.returned = false;
        let line = plain(&self.line);
        self.line.clear();
        self.judge(&line, seen);
        if self.last.len() >= LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn judge(&mut self, line: &str, seen: &mut impl FnMut(Sighting)) {
        let Some((stamp, text, meaning)) = self.read(line) else {
            self.dying = self.dying.saturating_sub(1);
            return;
        };
        match meaning {
            // A machine that starts again begins a new log.
            Meaning::Banner => {
                self.stamps = if stamp.is_some() {
                    Stamps::Yes
                } else {
                    Stamps::No
                };
                self.newest = stamp.unwrap_or(0);
                self.dying = 0;
                self.remembered.clear();
            }
            Meaning::End => {
                self.dying = 0;
                seen(Sighting::ReportEnds);
            }
            Meaning::Die => {
                if self.dying == 0 {
                    self.alarm(Level::Oops, stamp, text, seen);
                }
                self.dying = HEADLINES_WITHIN;
            }
            Meaning::Alarm(level) => self.alarm(level, stamp, text, seen),
        }
    }

    /// The kernel's words in a line, and what they mean.
    fn read<'a>(&mut self, line: &'a str) -> Option<(Option<Stamp>, &'a str, Meaning)> {
        if let Some((stamp, text)) = split_stamp(line) {
            if self.stamps == Stamps::No {
                return None;
            }
            self.newest = self.newest.max(stamp);
            return Some((Some(stamp), text, meaning(text, true)?));
        }
        let bare = strip_priority(line);
        if let Some(meaning) = meaning(bare, self.stamps == Stamps::No) {
            let early = bare.starts_with("PANIC: ");
            if self.stamps != Stamps::Yes || early {
                return Some((None, bare, meaning));
            }
        }
        // After a program's unfinished line. Only the present counts: what quotes the log is older.
        let newest = self.newest;
        stamped(line)
            .filter(|&(at, stamp, _)| at > 0 && stamp >= newest)
            .find_map(|(_, stamp, text)| Some((Some(stamp), text, meaning(text, true)?)))
            .filter(|_| self.stamps == Stamps::Yes)
    }

    /// Raises an alarm unless it is a repetition.
    fn alarm(
        &mut self,
        level: Level,
        stamp: Option<Stamp>,
        text: &str,
        seen: &mut impl FnMut(Sighting),
    ) {
        if let Some(stamp) = stamp {
            if self
                .remembered
                .iter()
                .any(|(s, t)| *s == stamp && t == text)
            {
                return;
            }
            if self.remembered.len() >= REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back((stamp, text.into()));
        }
        let count = match level {
            Level::Warning => &mut self.counts.warnings,
            Level::Oops => &mut self.counts.oopses,
            Level::Panic => &mut self.counts.panics,
        };
        *count = count.saturating_add(1);
        seen(Sighting::Alarm(Alarm {
            level,
            line: text.into(),
        }));
    }
}

/// A line as text: escape sequences (ECMA-48 CSI and OSC, two-byte escapes) and control characters
/// dropped.
fn plain(bytes: &[u8]) -> String {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            0x1b => match rest.next() {
                Some(b'[') => {
                    rest.by_ref().find(|b| (0x40..=0x7e).contains(b));
                }
                Some(b']') => {
                    rest.by_ref().find(|b| matches!(b, 0x07 | 0x1b));
                }
                _ => {}
            },
            b'\t' | b' '..=0x7e | 0x80.. => kept.push(byte),
            _ => {}
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
