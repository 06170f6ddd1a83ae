//! The lab's own console: what its kernel and QEMU say. Kept to be shown when the lab fails.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::error::Tail;

/// How much of the end is kept.
const KEPT: usize = 256 * 1024;
/// How many lines of it a message shows.
const SHOWN: usize = 24;
/// How many before a panic.
const CONTEXT: usize = 6;

/// A console being read.
#[derive(Debug)]
pub(super) struct Console {
    kept: Arc<Mutex<VecDeque<u8>>>,
    reader: JoinHandle<()>,
}

impl Console {
    /// Reads `from` until it ends; with `show` also to standard error.
    pub(super) fn watch(from: UnixStream, show: bool) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let theirs = Arc::clone(&kept);
        let reader = thread::spawn(move || read(from, &theirs, show));
        Self { kept, reader }
    }

    /// The end of it, once QEMU has ended; all that was kept goes to `log`.
    pub(super) fn finish(self, log: Option<&Path>) -> Tail {
        let _ = self.reader.join();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.make_contiguous();
        let log = log.filter(|path| {
            path.parent()
                .is_some_and(|dir| fs::create_dir_all(dir).is_ok())
                && fs::write(path, &*bytes).is_ok()
        });
        Tail {
            text: last_lines(&String::from_utf8_lossy(bytes)),
            log: log.map(Into::into),
        }
    }
}

fn read(mut from: UnixStream, kept: &Mutex<VecDeque<u8>>, show: bool) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if show {
            let _ = io::stderr().write_all(bytes);
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
}

/// The last lines, without the escape sequences firmware clears a screen with.
fn last_lines(text: &str) -> String {
    let printable = |line: &str| -> String {
        let mut clean = String::new();
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            if c == '\x1b' {
                // ECMA-48: a control sequence ends at its first letter.
                chars.by_ref().find(char::is_ascii_alphabetic);
            } else if !c.is_control() || c == '\t' {
                clean.push(c);
            }
        }
        clean
    };
    let lines: Vec<String> = text
        .lines()
        .map(printable)
        .filter(|line| !line.trim().is_empty())
        .collect();
    // A panic says what it is first and where it was after.
    let panic = lines.iter().position(|line| line.contains("Kernel panic"));
    let start = panic.map_or(lines.len(), |at| at.saturating_sub(CONTEXT));
    let start = start.min(lines.len().saturating_sub(SHOWN));
    let shown = lines.iter().skip(start).take(SHOWN);
    shown.cloned().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_the_beginning_let_go() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let console = Console::watch(theirs, false);
        ours.write_all(&vec![b'a'; KEPT]).unwrap();
        ours.write_all(b"\nthe \x1b[2J\x1b[1;1Hend\r\n").unwrap();
        drop(ours);
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("deep/console.log");
        let tail = console.finish(Some(&log));
        assert!(tail.text.ends_with("\nthe end"), "{:?}", tail.text.len());
        assert_eq!(fs::read(&log).unwrap().len(), KEPT);
        assert_eq!(tail.log, Some(log));
    }

    #[test]
    fn a_panic_is_shown_from_its_first_words() {
        let line = |n: usize| match n {
            30 => "BUG: why\n".to_owned(),
            32 => "Kernel panic - not syncing\n".to_owned(),
            n => format!("line {n}\n"),
        };
        let lines = last_lines(&(0..100).map(line).collect::<String>());
        assert!(lines.contains("BUG: why\nline 31\nKernel panic"), "{lines}");
        assert_eq!(lines.lines().count(), SHOWN);
    }

    #[test]
    fn a_message_shows_a_screenful() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let lines = last_lines(&text);
        assert_eq!(lines.lines().count(), SHOWN);
        assert!(lines.ends_with("line 99"));
    }
}
