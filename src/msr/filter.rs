//! From a policy to KVM_X86_SET_MSR_FILTER: at most 16 ranges of at most 12288 MSRs.
//!
//! KVM's rule: the first range that holds the index and covers the access decides by its bit, 1 allows;
//! without one the default does. x2APIC indices pass in any case. `base + nmsrs` is a 32-bit sum, so a
//! range that reaches 2^32 matches nothing and 0xffffffff can never be covered.

use std::fmt;
use std::ops::RangeInclusive;

use crate::trace::Direction;

/// Indices that pass every filter.
pub const X2APIC: RangeInclusive<u32> = 0x800..=0x8ff;
/// The last index a range can hold.
pub const LAST_FILTERABLE: u32 = u32::MAX - 1;
/// KVM_MSR_FILTER_MAX_RANGES.
pub const MAX_RANGES: usize = 16;
/// KVM_MSR_FILTER_MAX_BITMAP_SIZE, in bits.
pub const MAX_MSRS: u32 = 0x600 * 8;

/// Disjoint inclusive ranges in order.
type Set = Vec<(u32, u32)>;

/// The accesses that must leave the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traps {
    read: Set,
    write: Set,
}

impl Traps {
    /// Adds a range, which must not begin before those added.
    pub fn add(&mut self, direction: Direction, first: u32, last: u32) {
        let set = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        };
        match set.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
            _ => set.push((first, last)),
        }
    }

    /// Whether an access must leave the guest.
    #[must_use]
    pub fn has(&self, direction: Direction, index: u32) -> bool {
        let set = match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        };
        holds(set, index)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }
}

fn holds(set: &Set, index: u32) -> bool {
    let at = set.partition_point(|range| range.1 < index);
    set.get(at).is_some_and(|range| range.0 <= index)
}

/// One range of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRange {
    /// Whether it covers reads.
    pub read: bool,
    /// Whether it covers writes.
    pub write: bool,
    /// Its first MSR.
    pub base: u32,
    /// How many it holds.
    pub count: u32,
    /// A bit for each; set allows. As long as KVM reads it: whole 64-bit words.
    pub bitmap: Vec<u8>,
}

/// What KVM_X86_SET_MSR_FILTER takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What becomes of accesses that no range covers.
    pub default_allow: bool,
    /// The ranges.
    pub ranges: Vec<FilterRange>,
}

impl Filter {
    /// The filter that lets everything pass, which takes an older one away.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            default_allow: true,
            ranges: Vec::new(),
        }
    }
}

/// One range of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first MSR.
    pub base: u32,
    /// How many it holds.
    pub count: u32,
    /// Whether it covers reads.
    pub read: bool,
    /// Whether it covers writes.
    pub write: bool,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.base.saturating_add(self.count.saturating_sub(1));
        let access = match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r",
            _ => "w",
        };
        write!(f, "{:#x}-{last:#x} {access}", self.base)
    }
}

/// A policy that no filter can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the policy needs {} ranges of the MSR filter, and KVM takes {MAX_RANGES} of {MAX_MSRS} MSRs each. \
     Best merged they are: {}. Join or drop rules so that fewer stretches of 12288 MSRs differ from the \
     rest, or give reads and writes the same treatment",
    if *more { format!("more than {}", plan.len()) } else { plan.len().to_string() },
    plan.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
)]
pub struct DoesNotFit {
    /// The ranges it would take, as far as they were worked out.
    pub plan: Vec<Window>,
    /// Whether there are more.
    pub more: bool,
}

/// How far a plan that does not fit is worked out.
const PLANNED: usize = 64;

/// The fewest windows that hold all of `set`, from the left: each begins where the next member lies
/// and reaches as far as a bitmap can.
fn windows(set: &Set) -> Vec<(u32, u32)> {
    let mut out: Vec<(u32, u32)> = Vec::new();
    for &(first, last) in set {
        let mut from = first;
        let last = last.min(LAST_FILTERABLE);
        while from <= last {
            let begins = out.last().is_none_or(|window| from - window.0 >= MAX_MSRS);
            if begins && out.len() > PLANNED {
                return out;
            }
            if begins {
                out.push((from, from));
            }
            let Some(room) = out.last_mut() else { break };
            room.1 = last.min(room.0.saturating_add(MAX_MSRS - 1));
            from = room.1.saturating_add(1);
        }
    }
    out
}

