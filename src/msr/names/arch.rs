//! Registers of the architecture itself: system calls, bases, time, APIC, features.

use super::class::Forward::{Checked, Exact, Never};
use super::class::rank;
use super::cpuid::*;
use super::row::rows;

/// SDM 3A, table 2-1; APM 2, 3.1.7.
const EFER: &[(u64, CpuidBit)] = &[
    (1, SYSCALL),
    (1 << 8, LM),
    (1 << 11, NX),
    (1 << 12, SVM),
    (1 << 13, SVM),
    (1 << 14, FXSR_OPT),
    (1 << 21, AUTOIBRS),
];
/// SDM 4, table 2-2, 48H; APM 2, 3.2.9.
const SPECULATION: &[(u64, CpuidBit)] = &[
    (1, SPEC_CTRL),
    (1, AMD_IBRS),
    (1 << 1, STIBP),
    (1 << 1, AMD_STIBP),
    (1 << 2, SSBD),
    (1 << 2, AMD_SSBD),
];
const BARRIERS: &[(u64, CpuidBit)] = &[(1, SPEC_CTRL), (1, AMD_IBPB), (1 << 7, SBPB)];

// SDM 4, table 2-2; APM 2, appendix A. What KVM does with each: Linux, arch/x86/kvm.
rows! {
    0x0 IA32_P5_MC_ADDR Intel Mce .inert() .ro() .restore(rank::NEVER);
    0x1 IA32_P5_MC_TYPE Intel Mce .inert() .ro() .restore(rank::NEVER);
    0x6 IA32_MONITOR_FILTER_SIZE Intel Platform;
    0x10 IA32_TIME_STAMP_COUNTER Any Time .aka("TSC") .when(&[TSC]);
    0x17 IA32_PLATFORM_ID Intel LegacyZero .ro();
    0x1b IA32_APIC_BASE Any Apic .aka("APICBASE") .when(&[APIC]) .forward(Exact, Checked);
    0x3a IA32_FEATURE_CONTROL Intel Vmx .aka("FEAT_CTL") .lock(0) .when(&[VMX, SGX]);
    0x3b IA32_TSC_ADJUST Any Time .still() .when(&[TSC_ADJUST]);
    0x48 IA32_SPEC_CTRL Any Mitigation .bits(0x7f7) .gated(SPECULATION) .when(&[SPEC_CTRL, STIBP, SSBD, AMD_IBRS, AMD_STIBP, AMD_SSBD]);
    0x49 IA32_PRED_CMD Any Mitigation .wo() .bits(0x81) .gated(BARRIERS) .when(&[SPEC_CTRL, AMD_IBPB, SBPB]) .danger(3);
    0x79 IA32_BIOS_UPDT_TRIG Intel Emulated .aka("UCODE_WRITE") .wo() .drops(u64::MAX) .danger(2);
    0x7a IA32_FEATURE_ACTIVATION Intel Platform .danger(2);
    0x8b IA32_BIOS_SIGN_ID Any Feature .aka("UCODE_REV") .rw() .drops(u64::MAX);
    0x8c IA32_SGXLEPUBKEYHASH0 Intel Emulated .when(&[SGX_LC]) .guarded();
    0x8d IA32_SGXLEPUBKEYHASH1 Intel Emulated .when(&[SGX_LC]) .guarded();
    0x8e IA32_SGXLEPUBKEYHASH2 Intel Emulated .when(&[SGX_LC]) .guarded();
    0x8f IA32_SGXLEPUBKEYHASH3 Intel Emulated .when(&[SGX_LC]) .guarded();
    0x9b IA32_SMM_MONITOR_CTL Intel Vmx .restore(rank::NEVER) .danger(2);
    0x9e IA32_SMBASE Intel Emulated .host() .width(32) .cap("KVM_CAP_X86_SMM");
    0xcd MSR_FSB_FREQ Intel LegacyZero .ro();
    0xce MSR_PLATFORM_INFO Intel Feature .cap("KVM_CAP_MSR_PLATFORM_INFO");
    0xcf IA32_CORE_CAPABILITIES Intel Feature .when(&[CORE_CAPABILITIES]);
    0xe1 IA32_UMWAIT_CONTROL Intel Emulated .width(32) .bits(0xffff_fffd) .when(&[WAITPKG]) .guarded();
    0xe7 IA32_MPERF Any Time .when(&[APERFMPERF]) .restore(rank::NEVER) .forward(Exact, Checked);
    0xe8 IA32_APERF Any Time .when(&[APERFMPERF]) .restore(rank::NEVER) .forward(Exact, Checked);
    0x10a IA32_ARCH_CAPABILITIES Any Feature .when(&[ARCH_CAPABILITIES]);
    0x10b IA32_FLUSH_CMD Any Mitigation .wo() .bits(1) .when(&[FLUSH_L1D]) .danger(3);
    0x10f MSR_TSX_FORCE_ABORT Intel Mitigation .bits(7) .restore(rank::NEVER);
    0x122 IA32_TSX_CTRL Intel Mitigation .bits(3) .when(&[ARCH_CAPABILITIES]);
    0x123 IA32_MCU_OPT_CTRL Intel Mitigation .when(&[SRBDS_CTRL]) .restore(rank::NEVER);
    0x140 MSR_MISC_FEATURES_ENABLES Intel Emulated .bits(1) .effect() .restore(rank::AFTER_FEATURE);
    0x174 IA32_SYSENTER_CS Any Passthrough .when(&[SEP]);
    0x175 IA32_SYSENTER_ESP Any Passthrough .when(&[SEP]);
    0x176 IA32_SYSENTER_EIP Any Passthrough .when(&[SEP]);
    0x1a0 IA32_MISC_ENABLE Intel Emulated .drops(1 << 7) .fixed(1 << 12 | 1 << 11) .effect();
    0x1c4 IA32_XFD Any Cet .when(&[XFD]);
    0x1c5 IA32_XFD_ERR Any Cet .when(&[XFD]) .inert();
    0x1cc IA32_FRED_RSP0 Any Passthrough .canonical() .when(&[FRED]);
    0x1cd IA32_FRED_RSP1 Any Passthrough .canonical() .when(&[FRED]);
    0x1ce IA32_FRED_RSP2 Any Passthrough .canonical() .when(&[FRED]);
    0x1cf IA32_FRED_RSP3 Any Passthrough .canonical() .when(&[FRED]);
    0x1d0 IA32_FRED_STKLVLS Any Passthrough .when(&[FRED]);
    0x1d1 IA32_FRED_SSP1 Any Passthrough .canonical() .when(&[FRED]);
    0x1d2 IA32_FRED_SSP2 Any Passthrough .canonical() .when(&[FRED]);
    0x1d3 IA32_FRED_SSP3 Any Passthrough .canonical() .when(&[FRED]);
    0x1d4 IA32_FRED_CONFIG Any Passthrough .canonical() .when(&[FRED]);
    0x345 IA32_PERF_CAPABILITIES Any Feature .when(&[PDCM]);
    0x6a0 IA32_U_CET Any Cet .canonical() .when(&[SHSTK, IBT]);
    0x6a2 IA32_S_CET Any Cet .canonical() .when(&[SHSTK, IBT]);
    0x6a4 IA32_PL0_SSP Any Cet .canonical() .bits(!7) .when(&[SHSTK]);
    0x6a5 IA32_PL1_SSP Any Cet .canonical() .bits(!7) .when(&[SHSTK]);
    0x6a6 IA32_PL2_SSP Any Cet .canonical() .bits(!7) .when(&[SHSTK]);
    0x6a7 IA32_PL3_SSP Any Cet .canonical() .bits(!7) .when(&[SHSTK]);
    0x6a8 IA32_INTERRUPT_SSP_TABLE_ADDR Any Cet .canonical() .when(&[SHSTK]);
    0x6e0 IA32_TSC_DEADLINE Any Time .forward(Exact, Exact) .when(&[TSC_DEADLINE]) .restore(rank::TIMER) .danger(3);
    0x6e1 IA32_PKRS Intel Passthrough .width(32) .when(&[PKS]);
    0x981 IA32_TME_CAPABILITY Intel Feature .when(&[TME]) .restore(rank::NEVER);
    0x982 IA32_TME_ACTIVATE Intel Platform .lock(0) .when(&[TME]);
    0x983 IA32_TME_EXCLUDE_MASK Intel Platform .when(&[TME]);
    0x984 IA32_TME_EXCLUDE_BASE Intel Platform .when(&[TME]);
    0x985 IA32_UINTR_RR Intel Passthrough .when(&[UINTR]);
    0x986 IA32_UINTR_HANDLER Intel Passthrough .canonical() .when(&[UINTR]);
    0x987 IA32_UINTR_STACKADJUST Intel Passthrough .canonical() .when(&[UINTR]);
    0x988 IA32_UINTR_MISC Intel Passthrough .when(&[UINTR]);
    0x989 IA32_UINTR_PD Intel Passthrough .canonical() .when(&[UINTR]);
    0x98a IA32_UINTR_TT Intel Passthrough .canonical() .when(&[UINTR]);
    0x990 IA32_COPY_STATUS Intel Feature .when(&[KEY_LOCKER]) .restore(rank::NEVER);
    0x991 IA32_IWKEYBACKUP_STATUS Intel Feature .when(&[KEY_LOCKER]) .restore(rank::NEVER);
    0xd90 IA32_BNDCFGS Intel Cet .canonical() .when(&[MPX]);
    0xd91 IA32_COPY_LOCAL_TO_PLATFORM Intel Platform .wo() .when(&[KEY_LOCKER]);
    0xd92 IA32_COPY_PLATFORM_TO_LOCAL Intel Platform .wo() .when(&[KEY_LOCKER]);
    0xd93 IA32_PASID Intel Cet .bits(0x800f_ffff);
    0xda0 IA32_XSS Any Cet .when(&[XSAVES]);
    0x17da IA32_HRESET_ENABLE Intel Platform .when(&[HRESET]);
    0xc000_0080 IA32_EFER Any Passthrough .bits(0x20_7901) .drops(1 << 10) .gated(EFER);
    0xc000_0081 IA32_STAR Any Passthrough .when(&[LM, SYSCALL]);
    0xc000_0082 IA32_LSTAR Any Passthrough .canonical() .when(&[LM]);
    0xc000_0083 IA32_CSTAR Any Passthrough .canonical() .when(&[LM]);
    0xc000_0084 IA32_FMASK Any Passthrough .aka("SYSCALL_MASK") .when(&[LM]);
    0xc000_0100 IA32_FS_BASE Any Passthrough .canonical() .when(&[LM]);
    0xc000_0101 IA32_GS_BASE Any Passthrough .canonical() .when(&[LM]);
    0xc000_0102 IA32_KERNEL_GS_BASE Any Passthrough .canonical() .when(&[LM]);
    0xc000_0103 IA32_TSC_AUX Any Passthrough .width(32) .when(&[RDTSCP, RDPID]) .guarded();
    0xc000_0104 TSC_RATIO Amd Vmx .aka("AMD64_TSC_RATIO") .bits(0xff_ffff_ffff) .when(&[TSC_RATE_MSR]) .restore(rank::PLAIN) .forward(Exact, Never);
}
