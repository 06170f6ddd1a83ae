//! Who answers the `rdmsr` and `wrmsr` that KVM hands out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kvm_ioctls::MsrExitReason;

/// Why KVM handed an access out (KVM_MSR_EXIT_REASON_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsrReason(pub u32);

impl From<MsrExitReason> for MsrReason {
    fn from(reason: MsrExitReason) -> Self {
        Self(reason.bits())
    }
}

/// The answer to one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MsrAnswer {
    /// Done. The value is what a read returns; a write ignores it.
    Value(u64),
    /// #GP(0).
    Fault,
}

/// Answers accesses. Called on the vCPU's thread with no lock held.
pub trait MsrHandler: Send + Sync {
    /// A read of `index`.
    fn read(&self, vcpu: u8, index: u32, reason: MsrReason) -> MsrAnswer;
    /// A write of `value` to `index`.
    fn write(&self, vcpu: u8, index: u32, value: u64, reason: MsrReason) -> MsrAnswer;
}

/// How often one MSR was refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// MSRs told apart in the counts; a guest that tries more is counted under the last.
const TOLD_APART: usize = 1024;

/// Answers everything with #GP and counts it: what hardware does with an MSR it does not have.
#[derive(Debug, Default)]
pub struct DenyAll(Mutex<BTreeMap<u32, Refusals>>);

impl DenyAll {
    /// Refused accesses by index, lowest first.
    #[must_use]
    pub fn counts(&self) -> Vec<(u32, Refusals)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .map(|(index, count)| (*index, *count))
            .collect()
    }

    fn count(&self, index: u32, add: impl FnOnce(&mut Refusals)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = match counts.last_key_value() {
            Some((last, _)) if counts.len() >= TOLD_APART && !counts.contains_key(&index) => *last,
            _ => index,
        };
        add(counts.entry(index).or_default());
    }
}

impl MsrHandler for DenyAll {
    fn read(&self, _: u8, index: u32, _: MsrReason) -> MsrAnswer {
        self.count(index, |c| c.reads = c.reads.saturating_add(1));
        MsrAnswer::Fault
    }

    fn write(&self, _: u8, index: u32, _: u64, _: MsrReason) -> MsrAnswer {
        self.count(index, |c| c.writes = c.writes.saturating_add(1));
        MsrAnswer::Fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_tries_every_msr_does_not_fill_memory() {
        let deny = DenyAll::default();
        for index in 0..5000 {
            assert_eq!(deny.read(0, index, MsrReason(2)), MsrAnswer::Fault);
        }
        let counts = deny.counts();
        assert_eq!(counts.len(), TOLD_APART);
        assert_eq!(counts.iter().map(|(_, c)| c.reads).sum::<u64>(), 5000);
    }
}
