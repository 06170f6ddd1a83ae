//! Registers that come in numbers: machine check banks, counters, ranges, branch records, the x2APIC.

use super::class::Forward::{Exact, Never};
use super::class::{Class, Vendor, rank};
use super::cpuid::*;
use super::row::Row;

/// A run of registers that differ in a number. `#` in the row's name stands for it.
#[derive(Debug)]
pub(super) struct Stride {
    /// The bank that `bank:NAME` selects it with.
    pub(super) bank: &'static str,
    /// What all have in common, with the index of the first.
    pub(super) row: Row,
    /// Between two of them.
    pub(super) step: u32,
    /// How many there are.
    pub(super) count: u32,
}

macro_rules! strides {
    ($($bank:literal $index:literal + $step:literal * $count:literal $name:literal $vendor:ident $class:ident
        $(. $word:ident ( $($value:tt)* ))* ;)*) => {
        &[$(Stride {
            bank: $bank,
            row: Row::new($index, $name, Vendor::$vendor, Class::$class)$(.$word($($value)*))*,
            step: $step,
            count: $count,
        }),*]
    };
}

// SDM 3B, 16.3.2 and 18 to 20; SDM 3A, 11.12.1.2 and 12.11.2.3; APM 2, 9.3, 13.2 and 16.11; TLFS, synthetic
// interrupt controller.
pub(super) const STRIDES: &[Stride] = strides! {
    "PMC" 0xc1 + 1 * 8 "IA32_PMC#" Intel Pmu .moves() .forward(Exact, Never);
    "PERFEVTSEL" 0x186 + 1 * 8 "IA32_PERFEVTSEL#" Intel Pmu .forward(Exact, Never);
    "MTRR" 0x200 + 2 * 16 "IA32_MTRR_PHYSBASE#" Any Mtrr .when(&[MTRR]);
    "MTRR" 0x201 + 2 * 16 "IA32_MTRR_PHYSMASK#" Any Mtrr .when(&[MTRR]);
    "MC" 0x280 + 1 * 32 "IA32_MC#_CTL2" Intel Mce .when(&[MCA]);
    "FIXED_CTR" 0x309 + 1 * 16 "IA32_FIXED_CTR#" Intel Pmu .moves();
    "MC" 0x400 + 4 * 32 "IA32_MC#_CTL" Any Mce .when(&[MCA]);
    "MC" 0x401 + 4 * 32 "IA32_MC#_STATUS" Any Mce .when(&[MCA]);
    "MC" 0x402 + 4 * 32 "IA32_MC#_ADDR" Any Mce .when(&[MCA]);
    "MC" 0x403 + 4 * 32 "IA32_MC#_MISC" Any Mce .when(&[MCA]);
    "PMC" 0x4c1 + 1 * 8 "IA32_A_PMC#" Intel Pmu .moves() .when(&[PDCM]);
    "RTIT" 0x580 + 2 * 4 "IA32_RTIT_ADDR#_A" Intel Debug .canonical() .when(&[PT]);
    "RTIT" 0x581 + 2 * 4 "IA32_RTIT_ADDR#_B" Intel Debug .canonical() .when(&[PT]);
    "LBR" 0x680 + 1 * 32 "MSR_LASTBRANCH_#_FROM_IP" Intel Debug .moves();
    "LBR" 0x6c0 + 1 * 32 "MSR_LASTBRANCH_#_TO_IP" Intel Debug .moves();
    "X2APIC_ISR" 0x810 + 1 * 8 "IA32_X2APIC_ISR#" Any Apic .ro() .restore(rank::NEVER) .width(32) .when(&[APIC]);
    "X2APIC_ISR" 0x818 + 1 * 8 "IA32_X2APIC_TMR#" Any Apic .ro() .restore(rank::NEVER) .width(32) .when(&[APIC]);
    "X2APIC_ISR" 0x820 + 1 * 8 "IA32_X2APIC_IRR#" Any Apic .ro() .restore(rank::NEVER) .width(32) .when(&[APIC]);
    "QOS" 0xc90 + 1 * 64 "IA32_L3_QOS_MASK_#" Any Platform .when(&[PQE]);
    "QOS" 0xd10 + 1 * 64 "IA32_L2_QOS_MASK_#" Any Platform .when(&[PQE]);
    "QOS" 0xd50 + 1 * 16 "IA32_MBA_THRTL_MSK_#" Intel Platform .when(&[PQE]);
    "LBR" 0xdc0 + 1 * 32 "MSR_LBR_INFO_#" Intel Debug .moves();
    "LBR" 0x1200 + 1 * 32 "IA32_LBR_#_INFO" Intel Debug .moves() .when(&[ARCH_LBR]);
    "LBR" 0x1500 + 1 * 32 "IA32_LBR_#_FROM_IP" Intel Debug .moves() .when(&[ARCH_LBR]);
    "LBR" 0x1600 + 1 * 32 "IA32_LBR_#_TO_IP" Intel Debug .moves() .when(&[ARCH_LBR]);
    "PMC" 0x1900 + 4 * 8 "IA32_PMC_GP#_CTR" Intel Pmu .moves() .restore(rank::NEVER);
    "PMC" 0x1901 + 4 * 8 "IA32_PMC_GP#_CFG_A" Intel Pmu .restore(rank::NEVER);
    "SINT" 0x4000_0090 + 1 * 16 "HV_X64_MSR_SINT#" HyperV Hyperv .restore(rank::HYPERV_SINT) .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    "STIMER" 0x4000_00b0 + 2 * 4 "HV_X64_MSR_STIMER#_CONFIG" HyperV Hyperv .restore(rank::HYPERV_TIMER) .danger(3) .when(&[HV_STIMER]);
    "STIMER" 0x4000_00b1 + 2 * 4 "HV_X64_MSR_STIMER#_COUNT" HyperV Hyperv .moves() .restore(rank::HYPERV_TIMER) .danger(3) .when(&[HV_STIMER]);
    "HV_CRASH" 0x4000_0100 + 1 * 5 "HV_X64_MSR_CRASH_P#" HyperV Hyperv .inert() .when(&[HV_CRASH]);
    "SMCA" 0xc000_2000 + 16 * 64 "MCA_CTL_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2001 + 16 * 64 "MCA_STATUS_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2002 + 16 * 64 "MCA_ADDR_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2003 + 16 * 64 "MCA_MISC0_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2004 + 16 * 64 "MCA_CONFIG_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2005 + 16 * 64 "MCA_IPID_BANK#" Amd Mce .ro() .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2006 + 16 * 64 "MCA_SYND_BANK#" Amd Mce .ro() .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2008 + 16 * 64 "MCA_DESTAT_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "SMCA" 0xc000_2009 + 16 * 64 "MCA_DEADDR_BANK#" Amd Mce .restore(rank::NEVER) .when(&[MCA]);
    "K7_PMC" 0xc001_0000 + 1 * 4 "PERF_LEGACY_CTL#" Amd Pmu .aka("K7_EVNTSEL#");
    "K7_PMC" 0xc001_0004 + 1 * 4 "PERF_LEGACY_CTR#" Amd Pmu .moves() .aka("K7_PERFCTR#");
    "PROC_NAME" 0xc001_0030 + 1 * 6 "PROC_NAME_STRING#" Amd Platform;
    "MC_MASK" 0xc001_0044 + 1 * 7 "MC#_CTL_MASK" Amd Platform .when(&[MCA]);
    "PSTATE" 0xc001_0064 + 1 * 8 "PSTATE#" Amd Platform .when(&[HW_PSTATE]);
    "AMD_PMC" 0xc001_0200 + 2 * 6 "PERF_CTL#" Amd Pmu .when(&[PERFCTR_CORE]);
    "AMD_PMC" 0xc001_0201 + 2 * 6 "PERF_CTR#" Amd Pmu .moves() .when(&[PERFCTR_CORE]);
    "L3_PMC" 0xc001_0230 + 2 * 6 "CHL3_PMC_CFG#" Amd Platform .when(&[PERFCTR_LLC]);
    "L3_PMC" 0xc001_0231 + 2 * 6 "CHL3_PMC#" Amd Platform .moves() .when(&[PERFCTR_LLC]);
    "NB_PMC" 0xc001_0240 + 2 * 4 "NB_PERF_CTL#" Amd Platform .when(&[PERFCTR_NB]);
    "NB_PMC" 0xc001_0241 + 2 * 4 "NB_PERF_CTR#" Amd Platform .moves() .when(&[PERFCTR_NB]);
    "AMD_LBR" 0xc001_0300 + 2 * 16 "AMD_LBR_#_FROM" Amd Debug .moves() .when(&[LBR_V2]);
    "AMD_LBR" 0xc001_0301 + 2 * 16 "AMD_LBR_#_TO" Amd Debug .moves() .when(&[LBR_V2]);
    "SMCA_MASK" 0xc001_0400 + 1 * 64 "MCA_CTL_MASK_BANK#" Amd Platform .when(&[MCA]);
};

/// Banks that are one range, whatever lies in it.
pub(super) const RANGES: &[(&str, u32, u32)] = &[
    ("X2APIC", 0x800, 0x8ff),
    ("VMX", 0x480, 0x493),
    ("MTRR_FIX", 0x250, 0x26f),
    ("HYPERV", 0x4000_0000, 0x4000_0fff),
    ("KVM", 0x4b56_4d00, 0x4b56_4dff),
    ("IBS", 0xc001_1030, 0xc001_103d),
];
