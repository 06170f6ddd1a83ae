//! The stack: its words, and who called.

use std::collections::BTreeSet;

use kvm_bindings::kvm_regs;
use serde::Serialize;

use super::names::{Names, Symbol};
use crate::machine::hex::Hex;

/// Bytes read from RSP on.
const DEPTH: usize = 4096;
/// Words shown.
const SHOWN: usize = 24;
/// Lines of a backtrace.
const FRAMES: usize = 32;

/// A word on the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StackWord {
    /// Where.
    pub address: Hex,
    /// What.
    pub value: Hex,
    /// Its name, when it is the address of code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
}

/// A line of a backtrace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// The return address.
    pub address: Hex,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Frame pointers led here. Otherwise the word merely lay on the stack: it may be left over
    /// from an earlier call.
    pub certain: bool,
}

pub(super) struct Stack {
    at: u64,
    /// (address, value), upwards from RSP.
    words: Vec<(u64, u64)>,
    rbp: u64,
}

impl Stack {
    pub(super) fn of(
        regs: &kvm_regs,
        base: u64,
        bits: u32,
        read: &dyn Fn(u64, &mut [u8]) -> usize,
    ) -> Self {
        let size = match bits {
            64 => 8,
            32 => 4,
            _ => 2,
        };
        let at = base.wrapping_add(regs.rsp);
        let mut bytes = vec![0; DEPTH];
        let got = read(at, &mut bytes);
        bytes.truncate(got);
        let words = bytes.chunks_exact(size).zip(0_u64..).map(|(word, n)| {
            let mut value = [0; 8];
            value
                .iter_mut()
                .zip(word)
                .for_each(|(to, from)| *to = *from);
            let address = at.wrapping_add(n.wrapping_mul(size as u64));
            (address, u64::from_le_bytes(value))
        });
        Self {
            at,
            words: words.collect(),
            rbp: base.wrapping_add(regs.rbp),
        }
    }

    pub(super) fn words(&self, names: &Names<'_>) -> Vec<StackWord> {
        let shown = self.words.iter().take(SHOWN);
        shown
            .map(|&(address, value)| StackWord {
                address: Hex(address),
                value: Hex(value),
                symbol: names.of_code(value),
            })
            .collect()
    }

    /// Where frame pointers say that return addresses lie. The chain must go upwards within what
    /// was read, and with names every return address must be code; where it does not hold, it says
    /// nothing.
    fn chained(&self, names: &Names<'_>) -> BTreeSet<u64> {
        let mut slots = BTreeSet::new();
        let mut frame = self.rbp;
        while slots.len() < FRAMES && frame >= self.at {
            let found = self.words.iter().position(|(address, _)| *address == frame);
            let Some(at) = found else { break };
            let (Some((_, next)), Some((slot, value))) =
                (self.words.get(at), self.words.get(at.saturating_add(1)))
            else {
                break;
            };
            if *value == 0 || (names.knows() && names.of_code(*value).is_none()) {
                break;
            }
            slots.insert(*slot);
            if *next <= frame {
                break;
            }
            frame = *next;
        }
        slots
    }

    /// RIP first. With names, every word that is code is listed; without, only what frame pointers
    /// give.
    pub(super) fn backtrace(&self, rip: u64, names: &Names<'_>) -> Vec<Frame> {
        let chained = self.chained(names);
        let first = Frame {
            address: Hex(rip),
            symbol: names.of_code(rip),
            certain: true,
        };
        let callers = self.words.iter().filter_map(|(slot, value)| {
            let certain = chained.contains(slot);
            let symbol = names.of_code(*value);
            (certain || symbol.is_some()).then_some(Frame {
                address: Hex(*value),
                symbol,
                certain,
            })
        });
        std::iter::once(first).chain(callers).take(FRAMES).collect()
    }
}
