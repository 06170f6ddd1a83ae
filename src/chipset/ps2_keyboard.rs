//! The keyboard on the other end of the i8042: it answers its driver; nobody types on it.

use serde::{Deserialize, Serialize};

/// Answers (IBM Personal System/2 hardware reference, keyboard commands).
const ACK: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
/// First byte of an MF-II keyboard's identity.
const ID_FIRST: u8 = 0xab;

/// The longest answer: an acknowledgement and two bytes.
pub(super) const LONGEST: usize = 3;

/// The command whose argument comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Argument {
    Leds,
    ScanSet,
    Rate,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keyboard {
    /// The rest of the answer, first byte first.
    answer: Vec<u8>,
    argument: Option<Argument>,
    scan_set: u8,
    /// What RESEND repeats.
    last: u8,
}

impl Default for Keyboard {
    fn default() -> Self {
        Self {
            answer: Vec::new(),
            argument: None,
            scan_set: 2,
            last: SELF_TEST_PASSED,
        }
    }
}

impl Keyboard {
    /// Whether a saved keyboard can be.
    pub(super) fn is_possible(&self) -> bool {
        self.answer.len() <= LONGEST && (1..=3).contains(&self.scan_set)
    }

    /// Sends the next byte of its answer.
    pub(super) fn send(&mut self) -> Option<u8> {
        if self.answer.is_empty() {
            return None;
        }
        self.last = self.answer.remove(0);
        Some(self.last)
    }

    /// Takes a byte from the controller. A new one cuts the answer to the last one short. When the
    /// controller translates to scan set 1 it does so to answers as well, which shows in two of them.
    pub(super) fn take(&mut self, byte: u8, translated: bool) {
        // Arguments are below 0x80; a command in their place is a command.
        let argument = self.argument.take().filter(|_| byte < 0x80);
        self.answer = match (argument, byte) {
            (Some(Argument::ScanSet), 0) => vec![ACK, self.scan_set_answer(translated)],
            (Some(Argument::ScanSet), 1..=3) => {
                self.scan_set = byte;
                vec![ACK]
            }
            (Some(Argument::ScanSet), _) => vec![RESEND],
            (Some(Argument::Leds | Argument::Rate), _) => vec![ACK],
            (None, 0xed) => self.with_argument(Argument::Leds),
            (None, 0xee) => vec![0xee],
            (None, 0xf0) => self.with_argument(Argument::ScanSet),
            (None, 0xf2) => vec![ACK, ID_FIRST, if translated { 0x41 } else { 0x83 }],
            (None, 0xf3) => self.with_argument(Argument::Rate),
            // Enable scanning; defaults with and without disabling; key types of scan set 3.
            (None, 0xf4..=0xfa) => vec![ACK],
            (None, 0xfe) => vec![self.last],
            (None, 0xff) => {
                *self = Self::default();
                vec![ACK, SELF_TEST_PASSED]
            }
            (None, _) => vec![RESEND],
        };
    }

    fn with_argument(&mut self, argument: Argument) -> Vec<u8> {
        self.argument = Some(argument);
        vec![ACK]
    }

    const fn scan_set_answer(&self, translated: bool) -> u8 {
        match (translated, self.scan_set) {
            (false, set) => set,
            (true, 1) => 0x43,
            (true, 2) => 0x41,
            (true, _) => 0x3f,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(keyboard: &mut Keyboard, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        for &byte in bytes {
            keyboard.take(byte, false);
            answer.extend(std::iter::from_fn(|| keyboard.send()));
        }
        answer
    }

    #[test]
    fn it_answers_what_atkbd_asks() {
        let mut keyboard = Keyboard::default();
        let mut ask = |bytes: &[u8]| answer(&mut keyboard, bytes);
        assert_eq!(ask(&[0xff]), [0xfa, 0xaa]);
        assert_eq!(ask(&[0xf2]), [0xfa, 0xab, 0x83]);
        assert_eq!(ask(&[0xed, 7]), [0xfa, 0xfa]);
        assert_eq!(ask(&[0xf3, 0]), [0xfa, 0xfa]);
        assert_eq!(ask(&[0xf0, 1, 0xf0, 0]), [0xfa, 0xfa, 0xfa, 0xfa, 1]);
        assert_eq!(ask(&[0xf4]), [0xfa]);
        assert_eq!(ask(&[0x12]), [0xfe]);
    }

    #[test]
    fn a_command_in_place_of_an_argument_is_a_command() {
        let mut keyboard = Keyboard::default();
        assert_eq!(answer(&mut keyboard, &[0xed, 0xee, 3]), [0xfa, 0xee, 0xfe]);
    }

    #[test]
    fn the_last_byte_can_be_had_again() {
        let mut keyboard = Keyboard::default();
        assert_eq!(
            answer(&mut keyboard, &[0xf2, 0xfe]),
            [0xfa, 0xab, 0x83, 0x83]
        );
    }
}
