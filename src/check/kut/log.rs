//! What a guest printed, however much that was: its beginning and its end.

use std::collections::VecDeque;
use std::io::{self, Read};

/// Kept of the beginning, and of the end.
const HEAD: usize = 64 << 10;
const TAIL: usize = 192 << 10;
/// Read at a time.
const CHUNK: usize = 64 << 10;

/// The log.
#[derive(Debug, Default)]
pub(super) struct Log {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

impl Log {
    /// Reads all there is, and keeps what it keeps.
    pub(super) fn read(mut from: impl Read) -> Self {
        let mut log = Self::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return log,
                Ok(n) => log.add(chunk.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return log,
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        self.dropped = self.dropped.saturating_add(over as u64);
    }

    /// As text, with a line where something is missing.
    pub(super) fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.dropped > 0 {
            let gap = format!("\n[{} bytes left out]\n", self.dropped);
            bytes.extend(gap.into_bytes());
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_log_is_whole() {
        let text = "one\r\ntwo\n".repeat(9000);
        assert_eq!(Log::read(text.as_bytes()).text(), text.replace('\r', ""));
    }

    #[test]
    fn of_a_gigabyte_the_beginning_and_the_end_are_kept() {
        let middle = io::repeat(b'x').take((1 << 30) - 10);
        let log = Log::read(b"begin".chain(middle).chain(&b"the end"[..]));
        let kept = (HEAD + TAIL) as u64;
        let text = log.text();
        assert!(text.starts_with("beginx") && text.ends_with("xthe end"));
        let gap = format!("[{} bytes left out]", (1 << 30) + 2 - kept);
        assert!(text.contains(&gap), "no {gap}");
        assert!(text.len() as u64 - kept < 64);
    }
}
