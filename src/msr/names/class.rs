//! What kind of register a row is, and what follows from the kind.

use serde::Serialize;

/// Who defines a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Intel and AMD alike.
    Any,
    /// Intel (SDM volume 4).
    Intel,
    /// AMD (APM volume 2, appendix A, and the PPRs).
    Amd,
    /// KVM's own (uapi `asm/kvm_para.h`).
    Kvm,
    /// Hyper-V (TLFS, appendix on synthetic MSRs).
    HyperV,
    /// Xen's hypercall page.
    Xen,
}

/// The kind of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// CPU state that KVM lets the guest reach without an exit.
    Passthrough,
    /// KVM keeps the value and gives it some meaning.
    Emulated,
    /// Moves by itself, or arms a timer.
    Time,
    /// The local APIC.
    Apic,
    /// Names guest memory that the hypervisor writes.
    PvGpa,
    /// Performance counters and their controls.
    Pmu,
    /// Machine check.
    Mce,
    /// Memory types.
    Mtrr,
    /// Says what the processor can do.
    Feature,
    /// Says what VMX or SVM can do, or controls it.
    Vmx,
    /// Branch records, single-step, breakpoints, processor trace.
    Debug,
    /// Control-flow enforcement and other state of XSAVES.
    Cet,
    /// Speculation control.
    Mitigation,
    /// Synthetic MSRs of Hyper-V.
    Hyperv,
    /// Xen.
    Xen,
    /// KVM reads a constant and drops writes.
    LegacyZero,
    /// Power, thermal, SMM and chipset registers that KVM does not have.
    Platform,
}

/// Whether an access that KVM would have handled may be done for it through `KVM_GET_MSRS` and
/// `KVM_SET_MSRS`, which act as the host and not as the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// As it is: host and guest are treated alike.
    Exact,
    /// After the guest's rules have been applied.
    Checked,
    /// Not faithfully at all.
    Never,
}

/// What an access by the guest can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// A write gets #GP.
    ReadOnly,
    /// A read gets #GP.
    WriteOnly,
    /// The guest gets #GP either way; KVM lets the host at it.
    HostOnly,
}

/// When an MSR is put back, after the order that KVM needs (0: never).
pub mod rank {
    /// Not state, or not KVM's.
    pub const NEVER: u8 = 0;
    /// Feature MSRs: what others are checked against.
    pub const FEATURE: u8 = 10;
    /// Needs a feature MSR: MISC_FEATURES_ENABLES after PLATFORM_INFO.
    pub const AFTER_FEATURE: u8 = 20;
    /// The APIC base, which must agree with KVM_SET_SREGS.
    pub const APIC: u8 = 30;
    /// Before whatever consumes the XSAVE area.
    pub const XSAVE: u8 = 40;
    /// In any order.
    pub const PLAIN: u8 = 50;
    /// The counter itself.
    pub const TSC: u8 = 60;
    /// Timers that compare with the counter.
    pub const TIMER: u8 = 70;
    /// Machine check, after KVM_X86_SETUP_MCE.
    pub const MCE: u8 = 80;
    /// Names guest memory: after the memory slots.
    pub const GPA: u8 = 90;
    /// Hyper-V's identity, before the rest of it.
    pub const HYPERV_ID: u8 = 100;
    /// Hyper-V's pages and controls.
    pub const HYPERV: u8 = 110;
    /// Its synthetic interrupts, after SCONTROL.
    pub const HYPERV_SINT: u8 = 120;
    /// Its timers, configuration and count as a pair.
    pub const HYPERV_TIMER: u8 = 130;
}

/// What the class says until a row says otherwise.
pub(super) struct Defaults {
    pub(super) effect: bool,
    pub(super) volatile: bool,
    pub(super) read: Forward,
    pub(super) write: Forward,
    pub(super) guarded: bool,
    pub(super) restore: u8,
    pub(super) danger: u8,
}

impl Class {
    pub(super) const fn defaults(self) -> Defaults {
        use Forward::{Checked, Exact, Never};
        let (effect, write, restore, danger) = match self {
            Self::Passthrough | Self::Debug | Self::Mitigation | Self::Pmu => {
                (true, Checked, rank::PLAIN, 1)
            }
            Self::Emulated => (false, Checked, rank::PLAIN, 0),
            Self::Time => (true, Never, rank::TSC, 2),
            Self::Apic => (true, Never, rank::APIC, 2),
            Self::PvGpa => (true, Checked, rank::GPA, 2),
            Self::Mce => (false, Checked, rank::MCE, 1),
            Self::Mtrr => (true, Exact, rank::PLAIN, 1),
            Self::Feature => (false, Checked, rank::FEATURE, 0),
            Self::Vmx => (true, Checked, rank::FEATURE, 1),
            Self::Cet => (true, Checked, rank::XSAVE, 1),
            Self::Hyperv => (true, Never, rank::HYPERV, 2),
            Self::Xen => (true, Never, rank::NEVER, 2),
            Self::LegacyZero => (false, Checked, rank::NEVER, 0),
            Self::Platform => (false, Checked, rank::NEVER, 1),
        };
        Defaults {
            effect,
            volatile: matches!(self, Self::Time),
            read: match self {
                Self::Apic | Self::Xen => Never,
                _ => Exact,
            },
            write,
            guarded: matches!(
                self,
                Self::Vmx | Self::Cet | Self::Mitigation | Self::Hyperv | Self::Feature
            ),
            restore,
            danger,
        }
    }
}
