//! One vCPU: set-up, one step of the run loop, and retiring what is half done.

use std::sync::Arc;

use kvm_bindings::{
    CpuId, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, Msrs, kvm_cpuid_entry2, kvm_enable_cap, kvm_fpu,
    kvm_msr_entry, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::bus::{BusPort, Width};
use crate::msr::{MsrAccess, MsrAnswer, MsrHandler, Op, Reason};
use crate::trace::{Event, ExitKind, Probe, Space};

use super::collected::Ring;
use super::counts::{ExitCounts, LastExit, Recent};
use super::cpuid::{self, MachineCpuid, Topology};
use super::entry::Entry;
use super::error::VmError;
use super::msr::Stopped;
use super::run_page::RunPage;
use super::state::{VcpuState, set_msrs};

/// MSRs a direct boot expects set: the system call MSRs clear, fast strings on, and write-back memory
/// (SDM 3A, 12.11.2.1: MTRRs enabled, default type 6), which firmware would have done.
const BOOT_MSRS: &[(u32, u64)] = &[
    (0x174, 0),
    (0x175, 0),
    (0x176, 0),
    (0xc000_0081, 0),
    (0xc000_0082, 0),
    (0xc000_0083, 0),
    (0xc000_0084, 0),
    (0xc000_0102, 0),
    (0x10, 0),
    (0x1a0, 1),
    (0x2ff, 1 << 11 | 6),
];

/// Local APIC registers (SDM 3A, 11.4.1) and what a BIOS leaves in them for virtual wire mode.
const APIC_LVT0: usize = 0x350;
const APIC_LVT1: usize = 0x360;
const MODE_EXTINT: u32 = 7 << 8;
const MODE_NMI: u32 = 4 << 8;

/// Why a vCPU cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VcpuEnd {
    /// KVM_EXIT_SHUTDOWN: a triple fault.
    TripleFault,
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError {
        /// KVM_INTERNAL_ERROR_*.
        suberror: u32,
        /// What KVM says about it.
        data: Vec<u64>,
    },
    /// KVM_EXIT_FAIL_ENTRY.
    FailedEntry {
        /// The hardware's reason.
        reason: u64,
        /// The host CPU.
        cpu: u32,
    },
    /// KVM_EXIT_SYSTEM_EVENT.
    SystemEvent(u32),
    /// KVM_RUN itself failed.
    Failed {
        /// errno.
        errno: i32,
        /// A guest physical address, when KVM gives one.
        address: Option<u64>,
    },
    /// An exit this run loop never asks for.
    Unexpected(String),
    /// The policy ends the run at this access.
    StoppedByPolicy(String),
    /// The thread could not do what it was told; the text says what.
    Broken(String),
}

/// What one KVM_RUN led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The guest can go on.
    Continue,
    /// A signal or `immediate_exit` took it out.
    Interrupted,
    /// It cannot go on.
    End(VcpuEnd),
}

/// One vCPU.
#[derive(Debug)]
pub struct Vcpu {
    id: u8,
    page: RunPage,
    fd: VcpuFd,
    counts: Arc<ExitCounts>,
    recent: Recent,
    ring: Option<Arc<Ring>>,
    /// The last exit is completed only by the next KVM_RUN.
    half_done: bool,
    /// The guest's CPUID, which decides what the guest may do to MSRs.
    cpuid: Box<[kvm_cpuid_entry2]>,
}

impl Vcpu {
    pub(super) fn new(id: u8, mut fd: VcpuFd, ring: Option<Arc<Ring>>) -> Self {
        let page = RunPage::of(&mut fd);
        let (counts, recent) = (Arc::default(), Recent::new());
        Self {
            id,
            page,
            fd,
            counts,
            recent,
            ring,
            half_done: false,
            cpuid: Box::default(),
        }
    }

    /// Its number, which is its APIC id.
    #[must_use]
    pub const fn id(&self) -> u8 {
        self.id
    }

    /// The descriptor, for registers and state; retire before use.
    #[must_use]
    pub const fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Its exit counters.
    #[must_use]
    pub const fn counts(&self) -> &Arc<ExitCounts> {
        &self.counts
    }

