use std::collections::BTreeSet;

use super::*;
use crate::msr::names::{Access, Class, Forward};

/// Names that crate `x86` has from the same manual. Where a processor family gives a name to another
/// register, the name is not here: MSR_PKG_C6_RESIDENCY is 0x3fa on early Atoms, and MC3 and MC4 change
/// places before Nehalem.
macro_rules! same_as_x86 {
    ($($name:ident,)*) => {
        &[$((stringify!($name), x86::msr::$name)),*]
    };
}

#[rustfmt::skip]
const SAME: &[(&str, u32)] = same_as_x86![
    IA32_P5_MC_ADDR, P5_MC_ADDR, IA32_P5_MC_TYPE, P5_MC_TYPE, IA32_MONITOR_FILTER_SIZE,
    IA32_TIME_STAMP_COUNTER, TSC, IA32_PLATFORM_ID, MSR_PLATFORM_ID, APIC_BASE, IA32_APIC_BASE,
    EBL_CR_POWERON, MSR_EBL_CR_POWERON, MSR_EBC_SOFT_POWERON, MSR_EBC_FREQUENCY_ID, MSR_SMI_COUNT,
    IA32_FEATURE_CONTROL, IA32_TSC_ADJUST,     BIOS_UPDT_TRIG, IA32_BIOS_UPDT_TRIG, IA32_BIOS_SIGN_ID,
    IA32_SMM_MONITOR_CTL, IA32_SMBASE, IA32_PMC0, IA32_PMC1, IA32_PMC2, IA32_PMC3, IA32_PMC4,
    IA32_PMC5, IA32_PMC6, IA32_PMC7, MSR_FSB_FREQ, MSR_PLATFORM_INFO, MSR_PKG_CST_CONFIG_CONTROL,
    MSR_PMG_IO_CAPTURE_BASE, IA32_MPERF, IA32_APERF, IA32_MTRRCAP, MSR_BBL_CR_CTL, MSR_BBL_CR_CTL3,
    MSR_IA32_TSX_CTRL, IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_MCG_CAP,
    MCG_CAP, IA32_MCG_STATUS, MCG_STATUS, IA32_MCG_CTL, MCG_CTL, IA32_PERFEVTSEL0,
    IA32_PERFEVTSEL1, IA32_PERFEVTSEL2, IA32_PERFEVTSEL3, IA32_PERFEVTSEL4, IA32_PERFEVTSEL5,
    IA32_PERFEVTSEL6, IA32_PERFEVTSEL7, IA32_PERF_STATUS, MSR_PERF_STATUS, IA32_PERF_CTL,
    IA32_CLOCK_MODULATION, IA32_THERM_INTERRUPT, IA32_THERM_STATUS, MSR_THERM2_CTL,
    IA32_MISC_ENABLE, MSR_PLATFORM_BRV, MSR_TEMPERATURE_TARGET, MSR_OFFCORE_RSP_0,
    MSR_OFFCORE_RSP_1, MSR_MISC_PWR_MGMT, MSR_TURBO_RATIO_LIMIT, IA32_ENERGY_PERF_BIAS,
    IA32_PACKAGE_THERM_STATUS, IA32_PACKAGE_THERM_INTERRUPT, MSR_LBR_SELECT, IA32_DEBUGCTL,
    LASTBRANCHFROMIP, LASTBRANCHTOIP, LASTINTFROMIP, LASTINTTOIP, IA32_SMRR_PHYSBASE,
    IA32_SMRR_PHYSMASK, IA32_PLATFORM_DCA_CAP, IA32_CPU_DCA_CAP, IA32_DCA_0_CAP, MSR_POWER_CTL,
    IA32_MTRR_PHYSBASE0, IA32_MTRR_PHYSMASK0, IA32_MTRR_PHYSBASE1, IA32_MTRR_PHYSMASK1,
    IA32_MTRR_PHYSBASE2, IA32_MTRR_PHYSMASK2, IA32_MTRR_PHYSBASE3, IA32_MTRR_PHYSMASK3,
    IA32_MTRR_PHYSBASE4, IA32_MTRR_PHYSMASK4, IA32_MTRR_PHYSBASE5, IA32_MTRR_PHYSMASK5,
    IA32_MTRR_PHYSBASE6, IA32_MTRR_PHYSMASK6, IA32_MTRR_PHYSBASE7, IA32_MTRR_PHYSMASK7,
    IA32_MTRR_PHYSBASE8, IA32_MTRR_PHYSMASK8, IA32_MTRR_PHYSBASE9, IA32_MTRR_PHYSMASK9,
    IA32_MTRR_FIX64K_00000, IA32_MTRR_FIX16K_80000, IA32_MTRR_FIX16K_A0000, IA32_MTRR_FIX4K_C0000,
    IA32_MTRR_FIX4K_C8000, IA32_MTRR_FIX4K_D0000, IA32_MTRR_FIX4K_D8000, IA32_MTRR_FIX4K_E0000,
    IA32_MTRR_FIX4K_E8000, IA32_MTRR_FIX4K_F0000, IA32_MTRR_FIX4K_F8000, IA32_PAT, IA32_MC0_CTL2,
    IA32_MC1_CTL2, IA32_MC2_CTL2, IA32_MC12_CTL2, IA32_MC21_CTL2, IA32_MTRR_DEF_TYPE,
    IA32_FIXED_CTR0, IA32_FIXED_CTR1, IA32_FIXED_CTR2, IA32_PERF_CAPABILITIES,
    MSR_PERF_CAPABILITIES, IA32_FIXED_CTR_CTRL, IA32_PERF_GLOBAL_CTRL, MSR_PERF_GLOBAL_CTRL,
    IA32_PERF_GLOBAL_OVF_CTRL, MSR_PERF_GLOBAL_OVF_CTRL, MSR_UNC_PERF_FIXED_CTRL,
    MSR_UNC_PERF_FIXED_CTR, IA32_PEBS_ENABLE, MSR_PEBS_ENABLE, MSR_PKG_C3_RESIDENCY,
    MSR_PKG_C7_RESIDENCY, MSR_CORE_C3_RESIDENCY, MSR_CORE_C6_RESIDENCY, MSR_CORE_C7_RESIDENCY,
    IA32_MC0_CTL, IA32_MC0_STATUS, IA32_MC0_ADDR, IA32_MC0_MISC, IA32_MC1_CTL, IA32_MC1_STATUS,
    IA32_MC1_ADDR, IA32_MC1_MISC, IA32_MC2_CTL, IA32_MC2_STATUS, IA32_MC2_ADDR, IA32_MC2_MISC,
    IA32_MC12_CTL, IA32_MC12_STATUS, IA32_MC12_MISC, IA32_MC21_CTL, IA32_MC21_STATUS,
    IA32_MC21_MISC, IA32_VMX_BASIC, IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS,
    IA32_VMX_EXIT_CTLS, IA32_VMX_ENTRY_CTLS, IA32_VMX_MISC, IA32_VMX_CR0_FIXED0,
    IA32_VMX_CR0_FIXED1, IA32_VMX_CR4_FIXED0, IA32_VMX_CR4_FIXED1, IA32_VMX_VMCS_ENUM,
    IA32_VMX_PROCBASED_CTLS2, IA32_VMX_EPT_VPID_CAP, IA32_VMX_TRUE_PINBASED_CTLS,
    IA32_VMX_TRUE_PROCBASED_CTLS, IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_TRUE_ENTRY_CTLS,
    IA32_VMX_VMFUNC, IA32_A_PMC0, IA32_A_PMC1, IA32_A_PMC2, IA32_A_PMC3, IA32_A_PMC4, IA32_A_PMC5,
    IA32_A_PMC6, IA32_A_PMC7, MSR_SMM_FEATURE_CONTROL, MSR_SMM_DELAYED, MSR_SMM_BLOCKED,
    MSR_IA32_RTIT_OUTPUT_BASE, MSR_IA32_RTIT_OUTPUT_MASK_PTRS, MSR_IA32_RTIT_CTL,
    MSR_IA32_RTIT_STATUS, IA32_DS_AREA, MSR_RAPL_POWER_UNIT, MSR_PKGC3_IRTL, MSR_PKGC6_IRTL,
    MSR_PKGC7_IRTL, MSR_PKG_POWER_LIMIT, MSR_PKG_ENERGY_STATUS, MSR_PKG_PERF_STATUS,
    MSR_PKG_POWER_INFO, MSR_DRAM_POWER_LIMIT, MSR_DRAM_ENERGY_STATUS, MSR_DRAM_PERF_STATUS,
    MSR_DRAM_POWER_INFO, MSR_PKG_C9_RESIDENCY, MSR_PKG_C10_RESIDENCY, MSR_PP0_POWER_LIMIT,
    MSR_PP0_ENERGY_STATUS, MSR_PP0_POLICY, MSR_PP0_PERF_STATUS, MSR_PP1_POWER_LIMIT,
    MSR_PP1_ENERGY_STATUS, MSR_PP1_POLICY, MSR_CONFIG_TDP_NOMINAL, MSR_CONFIG_TDP_LEVEL1,
    MSR_CONFIG_TDP_LEVEL2, MSR_CONFIG_TDP_CONTROL, MSR_TURBO_ACTIVATION_RATIO,
    MSR_CORE_C1_RESIDENCY,     IA32_TSC_DEADLINE, IA32_X2APIC_APICID, IA32_X2APIC_VERSION,
    IA32_X2APIC_TPR, IA32_X2APIC_PPR, IA32_X2APIC_EOI, IA32_X2APIC_LDR, IA32_X2APIC_SIVR,
    IA32_X2APIC_ISR0, IA32_X2APIC_ISR1, IA32_X2APIC_ISR2, IA32_X2APIC_ISR3, IA32_X2APIC_ISR4,
    IA32_X2APIC_ISR5, IA32_X2APIC_ISR6, IA32_X2APIC_ISR7, IA32_X2APIC_TMR0, IA32_X2APIC_TMR1,
    IA32_X2APIC_TMR2, IA32_X2APIC_TMR3, IA32_X2APIC_TMR4, IA32_X2APIC_TMR5, IA32_X2APIC_TMR6,
    IA32_X2APIC_TMR7, IA32_X2APIC_IRR0, IA32_X2APIC_IRR1, IA32_X2APIC_IRR2, IA32_X2APIC_IRR3,
    IA32_X2APIC_IRR4, IA32_X2APIC_IRR5, IA32_X2APIC_IRR6, IA32_X2APIC_IRR7, IA32_X2APIC_ESR,
    IA32_X2APIC_LVT_CMCI, IA32_X2APIC_ICR, IA32_X2APIC_LVT_TIMER, IA32_X2APIC_LVT_THERMAL,
    IA32_X2APIC_LVT_PMI, IA32_X2APIC_LVT_LINT0, IA32_X2APIC_LVT_LINT1, IA32_X2APIC_LVT_ERROR,
    IA32_X2APIC_INIT_COUNT, IA32_X2APIC_CUR_COUNT, IA32_X2APIC_DIV_CONF, IA32_X2APIC_SELF_IPI,
    IA32_QM_EVTSEL, IA32_QM_CTR, IA32_PQR_ASSOC, IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR,
    IA32_FMASK, IA32_FS_BASE, IA32_GS_BASE, IA32_TSC_AUX,
];

