//! /dev/kvm, and what Trapline asks of it.

use std::io;

use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::{Cap, Kvm};

/// Something KVM may or may not be able to do.
#[derive(Debug, Clone, Copy)]
pub struct Capability {
    /// KVM's name for it, without `KVM_CAP_`.
    pub name: &'static str,
    /// Its number in the uapi header.
    pub number: u32,
    /// Whether nothing runs without it.
    pub required: bool,
    /// What is lost without it.
    pub lost: &'static str,
}

const fn cap(cap: Cap, name: &'static str, required: bool, lost: &'static str) -> Capability {
    Capability {
        name,
        number: cap as u32,
        required,
        lost,
    }
}

/// Every capability Trapline uses (include/uapi/linux/kvm.h).
pub const CAPABILITIES: &[Capability] = &[
    cap(Cap::UserMemory, "USER_MEMORY", true, "guest memory"),
    cap(
        Cap::Irqchip,
        "IRQCHIP",
        true,
        "the in-kernel interrupt controllers",
    ),
    cap(Cap::Pit2, "PIT2", true, "the in-kernel timer"),
    cap(
        Cap::SetTssAddr,
        "SET_TSS_ADDR",
        true,
        "real mode on older Intel hosts",
    ),
    cap(Cap::ExtCpuid, "EXT_CPUID", true, "the guest's CPUID"),
    cap(
        Cap::MpState,
        "MP_STATE",
        true,
        "starting more than one vCPU",
    ),
    cap(
        Cap::ImmediateExit,
        "IMMEDIATE_EXIT",
        true,
        "pausing at an instruction boundary",
    ),
    cap(
        Cap::VcpuEvents,
        "VCPU_EVENTS",
        true,
        "pending exceptions in a saved vCPU",
    ),
    cap(
        Cap::Debugregs,
        "DEBUGREGS",
        false,
        "debug registers in a saved vCPU",
    ),
    cap(
        Cap::Xsave,
        "XSAVE",
        false,
        "vector registers in a saved vCPU",
    ),
    cap(Cap::Xcrs, "XCRS", false, "XCR0 in a saved vCPU"),
    cap(
        Cap::AdjustClock,
        "ADJUST_CLOCK",
        false,
        "kvm-clock that stands still in a pause",
    ),
    cap(
        Cap::SignalMsi,
        "SIGNAL_MSI",
        false,
        "message-signalled interrupts",
    ),
    cap(
        Cap::Irqfd,
        "IRQFD",
        false,
        "interrupts straight from passed-through devices",
    ),
    cap(
        Cap::TscDeadlineTimer,
        "TSC_DEADLINE_TIMER",
        false,
        "the guest's cheapest timer",
    ),
    cap(
        Cap::X86UserSpaceMsr,
        "X86_USER_SPACE_MSR",
        false,
        "seeing unknown MSR accesses",
    ),
    cap(
        Cap::X86MsrFilter,
        "X86_MSR_FILTER",
        false,
        "a policy on MSRs that KVM knows",
    ),
    cap(
        Cap::CoalescedPio,
        "COALESCED_PIO",
        false,
        "serial output and disk commands with half the exits",
    ),
];

/// Looks a capability up by number; zero when KVM lacks it.
#[must_use]
pub fn capability(kvm: &Kvm, capability: &Capability) -> i32 {
    kvm.check_extension_raw(capability.number.into())
}

/// /dev/kvm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there.
    #[error(
        "there is no /dev/kvm: load the module (modprobe kvm_intel or kvm_amd) and switch \
         virtualisation on in the firmware, or use the lab (--in lab)"
    )]
    Missing,
    /// It may not be opened.
    #[error(
        "no permission on /dev/kvm: where its group may open it (ls -l /dev/kvm), sudo usermod -aG kvm $USER \
         and log in again; else run as root, or use the lab (--in lab)"
    )]
    Denied,
    /// It cannot be opened for another reason.
    #[error("cannot open /dev/kvm")]
    Open {
        /// Why.
        source: io::Error,
    },
    /// A KVM of another age.
    #[error("/dev/kvm speaks API version {0}, not {KVM_API_VERSION}")]
    Version(i32),
    /// A KVM that cannot do what nothing runs without.
    #[error("this KVM lacks KVM_CAP_{name}: no {lost}")]
    Lacks {
        /// Which capability.
        name: &'static str,
        /// What is lost.
        lost: &'static str,
    },
}

/// Opens /dev/kvm and checks what nothing runs without.
///
/// # Errors
/// [`OpenError`], which says what to do.
pub fn open() -> Result<Kvm, OpenError> {
    let kvm = Kvm::new().map_err(|e| match e.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => OpenError::Missing,
        libc::EACCES | libc::EPERM => OpenError::Denied,
        errno => OpenError::Open {
            source: io::Error::from_raw_os_error(errno),
        },
    })?;
    let version = kvm.get_api_version();
    if u32::try_from(version) != Ok(KVM_API_VERSION) {
        return Err(OpenError::Version(version));
    }
    match CAPABILITIES
        .iter()
        .find(|c| c.required && capability(&kvm, c) <= 0)
    {
        None => Ok(kvm),
        Some(c) => Err(OpenError::Lacks {
            name: c.name,
            lost: c.lost,
        }),
    }
}
