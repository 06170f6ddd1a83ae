//! From an index to the rules that may decide about it: one binary search.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::{Rule, Scope};
use crate::trace::Direction;

/// The rules of every index, each chain in order of rank and ended by the first that always decides.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookup {
    /// First index of each segment; the first segment starts at 0.
    starts: Vec<u32>,
    /// The chains of the segment, for reads and for writes: the number of the one rule, or [`CHAIN`] and
    /// a place in `kept`. Most segments have one rule, and that one is found without a further look.
    chains: Vec<[u32; 2]>,
    kept: Vec<Box<[u32]>>,
}

const CHAIN: u32 = 1 << 31;

/// Two rules on one MSR of which neither outranks the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) index: u32,
    pub(super) first: usize,
    pub(super) second: usize,
}

const fn side(direction: Direction) -> usize {
    match direction {
        Direction::Read => 0,
        Direction::Write => 1,
    }
}

impl Lookup {
    pub(super) fn build(rules: &[Rule]) -> Result<Self, Clash> {
        let mut edges: BTreeMap<u64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (id, rule) in rules.iter().enumerate() {
            for &(first, last) in &rule.indices {
                edges.entry(first.into()).or_default().0.push(id);
                edges.entry(u64::from(last) + 1).or_default().1.push(id);
            }
        }
        edges.entry(0).or_default();
        let mut lookup = Self {
            starts: Vec::new(),
            chains: Vec::new(),
            kept: vec![Box::default()],
        };
        let mut numbers: BTreeMap<Box<[u32]>, u32> = BTreeMap::from([(Box::default(), CHAIN)]);
        let mut active: BTreeSet<((u16, Scope, bool), usize)> = BTreeSet::new();
        for (at, (begin, end)) in edges {
            let Ok(start) = u32::try_from(at) else { break };
            for id in end {
                if let Some(rule) = rules.get(id) {
                    active.remove(&(rule.rank(), id));
                }
            }
            for id in begin {
                let Some(rule) = rules.get(id) else { continue };
                let same = active.range((rule.rank(), 0)..=(rule.rank(), usize::MAX));
                for &(_, other) in same {
                    if rules.get(other).is_some_and(|other| rule.clashes(other)) {
                        return Err(Clash {
                            index: start,
                            first: other.min(id),
                            second: other.max(id),
                        });
                    }
                }
                active.insert((rule.rank(), id));
            }
            let mut chain = |direction| {
                let mut ids = Vec::new();
                for &(_, id) in &active {
                    let Some(rule) = rules.get(id) else { continue };
                    if rule.covers(direction) {
                        ids.push(u32::try_from(id).unwrap_or(u32::MAX));
                        if rule.decides() {
                            break;
                        }
                    }
                }
                if let [one] = *ids.as_slice() {
                    return one;
                }
                let ids = ids.into_boxed_slice();
                *numbers.entry(ids).or_insert_with_key(|ids| {
                    lookup.kept.push(ids.clone());
                    CHAIN | u32::try_from(lookup.kept.len().saturating_sub(1)).unwrap_or(0)
                })
            };
            let chains = [chain(Direction::Read), chain(Direction::Write)];
            if lookup.chains.last() != Some(&chains) {
                lookup.starts.push(start);
                lookup.chains.push(chains);
            }
        }
        Ok(lookup)
    }

    fn chain<'a>(&'a self, number: &'a u32) -> &'a [u32] {
        if *number & CHAIN == 0 {
            return std::slice::from_ref(number);
        }
        usize::try_from(number & !CHAIN)
            .ok()
            .and_then(|number| self.kept.get(number))
            .map_or(&[], |chain| chain)
    }

    /// The rules that may decide about `index`, those that outrank others first.
    #[inline]
    pub(super) fn rules(&self, index: u32, direction: Direction) -> &[u32] {
        let at = self.starts.partition_point(|start| *start <= index);
        let number = at
            .checked_sub(1)
            .and_then(|at| self.chains.get(at))
            .and_then(|chains| chains.get(side(direction)));
        number.map_or(&[], |number| self.chain(number))
    }

    /// Every segment with its inclusive bounds and chains for reads and writes.
    pub(super) fn segments(&self) -> impl Iterator<Item = (u32, u32, [&[u32]; 2])> {
        let ends = self
            .starts
            .iter()
            .skip(1)
            .map(|next| next.saturating_sub(1))
            .chain([u32::MAX]);
        self.starts
            .iter()
            .zip(ends)
            .zip(&self.chains)
            .map(|((first, last), [read, write])| {
                (*first, last, [self.chain(read), self.chain(write)])
            })
    }
}