#[test]
fn names_and_indices_agree_with_crate_x86() {
    for (name, index) in SAME {
        let msr = by_name(name).unwrap();
        assert_eq!(msr.index, *index, "{name} is {} here", msr.name);
    }
}

#[test]
fn every_name_leads_back_to_its_index() {
    let mut seen = BTreeSet::new();
    for msr in all() {
        assert_eq!(of(msr.index).unwrap().name, msr.name);
        assert_eq!(by_name(&msr.name.to_string()).unwrap().index, msr.index);
        assert!(
            seen.insert(bare(&msr.name.to_string())),
            "{} twice",
            msr.name
        );
    }
    for row in TABLE.iter().filter(|row| !row.aka.is_empty()) {
        assert_eq!(by_name(row.aka).unwrap().index, row.index, "{}", row.aka);
        assert!(seen.insert(bare(row.aka)), "{} twice", row.aka);
    }
    assert!(TABLE.len() >= 350, "{} rows", TABLE.len());
}

#[test]
fn case_and_prefixes_do_not_matter() {
    for name in ["IA32_TSC_AUX", "tsc_aux", "MSR_IA32_TSC_AUX", "Tsc-Aux"] {
        assert_eq!(by_name(name).unwrap().index, 0xc000_0103, "{name}");
    }
    assert_eq!(by_name("tsc").unwrap().index, 0x10);
    assert_eq!(by_name("mc31_misc").unwrap().index, 0x47f);
    assert_eq!(by_name("k7_evntsel3").unwrap().index, 0xc001_0003);
    for none in ["MC32_CTL", "MC01_CTL", "MC_CTL", "MC#_CTL", ""] {
        assert!(by_name(none).is_err(), "{none}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let error = by_name("TSC_AUXX").unwrap_err().to_string();
    assert!(error.contains("nearest name is IA32_TSC_AUX"), "{error}");
    let error = by_name("qqqq").unwrap_err();
    assert_eq!(error.nearest, None);
    let error = bank("MCE").unwrap_err().to_string();
    assert!(error.contains("bank:MC"), "{error}");
}

#[test]
fn a_bank_is_its_registers_and_no_others() {
    assert_eq!(bank("mc").unwrap(), [(0x280, 0x29f), (0x400, 0x47f)]);
    assert_eq!(bank("MTRR").unwrap(), [(0x200, 0x21f)]);
    assert_eq!(bank("x2apic").unwrap(), [(0x800, 0x8ff)]);
    for name in banks() {
        assert!(!bank(name).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn rows_do_not_contradict_themselves() {
    for msr in all() {
        let row = msr.row;
        let name = msr.name;
        assert_eq!(
            row.writable & row.reserved,
            0,
            "{name}: writable and reserved"
        );
        assert_eq!(row.fixed & row.reserved, 0, "{name}: fixed and reserved");
        assert!(row.danger <= 3 && row.width <= 64, "{name}");
        if row.access == Access::WriteOnly {
            assert_eq!(row.restore, 0, "{name}: nothing to restore");
        }
        if matches!(row.class, Class::LegacyZero | Class::Platform) {
            assert_eq!(row.restore, 0, "{name}: KVM keeps nothing of it");
        }
        if (0x800..0x900).contains(&msr.index) {
            assert_eq!(
                (row.read, row.write),
                (Forward::Never, Forward::Never),
                "{name}"
            );
        }
    }
}