    /// The exits before now, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<LastExit> {
        self.recent.oldest_first()
    }

    pub(super) const fn page(&self) -> RunPage {
        self.page
    }

    fn error(
        &self,
        what: &'static str,
        ioctl: &'static str,
    ) -> impl Fn(kvm_ioctls::Error) -> VmError {
        let vcpu = self.id;
        move |source| VmError::Vcpu {
            vcpu,
            what,
            ioctl,
            source,
        }
    }

    /// Gives it its own of the machine's CPUID, boot MSRs, FPU and local APIC as firmware would have left
    /// them. The machine has `cpus` vCPUs.
    ///
    /// # Errors
    /// [`VmError`]; a refused MSR is named.
    pub fn set_up(&mut self, machine: &MachineCpuid, cpus: u8) -> Result<(), VmError> {
        let apic_id = self.id;
        let cpuid = &cpuid::of_vcpu(&machine.entries, Topology { apic_id, cpus })[..];
        let list = CpuId::from_entries(cpuid).map_err(|_| VmError::TooMany {
            vcpu: self.id,
            what: "setting CPUID",
            count: cpuid.len(),
        })?;
        self.fd
            .set_cpuid2(&list)
            .map_err(self.error("setting CPUID", "KVM_SET_CPUID2"))?;
        self.cpuid = cpuid.into();
        if machine.enforces_pv {
            self.enforce_pv()?;
        }
        let msrs: Vec<_> = BOOT_MSRS
            .iter()
            .map(|&(index, data)| kvm_msr_entry {
                index,
                data,
                ..Default::default()
            })
            .collect();
        self.set_msrs(&msrs)?;
        let fpu = kvm_fpu {
            fcw: 0x37f,
            mxcsr: 0x1f80,
            ..Default::default()
        };
        self.fd
            .set_fpu(&fpu)
            .map_err(self.error("setting the FPU", "KVM_SET_FPU"))?;
        self.virtual_wire()
    }

    /// Without this every paravirtual MSR works, whatever CPUID announces (api.rst 8.28). A KVM that is too old
    /// to hide them (before Linux 5.10) leaves them there.
    fn enforce_pv(&self) -> Result<(), VmError> {
        let cap = kvm_enable_cap {
            cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
            args: [1, 0, 0, 0],
            ..Default::default()
        };
        match self.fd.enable_cap(&cap) {
            Err(error) if error.errno() != libc::EINVAL => Err(self.error(
                "hiding paravirtual MSRs",
                "KVM_CAP_ENFORCE_PV_FEATURE_CPUID",
            )(error)),
            _ => Ok(()),
        }
    }

    /// PIC interrupts arrive at LINT0 of the boot processor, NMIs at LINT1 of all
    /// (Intel MP specification 1.4, 3.6.2.2).
    fn virtual_wire(&self) -> Result<(), VmError> {
        let what = "setting the local APIC";
        let mut lapic = self
            .fd
            .get_lapic()
            .map_err(self.error(what, "KVM_GET_LAPIC"))?;
        let mut set = |at: usize, mode: u32| {
            if let Some(register) = lapic.regs.get_mut(at..at.saturating_add(4)) {
                for (to, byte) in register.iter_mut().zip(mode.to_le_bytes()) {
                    *to = i8::from_le_bytes([byte]);
                }
            }
        };
        if self.id == 0 {
            set(APIC_LVT0, MODE_EXTINT);
        }
        set(APIC_LVT1, MODE_NMI);
        self.fd
            .set_lapic(&lapic)
            .map_err(self.error(what, "KVM_SET_LAPIC"))
    }

    /// Puts the boot processor at its first instruction.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn enter_at(&self, entry: &Entry) -> Result<(), VmError> {
        let what = "setting the entry point";
        let sregs = self.sregs()?;
        self.fd
            .set_sregs(&entry.sregs(&sregs))
            .map_err(self.error(what, "KVM_SET_SREGS"))?;
        self.fd
            .set_regs(&entry.regs())
            .map_err(self.error(what, "KVM_SET_REGS"))
    }

    /// The general registers.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn regs(&self) -> Result<kvm_regs, VmError> {
        self.fd
            .get_regs()
            .map_err(self.error("reading registers", "KVM_GET_REGS"))
    }

    /// The system registers.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn sregs(&self) -> Result<kvm_sregs, VmError> {
        self.fd
            .get_sregs()
            .map_err(self.error("reading registers", "KVM_GET_SREGS"))
    }

    /// KVM_SET_MSRS.
    ///
    /// # Errors
    /// [`VmError::ShortMsrs`] names the MSR that was refused.
    pub fn set_msrs(&self, entries: &[kvm_msr_entry]) -> Result<(), VmError> {
        set_msrs(self.id, &self.fd, entries)
    }

    /// KVM_GET_MSRS of one MSR; none when KVM does not give it.
    ///
    /// # Errors
    /// [`VmError::Vcpu`].
    pub fn msr(&self, index: u32) -> Result<Option<u64>, VmError> {
        let entry = kvm_msr_entry {
            index,
            ..Default::default()
        };
        let mut list = Msrs::from_entries(&[entry]).map_err(|_| VmError::TooMany {
            vcpu: self.id,
            what: "reading an MSR",
            count: 1,
        })?;
        let done = self
            .fd
            .get_msrs(&mut list)
            .map_err(self.error("reading an MSR", "KVM_GET_MSRS"))?;
        Ok((done == 1)
            .then(|| list.as_slice().first().map(|e| e.data))
            .flatten())
    }

    /// KVM_MP_STATE_*: whether it runs, is halted, or waits to be started.
    ///
    /// # Errors
    /// [`VmError::Vcpu`].
    pub fn mp_state(&self) -> Result<u32, VmError> {
        let state = self.fd.get_mp_state();
        Ok(state
            .map_err(self.error("reading its state", "KVM_GET_MP_STATE"))?
            .mp_state)
    }

    /// Injects an NMI.
    ///
    /// # Errors
    /// [`VmError::Vcpu`].
    pub fn nmi(&self) -> Result<(), VmError> {
        self.fd
            .nmi()
            .map_err(self.error("injecting an NMI", "KVM_NMI"))
    }

    /// Everything KVM keeps of it; retire first.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn save(&self) -> Result<VcpuState, VmError> {
        VcpuState::save(self.id, &self.fd)
    }

    /// Puts a saved state back.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn restore(&mut self, state: &VcpuState) -> Result<(), VmError> {
        self.half_done = false;
        state.restore(self.id, &self.fd)
    }

    /// Completes an exit that is half done, so that the state KVM shows is at an instruction boundary.
    ///
    /// An access that spans pages comes in pieces, each an exit of its own, so this may have to answer
    /// more of them; a guest cannot make one instruction need more than a few.
    pub fn retire(&mut self, port: &BusPort, msrs: &dyn MsrHandler, probe: &Probe) -> Step {
        const PIECES: u32 = 4096;
        for _ in 0..PIECES {
            if !self.half_done {
                break;
            }
            self.page.set_immediate_exit(true);
            match self.step(port, msrs, probe) {
                Step::Continue => {}
                Step::Interrupted => break,
                end @ Step::End(_) => return end,
            }
        }
        self.page.set_immediate_exit(false);
        Step::Continue
    }

    /// Runs the guest until it needs something, and gives it that.
    #[inline]
    pub fn step(&mut self, port: &BusPort, msrs: &dyn MsrHandler, probe: &Probe) -> Step {
        let Self {
            id,
            page,
            fd,
            counts,
            recent,
            ring,
            half_done,
            cpuid,
        } = self;
        let (id, page) = (*id, *page);
        *half_done = false;
        let ran = fd.run();
        if let Some(ring) = ring {
            let count = ring.drain(port, probe);
            ExitCounts::add(&counts.collected, count);
        }
        let exit = match ran {
            Ok(exit) => exit,
            Err(error) => match error.errno() {
                libc::EINTR => {
                    ExitCounts::bump(&counts.interrupted);
                    page.set_immediate_exit(false);
                    return Step::Interrupted;
                }
                // A vCPU that waits for its start-up IPI was woken: there is nothing to handle.
                libc::EAGAIN => return Step::Continue,
                errno => {
                    return Step::End(VcpuEnd::Failed {
                        errno,
                        address: None,
                    });
                }
            },
        };
        let other = |kind: ExitKind, detail: u64, name: &'static str, recent: &mut Recent| {
            ExitCounts::bump(&counts.other);
            recent.push(LastExit::Other(name));
            probe.emit(|| Event::Exit { kind, detail });
        };
        match exit {
            VcpuExit::IoOut(number, data) => {
                ExitCounts::bump(&counts.pio);
                let width = page.io_size();
                for element in data.chunks(usize::from(width.max(1))) {
                    let value = number_of(element);
                    recent.push(LastExit::Out {
                        port: number,
                        width,
                        value,
                    });
                    if let Some(width) = Width::of(element.len()) {
                        let bus = &port.bus;
                        bus.write(Space::Pio, number.into(), width, value, &*port.sink, probe);
                    }
                }
                *half_done = true;
            }
            VcpuExit::IoIn(number, data) => {
                ExitCounts::bump(&counts.pio);
                let width = page.io_size();
                for element in data.chunks_mut(usize::from(width.max(1))) {
                    let value = Width::of(element.len()).map_or(u64::MAX, |width| {
                        port.bus
                            .read(Space::Pio, number.into(), width, &*port.sink, probe)
                    });
                    put(element, value);
                    recent.push(LastExit::In {
                        port: number,
                        width,
                        value,
                    });
                }
                *half_done = true;
            }
            VcpuExit::MmioWrite(address, data) => {
                ExitCounts::bump(&counts.mmio);
                for (offset, len) in pieces(data.len()) {
                    let element = data
                        .get(offset..offset.saturating_add(len))
                        .unwrap_or_default();
                    let (at, value) = (address.wrapping_add(offset as u64), number_of(element));
                    if let Some(width) = Width::of(len) {
                        let width8 = width.bytes();
                        recent.push(LastExit::Store {
                            address: at,
                            width: width8,
                            value,
                        });
                        port.bus
                            .write(Space::Mmio, at, width, value, &*port.sink, probe);
                    }
                }
                *half_done = true;
            }
            VcpuExit::MmioRead(address, data) => {
                ExitCounts::bump(&counts.mmio);
                for (offset, len) in pieces(data.len()) {
                    let at = address.wrapping_add(offset as u64);
                    let Some(width) = Width::of(len) else {
                        continue;
                    };
                    let value = port.bus.read(Space::Mmio, at, width, &*port.sink, probe);
                    let element = data.get_mut(offset..offset.saturating_add(len));
                    put(element.unwrap_or_default(), value);
                    recent.push(LastExit::Load {
                        address: at,
                        width: width.bytes(),
                        value,
                    });
                }
                *half_done = true;
            }
            VcpuExit::X86Rdmsr(msr) => {
                ExitCounts::bump(&counts.msr);
                let access = MsrAccess {
                    vcpu: id,
                    index: msr.index,
                    op: Op::Read,
                    reason: Reason::from_bits(msr.reason.bits()),
                };
                *half_done = true;
                return answer_msr(access, page, fd, cpuid, msrs, recent, probe);
            }
            VcpuExit::X86Wrmsr(msr) => {
                ExitCounts::bump(&counts.msr);
                let access = MsrAccess {
                    vcpu: id,
                    index: msr.index,
                    op: Op::Write(msr.data),
                    reason: Reason::from_bits(msr.reason.bits()),
                };
                *half_done = true;
                return answer_msr(access, page, fd, cpuid, msrs, recent, probe);
            }
            VcpuExit::Hlt => other(ExitKind::Halt, 0, "hlt", recent),
            // The in-kernel irqchip injects by itself; an open window needs nothing from us.
            VcpuExit::IrqWindowOpen => other(ExitKind::IrqWindow, 0, "irq window", recent),
            // Only a split irqchip hands these out; the full one has told its own IOAPIC.
            VcpuExit::IoapicEoi(vector) => {
                other(ExitKind::IoapicEoi, vector.into(), "ioapic eoi", recent);
            }
            VcpuExit::Intr => other(ExitKind::Interrupted, 0, "intr", recent),
            VcpuExit::Debug(arch) => {
                other(ExitKind::Debug, arch.pc, "debug", recent);
                return Step::End(VcpuEnd::Unexpected(format!(
                    "KVM_EXIT_DEBUG at {:#x}",
                    arch.pc
                )));
            }
            VcpuExit::Hypercall(call) => {
                let number = call.nr;
                // -KVM_ENOSYS (include/uapi/linux/kvm_para.h): no hypercall is ours.
                *call.ret = u64::MAX.wrapping_sub(999);
                *half_done = true;
                other(ExitKind::Hypercall, number, "hypercall", recent);
            }
            VcpuExit::Shutdown => {
                other(ExitKind::Shutdown, 0, "shutdown", recent);
                return Step::End(VcpuEnd::TripleFault);
            }
            VcpuExit::FailEntry(reason, cpu) => {
                other(ExitKind::FailEntry, reason, "failed entry", recent);
                return Step::End(VcpuEnd::FailedEntry { reason, cpu });
            }
            VcpuExit::InternalError => {
                let error = page.internal_error();
                other(
                    ExitKind::InternalError,
                    error.suberror.into(),
                    "internal error",
                    recent,
                );
                let (suberror, data) = (error.suberror, error.data);
                return Step::End(VcpuEnd::InternalError { suberror, data });
            }
            VcpuExit::SystemEvent(kind, _) => {
                other(ExitKind::SystemEvent, kind.into(), "system event", recent);
                return Step::End(VcpuEnd::SystemEvent(kind));
            }
            VcpuExit::MemoryFault { gpa, .. } => {
                other(ExitKind::MemoryFault, gpa, "memory fault", recent);
                let address = Some(gpa);
                return Step::End(VcpuEnd::Failed {
                    errno: libc::EFAULT,
                    address,
                });
            }
            unexpected => {
                let name = format!("{unexpected:?}");
                other(ExitKind::Other, 0, "other", recent);
                return Step::End(VcpuEnd::Unexpected(name));
            }
        }
        Step::Continue
    }
}

