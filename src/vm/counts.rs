//! How often a vCPU came out of the guest, and what for.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Exits by kind. Written by one vCPU thread, read by any.
#[derive(Debug, Default)]
pub struct ExitCounts {
    /// Port reads and writes.
    pub pio: AtomicU64,
    /// Memory reads and writes.
    pub mmio: AtomicU64,
    /// `rdmsr` and `wrmsr`.
    pub msr: AtomicU64,
    /// Signals and `immediate_exit`.
    pub interrupted: AtomicU64,
    /// Everything else.
    pub other: AtomicU64,
    /// Port writes that KVM collected and this vCPU gave to their devices: no exits.
    pub collected: AtomicU64,
}

impl ExitCounts {
    /// Adds one.
    #[inline]
    pub(super) fn bump(counter: &AtomicU64) {
        Self::add(counter, 1);
    }

    /// Adds some. Only the owner writes, so a load and a store are enough and no bus lock is paid.
    #[inline]
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    /// Those the guest made by itself: being looked at is not progress.
    #[must_use]
    pub fn useful(&self) -> u64 {
        self.total()
            .wrapping_sub(self.interrupted.load(Ordering::Relaxed))
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            &self.pio,
            &self.mmio,
            &self.msr,
            &self.interrupted,
            &self.other,
        ]
        .iter()
        .map(|c| c.load(Ordering::Relaxed))
        .sum()
    }
}

impl Serialize for ExitCounts {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut row = to.serialize_struct("ExitCounts", 6)?;
        row.serialize_field("pio", &self.pio.load(Ordering::Relaxed))?;
        row.serialize_field("mmio", &self.mmio.load(Ordering::Relaxed))?;
        row.serialize_field("msr", &self.msr.load(Ordering::Relaxed))?;
        row.serialize_field("interrupted", &self.interrupted.load(Ordering::Relaxed))?;
        row.serialize_field("other", &self.other.load(Ordering::Relaxed))?;
        row.serialize_field("collected", &self.collected.load(Ordering::Relaxed))?;
        row.end()
    }
}

/// One of the exits before the end, for a post-mortem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastExit {
    /// A port read.
    In {
        /// Port.
        port: u16,
        /// Bytes per element.
        width: u8,
        /// The value answered; the last element of a string.
        value: u64,
    },
    /// A port write.
    Out {
        /// Port.
        port: u16,
        /// Bytes per element.
        width: u8,
        /// The value; the last element of a string.
        value: u64,
    },
    /// A memory read.
    Load {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        width: u8,
        /// The value answered.
        value: u64,
    },
    /// A memory write.
    Store {
        /// Guest physical address.
        address: u64,
        /// Bytes.
        width: u8,
        /// The value.
        value: u64,
    },
    /// `rdmsr`; none answered with #GP.
    Rdmsr {
        /// Index.
        index: u32,
        /// The value answered.
        value: Option<u64>,
    },
    /// `wrmsr`.
    Wrmsr {
        /// Index.
        index: u32,
        /// The value.
        value: u64,
        /// Whether it was accepted.
        accepted: bool,
    },
    /// Anything else, by KVM's name.
    Other(&'static str),
}

impl std::fmt::Display for LastExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::In { port, width, value } => {
                write!(f, "in{} {port:#x} -> {value:#x}", letter(width))
            }
            Self::Out { port, width, value } => {
                write!(f, "out{} {port:#x} <- {value:#x}", letter(width))
            }
            Self::Load {
                address,
                width,
                value,
            } => {
                write!(f, "load{} {address:#x} -> {value:#x}", letter(width))
            }
            Self::Store {
                address,
                width,
                value,
            } => {
                write!(f, "store{} {address:#x} <- {value:#x}", letter(width))
            }
            Self::Rdmsr {
                index,
                value: Some(value),
            } => write!(f, "rdmsr {index:#x} -> {value:#x}"),
            Self::Rdmsr { index, value: None } => write!(f, "rdmsr {index:#x} -> #GP"),
            Self::Wrmsr {
                index,
                value,
                accepted,
            } => {
                let end = if accepted { "" } else { " -> #GP" };
                write!(f, "wrmsr {index:#x} <- {value:#x}{end}")
            }
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// The assembler's suffix of a width.
const fn letter(width: u8) -> char {
    match width {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        _ => '?',
    }
}

/// Exits kept for a post-mortem.
const KEPT: usize = 32;

/// The last exits of one vCPU, oldest first when taken.
#[derive(Debug)]
pub(super) struct Recent {
    ring: [LastExit; KEPT],
    next: usize,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self {
            ring: [LastExit::Other(""); KEPT],
            next: 0,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, exit: LastExit) {
        if let Some(slot) = self.ring.get_mut(self.next % KEPT) {
            *slot = exit;
        }
        self.next = self.next.wrapping_add(1);
    }

    pub(super) fn oldest_first(&self) -> Vec<LastExit> {
        let kept = self.next.min(KEPT);
        let start = self.next.wrapping_sub(kept);
        (start..self.next)
            .filter_map(|i| self.ring.get(i % KEPT).copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_exits_come_oldest_first_and_no_more_than_are_kept() {
        let mut recent = Recent::new();
        assert!(recent.oldest_first().is_empty());
        for port in 0..40 {
            recent.push(LastExit::Out {
                port,
                width: 1,
                value: 0,
            });
        }
        let kept = recent.oldest_first();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(
            kept[0],
            LastExit::Out {
                port: 8,
                width: 1,
                value: 0
            }
        );
        assert_eq!(kept[31].to_string(), "outb 0x27 <- 0x0");
    }
}
