//! Saving and restoring vCPUs and the in-kernel devices.
//!
//! The order is KVM's, not ours (msr.md section 6): CPUID first, for it decides which MSRs exist; then
//! MP state, registers, system registers (EFER and the APIC base), the local APIC, then MSRs, and
//! the events last, for they hold what the earlier calls may queue.
#![expect(
    unsafe_code,
    reason = "KVM_SET_XSAVE trusts the size of the area it is given"
)]

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_CLOCK_TSC_STABLE, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KVM_MAX_CPUID_ENTRIES, Msrs, kvm_clock_data, kvm_cpuid_entry2, kvm_debugregs, kvm_irqchip,
    kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_pit_state2, kvm_regs, kvm_sregs,
    kvm_vcpu_events, kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::error::VmError;
use crate::msr::{BadMsrState, Engine, MsrState};

/// KVM_SET_MSRS and KVM_GET_MSRS refuse 256 entries and more (arch/x86/kvm/x86.c, MAX_IO_MSRS).
const MSRS_PER_CALL: usize = 255;

const IA32_TSC: u32 = 0x10;
const IA32_TSC_DEADLINE: u32 = 0x6e0;

/// The MSRs every x86-64 vCPU has and that are part of its state, in the order they are restored:
/// the TSC before the deadline that is compared with it.
pub const MSRS_OF_STATE: &[u32] = &[
    IA32_TSC,
    0x3b,        // IA32_TSC_ADJUST
    0x174,       // IA32_SYSENTER_CS
    0x175,       // IA32_SYSENTER_ESP
    0x176,       // IA32_SYSENTER_EIP
    0x1a0,       // IA32_MISC_ENABLE
    0x277,       // IA32_PAT
    0x2ff,       // IA32_MTRR_DEF_TYPE
    0xc000_0081, // STAR
    0xc000_0082, // LSTAR
    0xc000_0083, // CSTAR
    0xc000_0084, // FMASK
    0xc000_0102, // KERNEL_GS_BASE
    0xc000_0103, // TSC_AUX
    IA32_TSC_DEADLINE,
];

/// Everything KVM keeps of one vCPU.
#[derive(Debug, Clone)]
pub struct VcpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    mp_state: kvm_mp_state,
    regs: kvm_regs,
    sregs: kvm_sregs,
    xsave: Arc<kvm_xsave>,
    xcrs: kvm_xcrs,
    debugregs: kvm_debugregs,
    lapic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    events: kvm_vcpu_events,
}

impl VcpuState {
    /// Saves a vCPU whose pending exit has been retired.
    ///
    /// # Errors
    /// [`VmError`] naming the call.
    pub fn save(id: u8, fd: &VcpuFd) -> Result<Self, VmError> {
        let save = |ioctl| {
            move |source| VmError::Vcpu {
                vcpu: id,
                what: "saving it",
                ioctl,
                source,
            }
        };
        let cpuid = fd
            .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
            .map_err(save("KVM_GET_CPUID2"))?;
        Ok(Self {
            cpuid: cpuid.as_slice().to_vec(),
            // MP state first: it folds a pending INIT or SIPI into what the other calls return.
            mp_state: fd.get_mp_state().map_err(save("KVM_GET_MP_STATE"))?,
            regs: fd.get_regs().map_err(save("KVM_GET_REGS"))?,
            sregs: fd.get_sregs().map_err(save("KVM_GET_SREGS"))?,
            xsave: fd.get_xsave().map_err(save("KVM_GET_XSAVE"))?.into(),
            xcrs: fd.get_xcrs().map_err(save("KVM_GET_XCRS"))?,
            debugregs: fd.get_debug_regs().map_err(save("KVM_GET_DEBUGREGS"))?,
            lapic: fd.get_lapic().map_err(save("KVM_GET_LAPIC"))?,
            msrs: present_msrs(id, fd, MSRS_OF_STATE)?,
            events: fd.get_vcpu_events().map_err(save("KVM_GET_VCPU_EVENTS"))?,
        })
    }

    /// Puts the state back.
    ///
    /// # Errors
    /// [`VmError`] naming the call; the vCPU is then in a mixed state and must not run.
    pub fn restore(&self, id: u8, fd: &VcpuFd) -> Result<(), VmError> {
        let load = |ioctl| {
            move |source| VmError::Vcpu {
                vcpu: id,
                what: "restoring it",
                ioctl,
                source,
            }
        };
        let cpuid = CpuId::from_entries(&self.cpuid).map_err(|_| VmError::TooMany {
            vcpu: id,
            what: "restoring CPUID",
            count: self.cpuid.len(),
        })?;
        fd.set_cpuid2(&cpuid).map_err(load("KVM_SET_CPUID2"))?;
        fd.set_mp_state(self.mp_state)
            .map_err(load("KVM_SET_MP_STATE"))?;
        fd.set_regs(&self.regs).map_err(load("KVM_SET_REGS"))?;
        fd.set_sregs(&self.sregs).map_err(load("KVM_SET_SREGS"))?;
        fd.set_xcrs(&self.xcrs).map_err(load("KVM_SET_XCRS"))?;
        // SAFETY: the area came from KVM_GET_XSAVE of a vCPU with the same CPUID; no feature whose
        // state is larger than the fixed 4 KiB (AMX) is enabled, as none is ever asked for.
        unsafe { fd.set_xsave(&self.xsave) }.map_err(load("KVM_SET_XSAVE"))?;
        fd.set_debug_regs(&self.debugregs)
            .map_err(load("KVM_SET_DEBUGREGS"))?;
        fd.set_lapic(&self.lapic).map_err(load("KVM_SET_LAPIC"))?;
        set_msrs(id, fd, &self.msrs)?;
        fd.set_vcpu_events(&self.events)
            .map_err(load("KVM_SET_VCPU_EVENTS"))
    }