/// Gets the answer to an access and leaves it where the next KVM_RUN looks for it, which works for
/// every form of the instructions: KVM itself knows which registers a read goes to.
fn answer_msr(
    access: MsrAccess,
    page: RunPage,
    fd: &VcpuFd,
    cpuid: &[kvm_cpuid_entry2],
    msrs: &dyn MsrHandler,
    recent: &mut Recent,
    probe: &Probe,
) -> Step {
    let id = access.vcpu;
    let mut stopped = Stopped { id, fd, cpuid };
    let answer = msrs.answer(access, &mut stopped);
    let answered = match answer {
        MsrAnswer::Value(value) => Some(value),
        // Until it is retired with #GP, a vCPU that the policy stops is still at the instruction.
        MsrAnswer::Fault | MsrAnswer::Stop => None,
    };
    page.answer_msr(answered);
    let (index, direction) = (access.index, access.op.direction());
    let value = match access.op {
        Op::Read => {
            recent.push(LastExit::Rdmsr {
                index,
                value: answered,
            });
            answered
        }
        Op::Write(value) => {
            recent.push(LastExit::Wrmsr {
                index,
                value,
                accepted: answered.is_some(),
            });
            Some(value)
        }
    };
    // RIP costs an ioctl, so it is read only when somebody listens.
    if probe.is_on() {
        let rip = fd.get_regs().map_or(0, |r| r.rip);
        probe.emit(|| Event::Msr {
            direction,
            index: index.into(),
            value,
            refused: answered.is_none(),
            reason: access.reason.bits(),
            rip,
        });
    }
    match answer {
        MsrAnswer::Stop => Step::End(VcpuEnd::StoppedByPolicy(msrs.why(access))),
        _ => Step::Continue,
    }
}

/// Little-endian, up to eight bytes.
pub(super) fn number_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

fn put(bytes: &mut [u8], value: u64) {
    for (to, from) in bytes.iter_mut().zip(value.to_le_bytes()) {
        *to = from;
    }
}

/// Splits a memory access of any length into widths a register can have: KVM cuts accesses at page
/// ends, which leaves lengths such as three.
fn pieces(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = len.saturating_sub(at);
        let piece = [8, 4, 2, 1].into_iter().find(|p| *p <= left)?;
        at = at.saturating_add(piece);
        Some((at.saturating_sub(piece), piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_of_odd_length_is_split_into_register_widths() {
        let split = |len| pieces(len).collect::<Vec<_>>();
        assert_eq!(split(8), [(0, 8)]);
        assert_eq!(split(7), [(0, 4), (4, 2), (6, 1)]);
        assert_eq!(split(3), [(0, 2), (2, 1)]);
        assert!(split(0).is_empty());
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(number_of(&[1, 2, 3]), 0x30201);
        let mut bytes = [0; 2];
        put(&mut bytes, 0xaabb_ccdd);
        assert_eq!(bytes, [0xdd, 0xcc]);
    }
}