/// What is in neither set: `set` without the x2APIC, whose bits mean nothing.
fn filterable(set: &Set) -> Set {
    let mut out = Set::new();
    let (gap, end) = (*X2APIC.start(), *X2APIC.end());
    for &(first, last) in set {
        if first < gap {
            out.push((first, last.min(gap - 1)));
        }
        if last > end {
            out.push((first.max(end + 1), last));
        }
    }
    out
}

fn union(a: &Set, b: &Set) -> Set {
    let mut all: Set = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    let mut out = Set::new();
    for (first, last) in all {
        match out.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn complement(set: &Set) -> Set {
    let mut out = Set::new();
    let mut next = Some(0);
    for &(first, last) in set {
        if let Some(from) = next
            && from < first
        {
            out.push((from, first - 1));
        }
        next = last.checked_add(1);
    }
    if let Some(from) = next {
        out.push((from, u32::MAX));
    }
    out
}

/// The part of `set` inside a window.
fn cut(set: &Set, window: (u32, u32)) -> Set {
    let from = set.partition_point(|range| range.1 < window.0);
    set.iter()
        .skip(from)
        .take_while(|range| range.0 <= window.1)
        .map(|range| (range.0.max(window.0), range.1.min(window.1)))
        .collect()
}

/// Windows over members of two sets, shared where reads and writes are alike.
fn plan(read: &Set, write: &Set) -> Vec<Window> {
    let window = |(base, last): (u32, u32), read, write| Window {
        base,
        count: last - base + 1,
        read,
        write,
    };
    let apart = windows(read)
        .into_iter()
        .map(|span| window(span, true, false))
        .chain(
            windows(write)
                .into_iter()
                .map(|span| window(span, false, true)),
        );
    let apart: Vec<Window> = apart.collect();
    let mut joint = Vec::new();
    for span in windows(&union(read, write)) {
        let (r, w) = (cut(read, span), cut(write, span));
        if r == w {
            joint.push(window(span, true, true));
            continue;
        }
        // Each as tight as its own members.
        for (set, is_read) in [(r, true), (w, false)] {
            if let (Some(first), Some(last)) = (set.first(), set.last()) {
                joint.push(window((first.0, last.1), is_read, !is_read));
            }
        }
    }
    if apart.len() < joint.len() {
        apart
    } else {
        joint
    }
}

fn bitmap(window: &Window, allows: impl Fn(u32) -> bool) -> Vec<u8> {
    let bytes = window.count.div_ceil(64).saturating_mul(8);
    (0..bytes)
        .map(|byte| {
            (0..8).fold(0, |bits, bit| {
                let off = byte * 8 + bit;
                let index = window.base.saturating_add(off);
                bits | u8::from(off < window.count && allows(index)) << bit
            })
        })
        .collect()
}

/// Compiles the accesses that must leave the guest to a filter.
///
/// # Errors
/// [`DoesNotFit`] with the ranges it would take.
pub fn compile(traps: &Traps) -> Result<Filter, DoesNotFit> {
    let (read, write) = (filterable(&traps.read), filterable(&traps.write));
    let trapped = plan(&read, &write);
    if trapped.len() <= MAX_RANGES {
        return Ok(build(true, &trapped, &read, &write));
    }
    // Where nearly everything is trapped, it takes fewer ranges to name the rest.
    let (free_read, free_write) = (
        filterable(&complement(&read)),
        filterable(&complement(&write)),
    );
    let mut free = plan(&free_read, &free_write);
    if free.len() <= MAX_RANGES {
        if free.is_empty() {
            // KVM refuses a filter that denies by default and has no range.
            free.push(Window {
                base: LAST_FILTERABLE,
                count: 1,
                read: true,
                write: true,
            });
        }
        return Ok(build(false, &free, &read, &write));
    }
    let mut best = if free.len() < trapped.len() {
        free
    } else {
        trapped
    };
    let more = best.len() > PLANNED;
    best.truncate(PLANNED);
    Err(DoesNotFit { plan: best, more })
}

fn build(default_allow: bool, plan: &[Window], read: &Set, write: &Set) -> Filter {
    let range = |window: &Window| {
        // Where a window covers both accesses, both sets are alike in it.
        let set = if window.read { read } else { write };
        FilterRange {
            read: window.read,
            write: window.write,
            base: window.base,
            count: window.count,
            bitmap: bitmap(window, |index| !holds(set, index)),
        }
    };
    Filter {
        default_allow,
        ranges: plan.iter().map(range).collect(),
    }
}

#[cfg(test)]
mod tests;
