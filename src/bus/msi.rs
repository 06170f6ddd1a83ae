//! Message-signalled interrupts on their way to the CPU.

use std::fmt;

use crate::trace::Bdf;

/// A message with its sender, so that interrupt remapping can be put in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msi {
    /// Who sent it.
    pub requester: Bdf,
    /// Where: 0xfeexxxxx on x86 (SDM 3A, 11.11.1).
    pub address: u64,
    /// What.
    pub data: u32,
}

/// Delivers messages; implemented by the irqchip, and later by interrupt remapping in front of it.
pub trait MsiSink: fmt::Debug + Send + Sync {
    /// Delivers one. Returns whether a local APIC took it.
    fn send(&self, msi: Msi) -> bool;
}