    /// The general registers.
    #[must_use]
    pub const fn regs(&self) -> &kvm_regs {
        &self.regs
    }
}

/// Sets MSRs, in batches the kernel takes.
///
/// # Errors
/// [`VmError::ShortMsrs`] with the first MSR that was refused.
pub(super) fn set_msrs(id: u8, fd: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), VmError> {
    let mut before = 0;
    for batch in entries.chunks(MSRS_PER_CALL) {
        let list = Msrs::from_entries(batch).map_err(|_| VmError::TooMany {
            vcpu: id,
            what: "setting MSRs",
            count: batch.len(),
        })?;
        let done = fd.set_msrs(&list).map_err(|source| VmError::Vcpu {
            vcpu: id,
            what: "setting MSRs",
            ioctl: "KVM_SET_MSRS",
            source,
        })?;
        if let Some(refused) = batch.get(done) {
            return Err(VmError::ShortMsrs {
                vcpu: id,
                write: true,
                index: refused.index,
                value: Some(refused.data),
                done: before + done,
                of: entries.len(),
            });
        }
        before += done;
    }
    Ok(())
}

/// Reads those of `indices` that this vCPU has, each by itself once a batch stops.
pub(super) fn present_msrs(
    id: u8,
    fd: &VcpuFd,
    indices: &[u32],
) -> Result<Vec<kvm_msr_entry>, VmError> {
    let mut have = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while !rest.is_empty() {
        let batch: Vec<_> = rest
            .iter()
            .take(MSRS_PER_CALL)
            .map(|&index| kvm_msr_entry {
                index,
                ..Default::default()
            })
            .collect();
        let mut list = Msrs::from_entries(&batch).map_err(|_| VmError::TooMany {
            vcpu: id,
            what: "reading MSRs",
            count: batch.len(),
        })?;
        let done = fd.get_msrs(&mut list).map_err(|source| VmError::Vcpu {
            vcpu: id,
            what: "reading MSRs",
            ioctl: "KVM_GET_MSRS",
            source,
        })?;
        have.extend(list.as_slice().iter().take(done).copied());
        // The one at which it stopped is not there; go on behind it.
        let skip = if done < batch.len() { done + 1 } else { done };
        rest = rest.get(skip..).unwrap_or_default();
    }
    Ok(have)
}

/// What belongs to no vCPU by itself: the in-kernel devices, and the MSRs that Trapline keeps for KVM.
#[derive(Clone)]
pub struct VmState {
    irqchips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
    clock: kvm_clock_data,
    msrs: MsrState,
}

impl std::fmt::Debug for VmState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmState")
            .field("clock", &self.clock)
            .field("msrs", &self.msrs)
            .finish_non_exhaustive()
    }
}

impl VmState {
    /// Saves them, with all vCPUs paused.
    ///
    /// # Errors
    /// [`VmError`] naming the call.
    pub fn save(fd: &VmFd, msrs: &Engine) -> Result<Self, VmError> {
        let save = |ioctl| {
            move |source| VmError::Vm {
                what: "saving the VM",
                ioctl,
                source,
            }
        };
        let mut irqchips = [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ]
        .map(|chip_id| kvm_irqchip {
            chip_id,
            ..Default::default()
        });
        for chip in &mut irqchips {
            fd.get_irqchip(chip).map_err(save("KVM_GET_IRQCHIP"))?;
        }
        Ok(Self {
            irqchips,
            pit: fd.get_pit2().map_err(save("KVM_GET_PIT2"))?,
            clock: fd.get_clock().map_err(save("KVM_GET_CLOCK"))?,
            msrs: msrs.save(),
        })
    }

    /// Puts the interrupt chips and the timer back.
    ///
    /// # Errors
    /// [`VmError`] naming the call.
    pub fn restore_chips(&self, fd: &VmFd) -> Result<(), VmError> {
        let load = |ioctl| {
            move |source| VmError::Vm {
                what: "restoring the VM",
                ioctl,
                source,
            }
        };
        for chip in &self.irqchips {
            fd.set_irqchip(chip).map_err(load("KVM_SET_IRQCHIP"))?;
        }
        fd.set_pit2(&self.pit).map_err(load("KVM_SET_PIT2"))
    }

    /// Puts the emulated MSRs back, under the policy they were saved under. They take the place of KVM's MSRs in
    /// the order of restoring; a reset of the machine is [`Engine::reset`] instead, which keeps what
    /// survives one.
    ///
    /// # Errors
    /// [`BadMsrState`]; the engine is then as it was.
    pub fn restore_msrs(&self, msrs: &Engine) -> Result<(), BadMsrState> {
        msrs.load(&self.msrs)
    }

    /// Puts kvm-clock back: guest time goes on from where it was saved.
    ///
    /// # Errors
    /// [`VmError`] naming the call.
    pub fn restore_clock(&self, fd: &VmFd) -> Result<(), VmError> {
        let mut clock = self.clock;
        // The flag is output only; setting it is refused (api.rst 4.30).
        clock.flags &= !KVM_CLOCK_TSC_STABLE;
        fd.set_clock(&clock).map_err(|source| VmError::Vm {
            what: "restoring kvm-clock",
            ioctl: "KVM_SET_CLOCK",
            source,
        })
    }
}
