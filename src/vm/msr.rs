//! Who answers the `rdmsr` and `wrmsr` that KVM hands out.

use std::sync::atomic::{AtomicU64, Ordering};

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

/// Answers everything with #GP and counts it: what hardware does with an MSR it does not have.
#[derive(Debug, Default)]
pub struct DenyAll {
    reads: AtomicU64,
    writes: AtomicU64,
}

impl DenyAll {
    /// Reads and writes refused so far.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (
            self.reads.load(Ordering::Relaxed),
            self.writes.load(Ordering::Relaxed),
        )
    }
}

impl MsrHandler for DenyAll {
    fn read(&self, _: u8, _: u32, _: MsrReason) -> MsrAnswer {
        self.reads.fetch_add(1, Ordering::Relaxed);
        MsrAnswer::Fault
    }

    fn write(&self, _: u8, _: u32, _: u64, _: MsrReason) -> MsrAnswer {
        self.writes.fetch_add(1, Ordering::Relaxed);
        MsrAnswer::Fault
    }
}
