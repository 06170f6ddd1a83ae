//! MSR accesses that KVM hands out, and the filter that makes it hand them out.

use kvm_bindings::{kvm_cpuid_entry2, kvm_msr_entry};
use kvm_ioctls::{Cap, MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VcpuFd};

use crate::msr::filter::Filter;
use crate::msr::names::{CpuidBit, Reg};
use crate::msr::{Cpu, MsrAccess, MsrAnswer, MsrHandler};

use super::create::Vm;
use super::error::VmError;
use super::state::{present_msrs, set_msrs};

/// A vCPU stopped at `rdmsr` or `wrmsr`.
pub(super) struct Stopped<'a> {
    pub(super) id: u8,
    pub(super) fd: &'a VcpuFd,
    pub(super) cpuid: &'a [kvm_cpuid_entry2],
}

impl Cpu for Stopped<'_> {
    fn rip(&mut self) -> Option<u64> {
        Some(self.fd.get_regs().ok()?.rip)
    }

    fn stack(&mut self) -> Option<u64> {
        let top = self.fd.translate_gva(self.fd.get_regs().ok()?.rsp).ok()?;
        (top.valid != 0).then_some(top.physical_address)
    }

    fn get(&mut self, index: u32) -> Option<u64> {
        let entries = present_msrs(self.id, self.fd, &[index]).ok()?;
        entries.first().map(|entry| entry.data)
    }

    fn set(&mut self, index: u32, value: u64) -> bool {
        let entry = kvm_msr_entry {
            index,
            data: value,
            ..Default::default()
        };
        set_msrs(self.id, self.fd, &[entry]).is_ok()
    }

    fn cpuid(&self, bit: &CpuidBit) -> bool {
        let leaf = self
            .cpuid
            .iter()
            .find(|entry| (entry.function, entry.index) == (bit.leaf, bit.subleaf));
        let register = leaf.map_or(0, |leaf| match bit.reg {
            Reg::Eax => leaf.eax,
            Reg::Ebx => leaf.ebx,
            Reg::Ecx => leaf.ecx,
            Reg::Edx => leaf.edx,
        });
        register >> (bit.bit & 31) & 1 != 0
    }

    fn control(&mut self) -> (u64, u64) {
        self.fd.get_sregs().map_or((0, 0), |s| (s.cr0, s.cr4))
    }
}

/// Answers everything with #GP: what hardware does with an MSR it does not have.
#[derive(Debug, Default, Clone, Copy)]
pub struct DenyAll;

impl MsrHandler for DenyAll {
    fn answer(&self, _: MsrAccess, _: &mut dyn Cpu) -> MsrAnswer {
        MsrAnswer::Fault
    }
}

impl Vm {
    /// Makes KVM hand out what the filter denies. A filter that was set before is replaced; vCPUs that
    /// run meanwhile see the old one or the new.
    ///
    /// # Errors
    /// [`VmError::Vm`].
    pub fn set_msr_filter(&self, filter: &Filter) -> Result<(), VmError> {
        let flags = |read: bool, write: bool| {
            let mut flags = MsrFilterRangeFlags::empty();
            flags.set(MsrFilterRangeFlags::READ, read);
            flags.set(MsrFilterRangeFlags::WRITE, write);
            flags
        };
        let ranges: Vec<_> = filter
            .ranges
            .iter()
            .map(|range| MsrFilterRange {
                flags: flags(range.read, range.write),
                base: range.base,
                msr_count: range.count,
                bitmap: &range.bitmap,
            })
            .collect();
        let default = if filter.default_allow {
            MsrFilterDefaultAction::ALLOW
        } else {
            MsrFilterDefaultAction::DENY
        };
        self.fd()
            .set_msr_filter(default, &ranges)
            .map_err(|source| VmError::Vm {
                what: "setting the MSR filter",
                ioctl: "KVM_X86_SET_MSR_FILTER",
                source,
            })
    }

    /// Whether KVM filters MSRs.
    #[must_use]
    pub fn filters_msrs(&self) -> bool {
        self.sees_msrs() && self.fd().check_extension(Cap::X86MsrFilter)
    }
}

/// Whether the host's KVM makes every unknown MSR read as zero (its parameter `ignore_msrs`), so that
/// none comes out as unknown.
#[must_use]
pub fn ignores_msrs() -> bool {
    let text = std::fs::read_to_string("/sys/module/kvm/parameters/ignore_msrs");
    text.is_ok_and(|text| matches!(text.trim(), "Y" | "1"))
}
