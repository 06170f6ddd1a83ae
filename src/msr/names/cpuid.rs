//! CPUID bits that decide whether an MSR exists.

/// An output register of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reg {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// One bit of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuidBit {
    /// What manuals call it.
    pub name: &'static str,
    /// Leaf.
    pub leaf: u32,
    /// Sub-leaf.
    pub subleaf: u32,
    /// Register.
    pub reg: Reg,
    /// Bit.
    pub bit: u8,
}

macro_rules! bits {
    ($($name:ident $leaf:literal / $sub:literal $reg:ident $bit:literal;)*) => {$(
        pub(super) const $name: CpuidBit = CpuidBit {
            name: stringify!($name), leaf: $leaf, subleaf: $sub, reg: Reg::$reg, bit: $bit,
        };
    )*};
}

// SDM 2A, CPUID; APM 3, appendix E; kvm_para.h; TLFS 2.4.
bits! {
    VMX 0x1/0 Ecx 5;
    PDCM 0x1/0 Ecx 15;
    DCA 0x1/0 Ecx 18;
    TSC_DEADLINE 0x1/0 Ecx 24;
    TSC 0x1/0 Edx 4;
    APIC 0x1/0 Edx 9;
    SEP 0x1/0 Edx 11;
    MTRR 0x1/0 Edx 12;
    MCA 0x1/0 Edx 14;
    PAT 0x1/0 Edx 16;
    DS 0x1/0 Edx 21;
    ACPI_THERMAL 0x1/0 Edx 22;
    DTHERM 0x6/0 Eax 0;
    PTM 0x6/0 Eax 6;
    HWP 0x6/0 Eax 7;
    HDC 0x6/0 Eax 13;
    HFI 0x6/0 Eax 19;
    APERFMPERF 0x6/0 Ecx 0;
    EPB 0x6/0 Ecx 3;
    TSC_ADJUST 0x7/0 Ebx 1;
    SGX 0x7/0 Ebx 2;
    MPX 0x7/0 Ebx 14;
    PQM 0x7/0 Ebx 12;
    PQE 0x7/0 Ebx 15;
    PT 0x7/0 Ebx 25;
    PKS 0x7/0 Ecx 31;
    WAITPKG 0x7/0 Ecx 5;
    SHSTK 0x7/0 Ecx 7;
    TME 0x7/0 Ecx 13;
    RDPID 0x7/0 Ecx 22;
    KEY_LOCKER 0x7/0 Ecx 23;
    SGX_LC 0x7/0 Ecx 30;
    UINTR 0x7/0 Edx 5;
    SRBDS_CTRL 0x7/0 Edx 9;
    ARCH_LBR 0x7/0 Edx 19;
    IBT 0x7/0 Edx 20;
    SPEC_CTRL 0x7/0 Edx 26;
    STIBP 0x7/0 Edx 27;
    FLUSH_L1D 0x7/0 Edx 28;
    ARCH_CAPABILITIES 0x7/0 Edx 29;
    CORE_CAPABILITIES 0x7/0 Edx 30;
    SSBD 0x7/0 Edx 31;
    FRED 0x7/1 Eax 17;
    HRESET 0x7/1 Eax 22;
    XSAVES 0xd/1 Eax 3;
    XFD 0xd/1 Eax 4;
    SVM 0x80000001/0 Ecx 2;
    OSVW 0x80000001/0 Ecx 9;
    IBS 0x80000001/0 Ecx 10;
    TOPOEXT 0x80000001/0 Ecx 22;
    PERFCTR_CORE 0x80000001/0 Ecx 23;
    PERFCTR_NB 0x80000001/0 Ecx 24;
    DBEXT 0x80000001/0 Ecx 26;
    PTSC 0x80000001/0 Ecx 27;
    PERFCTR_LLC 0x80000001/0 Ecx 28;
    SYSCALL 0x80000001/0 Edx 11;
    NX 0x80000001/0 Edx 20;
    FXSR_OPT 0x80000001/0 Edx 25;
    RDTSCP 0x80000001/0 Edx 27;
    LM 0x80000001/0 Edx 29;
    HW_PSTATE 0x80000007/0 Edx 7;
    CPB 0x80000007/0 Edx 9;
    IRPERF 0x80000008/0 Ebx 1;
    AMD_IBPB 0x80000008/0 Ebx 12;
    AMD_IBRS 0x80000008/0 Ebx 14;
    AMD_STIBP 0x80000008/0 Ebx 15;
    AMD_SSBD 0x80000008/0 Ebx 24;
    VIRT_SSBD 0x80000008/0 Ebx 25;
    CPPC 0x80000008/0 Ebx 27;
    SBPB 0x80000021/0 Eax 27;
    AUTOIBRS 0x80000021/0 Eax 8;
    TSC_RATE_MSR 0x8000000a/0 Edx 4;
    SEV_ES 0x8000001f/0 Eax 3;
    SEV_SNP 0x8000001f/0 Eax 4;
    PERFMON_V2 0x80000022/0 Eax 0;
    LBR_V2 0x80000022/0 Eax 1;
    KVM_CLOCKSOURCE 0x40000001/0 Eax 0;
    KVM_CLOCKSOURCE2 0x40000001/0 Eax 3;
    KVM_ASYNC_PF 0x40000001/0 Eax 4;
    KVM_STEAL_TIME 0x40000001/0 Eax 5;
    KVM_PV_EOI 0x40000001/0 Eax 6;
    KVM_POLL_CONTROL 0x40000001/0 Eax 12;
    KVM_ASYNC_PF_INT 0x40000001/0 Eax 14;
    KVM_MIGRATION_CONTROL 0x40000001/0 Eax 17;
    HV_VP_RUNTIME 0x40000003/0 Eax 0;
    HV_REF_COUNT 0x40000003/0 Eax 1;
    HV_SYNIC 0x40000003/0 Eax 2;
    HV_STIMER 0x40000003/0 Eax 3;
    HV_APIC 0x40000003/0 Eax 4;
    HV_HYPERCALL 0x40000003/0 Eax 5;
    HV_VP_INDEX 0x40000003/0 Eax 6;
    HV_RESET 0x40000003/0 Eax 7;
    HV_REF_TSC 0x40000003/0 Eax 9;
    HV_FREQUENCY 0x40000003/0 Eax 11;
    HV_REENLIGHTENMENT 0x40000003/0 Eax 13;
    HV_TSC_INVARIANT 0x40000003/0 Eax 15;
    HV_CRASH 0x40000003/0 Edx 10;
    HV_DEBUG 0x40000003/0 Edx 11;
}
