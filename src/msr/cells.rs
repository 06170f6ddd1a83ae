//! The values of emulated MSRs, and how often `nth` has counted: the room's volatile state.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Cell, Model};
use super::policy::{Action, Policy};

/// Values of one vCPU, or those that all share, by rule and MSR.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cells {
    cells: BTreeMap<(u32, u32), Cell>,
}

/// When guest time began, and when the last reset of any kind was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Born {
    pub(super) power: u64,
    pub(super) reset: u64,
}

impl Born {
    const fn of(self, model: &Model) -> u64 {
        if model.sticky { self.power } else { self.reset }
    }
}

impl Cells {
    fn cell(&self, key: (u32, u32), model: &Model, born: Born) -> Cell {
        let cell = self.cells.get(&key).copied();
        cell.unwrap_or_else(|| model.fresh(born.of(model)))
    }

    pub(super) fn read(&self, key: (u32, u32), model: &Model, born: Born, now: u64) -> u64 {
        model.read(self.cell(key, model, born), now)
    }

    /// Whether the write is taken.
    pub(super) fn write(
        &mut self,
        key: (u32, u32),
        model: &Model,
        value: u64,
        born: Born,
        now: u64,
    ) -> bool {
        let Some(next) = model.write(self.cell(key, model, born), value, now) else {
            return false;
        };
        // A register that never changes needs no cell, however many of them a rule names.
        if !model.is_constant() {
            self.cells.insert(key, next);
        }
        true
    }

    /// A reset: what does not survive it goes back to its first value.
    pub(super) fn reset(&mut self, policy: &Policy, power: bool) {
        self.cells.retain(|(rule, _), _| {
            let sticky = model_of(policy, *rule).is_some_and(|model| model.sticky);
            sticky && !power
        });
    }

    /// Moves to another policy what is the same register there.
    pub(super) fn carry(&mut self, old: &Policy, new: &Policy, vcpu: Option<u8>) {
        let was = std::mem::take(&mut self.cells);
        for ((rule, index), cell) in was {
            let Some(model) = model_of(old, rule) else {
                continue;
            };
            let same = (0..).zip(new.rules()).find(|(_, rule)| {
                rule.action == Action::Emulate(model)
                    && rule.indices.iter().any(|r| (r.0..=r.1).contains(&index))
                    && vcpu.is_none_or(|vcpu| rule.vcpus.has(vcpu))
            });
            if let Some((id, _)) = same {
                self.cells.insert((id, index), cell);
            }
        }
    }
}

fn model_of(policy: &Policy, rule: u32) -> Option<Model> {
    match policy.rule(rule)?.action {
        Action::Emulate(model) => Some(model),
        _ => None,
    }
}

/// One emulated MSR, saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCell {
    /// None for a value that all share.
    vcpu: Option<u8>,
    rule: u32,
    msr: u32,
    cell: Cell,
}

/// One count of `nth`, saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCount {
    vcpu: u8,
    rule: u32,
    count: u64,
}

/// The volatile state of the room, under the policy it was saved with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsrState {
    born: Born,
    cells: Vec<SavedCell>,
    counts: Vec<SavedCount>,
}

/// A saved state that is not one of this machine under this policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of emulated MSRs is impossible: {0}")]
pub struct BadMsrState(String);

/// The state taken apart: per vCPU, and shared.
pub(super) struct Loaded {
    pub(super) born: Born,
    pub(super) vcpus: Vec<(Cells, BTreeMap<u32, u64>)>,
    pub(super) shared: Cells,
}

impl MsrState {
    pub(super) fn new<'a>(
        born: Born,
        shared: &Cells,
        vcpus: impl Iterator<Item = (u8, &'a Cells, &'a BTreeMap<u32, u64>)>,
    ) -> Self {
        let saved = |vcpu: Option<u8>, cells: &Cells| -> Vec<SavedCell> {
            let one = |(&(rule, msr), &cell): (&(u32, u32), &Cell)| SavedCell {
                vcpu,
                rule,
                msr,
                cell,
            };
            cells.cells.iter().map(one).collect()
        };
        let mut state = Self {
            born,
            cells: saved(None, shared),
            counts: Vec::new(),
        };
        for (vcpu, cells, counts) in vcpus {
            state.cells.extend(saved(Some(vcpu), cells));
            let counts = counts
                .iter()
                .map(|(&rule, &count)| SavedCount { vcpu, rule, count });
            state.counts.extend(counts);
        }
        state
    }

    /// Checks it against the policy and takes it apart.
    pub(super) fn load(&self, policy: &Policy, vcpus: usize) -> Result<Loaded, BadMsrState> {
        let bad = |what: String| Err(BadMsrState(what));
        let mut loaded = Loaded {
            born: self.born,
            vcpus: vec![(Cells::default(), BTreeMap::new()); vcpus],
            shared: Cells::default(),
        };
        if self.born.power > self.born.reset {
            return bad("a reset before the machine was built".into());
        }
        let mut seen = BTreeSet::new();
        for saved in &self.cells {
            let at = format!("MSR {:#x} of rule {}", saved.msr, saved.rule);
            let Some(rule) = policy.rule(saved.rule) else {
                return bad(format!("{at}: the policy has no such rule"));
            };
            let Action::Emulate(model) = rule.action else {
                return bad(format!("{at}: the rule emulates nothing"));
            };
            let named = rule
                .indices
                .iter()
                .any(|r| (r.0..=r.1).contains(&saved.msr));
            if !named || model.is_constant() || !model.admits(saved.cell) {
                return bad(format!("{at}: not a value it can have"));
            }
            if model.shared != saved.vcpu.is_none()
                || saved.vcpu.is_some_and(|vcpu| !rule.vcpus.has(vcpu))
                || !seen.insert((saved.vcpu, saved.rule, saved.msr))
            {
                return bad(format!("{at}: not a vCPU it can be of"));
            }
            let cells = match saved.vcpu {
                None => Some(&mut loaded.shared),
                Some(vcpu) => loaded.vcpus.get_mut(usize::from(vcpu)).map(|v| &mut v.0),
            };
            let Some(cells) = cells else {
                return bad(format!("{at}: there is no such vCPU"));
            };
            cells.cells.insert((saved.rule, saved.msr), saved.cell);
        }
        for saved in &self.counts {
            let counted = policy
                .rule(saved.rule)
                .is_some_and(|rule| rule.nth.is_some());
            match loaded.vcpus.get_mut(usize::from(saved.vcpu)) {
                Some(vcpu) if counted => {
                    vcpu.1.insert(saved.rule, saved.count);
                }
                _ => return bad(format!("a count of rule {} that has none", saved.rule)),
            }
        }
        Ok(loaded)
    }
}
