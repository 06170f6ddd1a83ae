//! One access by the guest, why KVM handed it out, and the answer.

use std::fmt;

use serde::Serialize;

use super::names::CpuidBit;
use crate::trace::Direction;

/// Why KVM handed an access out (KVM_MSR_EXIT_REASON_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// KVM knows the MSR and refuses the value, or the access.
    Inval,
    /// KVM does not know the MSR.
    Unknown,
    /// The filter that the policy was compiled to.
    Filter,
}

impl Reason {
    /// From KVM's bit. KVM sets one; of several the weakest claim is taken.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        if bits & 1 != 0 {
            Self::Inval
        } else if bits & 2 != 0 {
            Self::Unknown
        } else {
            Self::Filter
        }
    }

    /// KVM's bit.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Inval => 1,
            Self::Unknown => 2,
            Self::Filter => 4,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inval => "KVM refuses it",
            Self::Unknown => "KVM does not know it",
            Self::Filter => "filtered",
        })
    }
}

/// `rdmsr`, or `wrmsr` of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `rdmsr`, in any of its forms.
    Read,
    /// `wrmsr` or `wrmsrns`.
    Write(u64),
}

impl Op {
    /// The instruction.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Read => "rdmsr",
            Self::Write(_) => "wrmsr",
        }
    }

    /// Which way it goes.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::Read => Direction::Read,
            Self::Write(_) => Direction::Write,
        }
    }
}

/// One access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsrAccess {
    /// Which vCPU.
    pub vcpu: u8,
    /// Which MSR.
    pub index: u32,
    /// What it does.
    pub op: Op,
    /// Why it came out.
    pub reason: Reason,
}

/// The answer to one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MsrAnswer {
    /// Done. The value is what a read returns; a write ignores it.
    Value(u64),
    /// #GP(0).
    Fault,
    /// The run ends here. The guest has not got past the instruction.
    Stop,
}

/// The vCPU that made the access, stopped at it, as far as an answer may need it.
pub trait Cpu {
    /// Where the instruction lies; none when KVM does not say.
    fn rip(&mut self) -> Option<u64>;
    /// The guest physical address that RSP points to; none when nothing is mapped there.
    fn stack(&mut self) -> Option<u64> {
        None
    }
    /// `KVM_GET_MSRS` of one MSR; none when KVM does not give it.
    fn get(&mut self, index: u32) -> Option<u64>;
    /// `KVM_SET_MSRS` of one MSR; whether KVM took it.
    fn set(&mut self, index: u32, value: u64) -> bool;
    /// Whether the guest's CPUID has a bit.
    fn cpuid(&self, bit: &CpuidBit) -> bool;
    /// CR0 and CR4.
    fn control(&mut self) -> (u64, u64);
}

/// Answers accesses. Called on the vCPU's thread with no lock held.
pub trait MsrHandler: Send + Sync {
    /// The answer to one access.
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer;

    /// What to say of an access that was answered with [`MsrAnswer::Stop`].
    fn why(&self, access: MsrAccess) -> String {
        let verb = access.op.verb();
        format!(
            "vCPU {}: {verb} {}",
            access.vcpu,
            super::describe(access.index)
        )
    }
}

/// A closure answers too.
impl<F> MsrHandler for F
where
    F: Fn(MsrAccess, &mut dyn Cpu) -> MsrAnswer + Send + Sync,
{
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        self(access, cpu)
    }
}
