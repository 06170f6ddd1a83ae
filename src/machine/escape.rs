//! The key that speaks to Trapline instead of the guest.

use std::fmt;
use std::str::FromStr;

/// What the user's keys ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// These bytes go to the guest.
    Send(Vec<u8>),
    /// Leave: the run ends.
    Leave,
    /// Say what the keys are.
    Help,
}

/// The escape key, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapeKey(Option<u8>);

impl EscapeKey {
    /// No key: every byte goes to the guest, as it must when standard input is a file.
    pub const NONE: Self = Self(None);
}

impl Default for EscapeKey {
    /// Ctrl-A, as in QEMU.
    fn default() -> Self {
        Self(Some(0x01))
    }
}

impl fmt::Display for EscapeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, "Ctrl-{}", char::from(key ^ 0x40)),
            None => f.write_str("none"),
        }
    }
}

/// Text that names no key.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an escape key; write ^A, ctrl-a or none (A to Z and ] \\ ^ _ can be had)")]
pub struct BadKey(String);

impl FromStr for EscapeKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let lower = text.to_ascii_lowercase();
        if lower == "none" {
            return Ok(Self::NONE);
        }
        let key = ["ctrl-", "c-", "^"]
            .iter()
            .find_map(|prefix| lower.strip_prefix(prefix));
        match key.map(str::as_bytes) {
            // Ctrl-[ is ESC, which begins every cursor key.
            Some([key @ (b'a'..=b'z' | b'\\'..=b'_')]) => Ok(Self(Some(key & 0x1f))),
            _ => Err(BadKey(text.into())),
        }
    }
}

/// Reads the user's keys.
#[derive(Debug, Clone, Default)]
pub struct Escape {
    key: EscapeKey,
    pending: bool,
}

impl Escape {
    /// With this key.
    #[must_use]
    pub const fn new(key: EscapeKey) -> Self {
        Self {
            key,
            pending: false,
        }
    }

    /// What the next bytes ask for, in order. After [`Action::Leave`] nothing follows.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Action> {
        let Some(key) = self.key.0 else {
            return vec![Action::Send(bytes.to_vec())];
        };
        let mut actions = Vec::new();
        let mut send = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if !std::mem::take(&mut self.pending) {
                if byte == key {
                    self.pending = true;
                } else {
                    send.push(byte);
                }
                continue;
            }
            let action = match byte {
                b'x' | b'X' => Action::Leave,
                b'?' | b'h' => Action::Help,
                // The key's own letter, or the key twice, is the key.
                _ if byte == key || byte.to_ascii_uppercase() == (key | 0x40) => {
                    send.push(key);
                    continue;
                }
                // Not for us after all; a line editor's Ctrl-A must not be swallowed.
                _ => {
                    send.extend([key, byte]);
                    continue;
                }
            };
            let leave = action == Action::Leave;
            if !send.is_empty() {
                actions.push(Action::Send(std::mem::take(&mut send)));
            }
            actions.push(action);
            if leave {
                return actions;
            }
        }
        if !send.is_empty() {
            actions.push(Action::Send(send));
        }
        actions
    }

    /// The lines for [`Action::Help`].
    #[must_use]
    pub fn help(&self) -> String {
        let key = self.key;
        format!("{key} x leaves, {key} twice sends {key}, {key} h says this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(bytes: &[u8]) -> Action {
        Action::Send(bytes.to_vec())
    }

    #[test]
    fn keys_do_what_the_manual_says() {
        let table: [(&[u8], Vec<Action>); 8] = [
            (b"ls\r", vec![send(b"ls\r")]),
            (b"\x01x", vec![Action::Leave]),
            (b"\x01X", vec![Action::Leave]),
            (b"a\x01xb", vec![send(b"a"), Action::Leave]),
            (b"\x01a.\x01\x01", vec![send(b"\x01.\x01")]),
            (b"\x01\x05", vec![send(b"\x01\x05")]),
            (b"1\x01h2", vec![send(b"1"), Action::Help, send(b"2")]),
            (b"\x01", vec![]),
        ];
        for (keys, actions) in table {
            assert_eq!(Escape::default().feed(keys), actions, "{keys:?}");
        }
    }

    #[test]
    fn an_escape_may_be_cut_in_two() {
        let mut escape = Escape::default();
        assert_eq!(escape.feed(b"a\x01"), [send(b"a")]);
        assert_eq!(escape.feed(b"x"), [Action::Leave]);
    }

    #[test]
    fn without_a_key_every_byte_goes_to_the_guest() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(Escape::new(EscapeKey::NONE).feed(&all), [send(&all)]);
    }

    #[test]
    fn keys_are_written_as_people_write_them() {
        for text in ["^T", "^t", "ctrl-t", "Ctrl-T", "C-t"] {
            assert_eq!(
                text.parse::<EscapeKey>().unwrap(),
                EscapeKey(Some(0x14)),
                "{text}"
            );
        }
        assert_eq!("^]".parse::<EscapeKey>().unwrap().to_string(), "Ctrl-]");
        assert_eq!("none".parse::<EscapeKey>().unwrap(), EscapeKey::NONE);
        for text in ["", "a", "^", "^[", "^1", "ctrl-", "^ab", "^ä"] {
            assert!(text.parse::<EscapeKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn another_key_is_its_own_escape() {
        let mut escape = Escape::new("^]".parse().unwrap());
        assert_eq!(escape.feed(b"\x1d]\x1d\x1d"), [send(b"\x1d\x1d")]);
        let mut escape = Escape::new("^t".parse().unwrap());
        assert_eq!(
            escape.feed(b"\x01x\x14t\x14x"),
            [send(b"\x01x\x14"), Action::Leave]
        );
    }
}
