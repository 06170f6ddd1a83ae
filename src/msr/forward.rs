//! Doing for KVM what KVM would have done, had the policy not wanted to see it.
//!
//! User space reaches an MSR as the host does, and KVM treats the host otherwise than the guest: it
//! skips CPUID gates and locks, and lets read-only bits be written. What KVM applies to both alike
//! (reserved bits, canonical addresses) is left to KVM; what it applies to the guest alone is here.

use super::access::Cpu;
use super::names::{Access, Class, Forward, Msr};

/// How an access is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Ask KVM; for a write, with this value.
    Perform(u64),
    /// The guest gets #GP.
    Fault,
    /// The write is taken and changes nothing.
    Drop,
    /// It cannot be done faithfully.
    Refuse,
}

const APIC_BASE: u32 = 0x1b;
const MCG_CAP: u32 = 0x179;
const MCG_CTL: u32 = 0x17b;
const EFER: u32 = 0xc000_0080;
const HWCR: u32 = 0xc001_0015;

const APIC_ENABLE: u64 = 1 << 11;
const APIC_EXTD: u64 = 1 << 10;
const MCG_CTL_P: u64 = 1 << 8;
const MCG_CMCI_P: u64 = 1 << 10;
const EFER_LME: u64 = 1 << 8;
const HWCR_MC_STATUS_WR_EN: u64 = 1 << 18;
const CR0_PG: u64 = 1 << 31;

fn gated(msr: &Msr, cpu: &dyn Cpu) -> bool {
    let row = msr.row;
    row.guarded && !row.cpuid.is_empty() && !row.cpuid.iter().any(|bit| cpu.cpuid(bit))
}

/// How a read is to be done. An MSR without a row is asked of KVM, which most likely refuses.
pub fn read(msr: Option<&Msr>, cpu: &mut dyn Cpu) -> Plan {
    let Some(msr) = msr else {
        return Plan::Perform(0);
    };
    match (msr.row.access, msr.row.read) {
        (Access::WriteOnly | Access::HostOnly, _) => Plan::Fault,
        (_, Forward::Never) => Plan::Refuse,
        _ if gated(msr, cpu) || !machine_check(msr.index, cpu) => Plan::Fault,
        _ => Plan::Perform(0),
    }
}

/// How a write of `value` is to be done.
pub fn write(msr: Option<&Msr>, value: u64, cpu: &mut dyn Cpu) -> Plan {
    let Some(msr) = msr else {
        return Plan::Perform(value);
    };
    let row = msr.row;
    match (row.access, row.write) {
        (Access::ReadOnly | Access::HostOnly, _) => return Plan::Fault,
        (_, Forward::Never) => return Plan::Refuse,
        (_, Forward::Exact) => return Plan::Perform(value),
        _ => {}
    }
    if gated(msr, cpu) {
        return Plan::Fault;
    }
    // Bits that only some processors have.
    let known = row.gated.iter().fold(0, |bits, (mask, _)| bits | mask);
    let present = |(_, bit): &&(u64, _)| cpu.cpuid(bit);
    let allowed = row
        .gated
        .iter()
        .filter(present)
        .fold(0, |bits, (mask, _)| bits | mask);
    if value & known & !allowed != 0 {
        return Plan::Fault;
    }
    let dropped = !(row.writable | row.reserved);
    if dropped == u64::MAX {
        // KVM drops the host's writes of the others as it drops the guest's.
        let hosts = row.class == Class::Feature;
        return if hosts {
            Plan::Drop
        } else {
            Plan::Perform(value)
        };
    }
    let needs_old = dropped != 0 || row.fixed != 0 || row.lock.is_some();
    let old = if needs_old { cpu.get(msr.index) } else { None };
    if let Some(old) = old
        && ((old ^ value) & row.fixed != 0 || row.lock.is_some_and(|bit| old >> bit & 1 != 0))
    {
        return Plan::Fault;
    }
    if !own_rule(msr, value, cpu) {
        return Plan::Fault;
    }
    Plan::Perform(value & !dropped | old.unwrap_or(0) & dropped)
}

/// Rules that one register has and no column of the table says; whether the value passes.
fn own_rule(msr: &Msr, value: u64, cpu: &mut dyn Cpu) -> bool {
    match msr.index {
        // SDM 3A, 11.12.5: from x2APIC only to disabled, and from disabled not to x2APIC.
        APIC_BASE => {
            let mode = |base: u64| (base & APIC_ENABLE != 0, base & APIC_EXTD != 0);
            let old = cpu.get(APIC_BASE).map(mode);
            !matches!(
                (old, mode(value)),
                (Some((true, true)), (true, false)) | (Some((false, _)), (true, true))
            )
        }
        // SDM 3A, 2.2.1: IA32_EFER.LME does not change while paging is on.
        EFER => {
            let old = cpu.get(EFER).unwrap_or(value);
            (old ^ value) & EFER_LME == 0 || cpu.control().0 & CR0_PG == 0
        }
        // APM 2, 9.3.2: a status other than zero needs HWCR.McStatusWrEn.
        0x400..=0x47f if msr.index & 3 == 1 && value != 0 => {
            cpu.get(HWCR).unwrap_or(0) & HWCR_MC_STATUS_WR_EN != 0
        }
        index => machine_check(index, cpu),
    }
}

/// The control registers of machine check exist where IA32_MCG_CAP says so (SDM 3B, 16.3.1.1).
fn machine_check(index: u32, cpu: &mut dyn Cpu) -> bool {
    let needed = match index {
        MCG_CTL => MCG_CTL_P,
        0x280..=0x29f => MCG_CMCI_P,
        _ => return true,
    };
    cpu.get(MCG_CAP).unwrap_or(0) & needed != 0
}

#[cfg(test)]
pub(super) mod tests;
