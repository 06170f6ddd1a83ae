use std::collections::BTreeMap;

use super::*;
use crate::msr::names::{self, CpuidBit, of};

/// A vCPU that has what it is told to have.
#[derive(Debug, Default)]
pub(in crate::msr) struct Fake {
    pub(in crate::msr) values: BTreeMap<u32, u64>,
    pub(in crate::msr) has: Vec<&'static str>,
    pub(in crate::msr) cr0: u64,
    pub(in crate::msr) refuses: bool,
}

impl Cpu for Fake {
    fn rip(&mut self) -> Option<u64> {
        Some(0x1000)
    }
    fn get(&mut self, index: u32) -> Option<u64> {
        self.values.get(&index).copied()
    }
    fn set(&mut self, index: u32, value: u64) -> bool {
        if !self.refuses {
            self.values.insert(index, value);
        }
        !self.refuses
    }
    fn cpuid(&self, bit: &CpuidBit) -> bool {
        self.has.contains(&bit.name)
    }
    fn control(&mut self) -> (u64, u64) {
        (self.cr0, 0)
    }
}

fn cpu(values: &[(u32, u64)], has: &[&'static str]) -> Fake {
    Fake {
        values: values.iter().copied().collect(),
        has: has.to_vec(),
        ..Fake::default()
    }
}

fn try_write(index: u32, value: u64, cpu: &mut Fake) -> Plan {
    write(of(index).as_ref(), value, cpu)
}

#[test]
fn what_the_guest_may_not_do_at_all_gets_gp() {
    let mut cpu = cpu(&[(0xce, 1)], &["ARCH_CAPABILITIES", "SPEC_CTRL"]);
    assert_eq!(try_write(0xce, 1, &mut cpu), Plan::Fault, "read-only");
    assert_eq!(try_write(0x9e, 0, &mut cpu), Plan::Fault, "the host's only");
    assert_eq!(read(of(0x9e).as_ref(), &mut cpu), Plan::Fault);
    assert_eq!(read(of(0x49).as_ref(), &mut cpu), Plan::Fault, "write-only");
    assert_eq!(try_write(0x49, 1, &mut cpu), Plan::Perform(1));
}

#[test]
fn a_cpuid_gate_that_the_host_may_pass_holds_for_the_guest() {
    let mut without = cpu(&[], &[]);
    let mut with = cpu(&[], &["RDPID"]);
    assert_eq!(try_write(0xc000_0103, 1, &mut without), Plan::Fault);
    assert_eq!(try_write(0xc000_0103, 1, &mut with), Plan::Perform(1));
    assert_eq!(read(of(0x48).as_ref(), &mut without), Plan::Fault);
    // KVM has MTRRs whatever CPUID says.
    assert_eq!(try_write(0x2ff, 6, &mut without), Plan::Perform(6));
}

#[test]
fn bits_of_efer_need_their_feature_and_lme_stands_while_paging_is_on() {
    let mut cpu = cpu(&[(0xc000_0080, 0x500)], &["LM", "SYSCALL"]);
    assert_eq!(
        try_write(0xc000_0080, 0x501, &mut cpu),
        Plan::Perform(0x501)
    );
    assert_eq!(
        try_write(0xc000_0080, 0xd01, &mut cpu),
        Plan::Fault,
        "no NX"
    );
    cpu.has.push("NX");
    assert_eq!(
        try_write(0xc000_0080, 0xd01, &mut cpu),
        Plan::Perform(0xd01)
    );
    assert_eq!(
        try_write(0xc000_0080, 0x901, &mut cpu),
        Plan::Perform(0xd01),
        "LMA is not the guest's to write"
    );
    cpu.cr0 = 1 << 31;
    assert_eq!(try_write(0xc000_0080, 0x1, &mut cpu), Plan::Fault);
}

#[test]
fn the_apic_changes_modes_only_along_the_allowed_arrows() {
    const BASE: u64 = 0xfee0_0000;
    let table = [
        (1 << 11, 3 << 10, true),
        (3 << 10, 1 << 11, false),
        (3 << 10, 0, true),
        (0, 3 << 10, false),
        (0, 1 << 11, true),
    ];
    for (old, new, passes) in table {
        let mut cpu = cpu(&[(0x1b, BASE | old)], &[]);
        let planned = try_write(0x1b, BASE | new, &mut cpu);
        let expected = if passes {
            Plan::Perform(BASE | new)
        } else {
            Plan::Fault
        };
        assert_eq!(planned, expected, "{old:#x} to {new:#x}");
    }
}

#[test]
fn fixed_bits_fault_and_dropped_bits_keep_their_value() {
    let mut cpu = cpu(&[(0x1a0, 0x1881)], &[]);
    assert_eq!(
        try_write(0x1a0, 0x1801, &mut cpu),
        Plan::Perform(0x1881),
        "EMON is dropped"
    );
    assert_eq!(
        try_write(0x1a0, 0x0801, &mut cpu),
        Plan::Fault,
        "PEBS unavailable is fixed"
    );
    assert_eq!(try_write(0x8b, 7, &mut cpu), Plan::Drop);
}

#[test]
fn machine_check_registers_exist_where_mcg_cap_says() {
    let mut plain = cpu(&[(MCG_CAP, 10)], &[]);
    assert_eq!(try_write(0x17b, 0, &mut plain), Plan::Fault);
    assert_eq!(try_write(0x280, 0, &mut plain), Plan::Fault);
    assert_eq!(read(of(0x17b).as_ref(), &mut plain), Plan::Fault);
    assert_eq!(try_write(0x401, 0, &mut plain), Plan::Perform(0));
    assert_eq!(try_write(0x401, 1, &mut plain), Plan::Fault);
    let mut full = cpu(&[(MCG_CAP, 10 | 1 << 8 | 1 << 10), (HWCR, 1 << 18)], &[]);
    assert_eq!(
        try_write(0x17b, u64::MAX, &mut full),
        Plan::Perform(u64::MAX)
    );
    assert_eq!(try_write(0x280, 1, &mut full), Plan::Perform(1));
    assert_eq!(try_write(0x401, 1, &mut full), Plan::Perform(1));
}

#[test]
fn time_is_never_written_for_the_guest() {
    let mut cpu = cpu(&[], &[]);
    assert_eq!(try_write(0x10, 0, &mut cpu), Plan::Refuse);
    assert_eq!(try_write(0x3b, 0, &mut cpu), Plan::Refuse);
    assert_eq!(read(of(0x10).as_ref(), &mut cpu), Plan::Perform(0));
    assert_eq!(try_write(0x6e0, 5, &mut cpu), Plan::Perform(5));
}

#[test]
fn every_row_has_a_plan_for_every_value() {
    let mut cpu = cpu(&[], &[]);
    for msr in names::all() {
        for value in [0, 1, u64::MAX, 1 << 47] {
            let planned = write(Some(&msr), value, &mut cpu);
            let refused = msr.row.write == Forward::Never
                && matches!(msr.row.access, Access::ReadWrite | Access::WriteOnly);
            assert_eq!(planned == Plan::Refuse, refused, "{}", msr.name);
        }
    }
}
