//! Synthetic registers of Hyper-V, and Xen's hypercall page, which may lie among them.

use super::class::rank;
use super::cpuid::*;
use super::row::rows;

// TLFS, appendix on synthetic MSRs; Xen, arch-x86/cpuid.h (the page's MSR when Viridian is on).
rows! {
    0x4000_0000 HV_X64_MSR_GUEST_OS_ID HyperV Hyperv .restore(rank::HYPERV_ID) .when(&[HV_HYPERCALL]);
    0x4000_0001 HV_X64_MSR_HYPERCALL HyperV Hyperv .when(&[HV_HYPERCALL]);
    0x4000_0002 HV_X64_MSR_VP_INDEX HyperV Hyperv .ro() .when(&[HV_VP_INDEX]);
    0x4000_0003 HV_X64_MSR_RESET HyperV Hyperv .restore(rank::NEVER) .danger(3) .when(&[HV_RESET]);
    0x4000_0010 HV_X64_MSR_VP_RUNTIME HyperV Hyperv .ro() .moves() .when(&[HV_VP_RUNTIME]);
    0x4000_0020 HV_X64_MSR_TIME_REF_COUNT HyperV Hyperv .ro() .moves() .when(&[HV_REF_COUNT]);
    0x4000_0021 HV_X64_MSR_REFERENCE_TSC HyperV Hyperv .when(&[HV_REF_TSC]);
    0x4000_0022 HV_X64_MSR_TSC_FREQUENCY HyperV Hyperv .ro() .when(&[HV_FREQUENCY]);
    0x4000_0023 HV_X64_MSR_APIC_FREQUENCY HyperV Hyperv .ro() .when(&[HV_FREQUENCY]);
    0x4000_0040 HV_X64_MSR_NPIEP_CONFIG HyperV Hyperv .restore(rank::NEVER);
    0x4000_0070 HV_X64_MSR_EOI HyperV Hyperv .wo() .when(&[HV_APIC]);
    0x4000_0071 HV_X64_MSR_ICR HyperV Hyperv .restore(rank::NEVER) .when(&[HV_APIC]);
    0x4000_0072 HV_X64_MSR_TPR HyperV Hyperv .restore(rank::NEVER) .when(&[HV_APIC]);
    0x4000_0073 HV_X64_MSR_VP_ASSIST_PAGE HyperV Hyperv .when(&[HV_APIC]);
    0x4000_0080 HV_X64_MSR_SCONTROL HyperV Hyperv .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    0x4000_0081 HV_X64_MSR_SVERSION HyperV Hyperv .ro() .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    0x4000_0082 HV_X64_MSR_SIEFP HyperV Hyperv .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    0x4000_0083 HV_X64_MSR_SIMP HyperV Hyperv .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    0x4000_0084 HV_X64_MSR_EOM HyperV Hyperv .restore(rank::NEVER) .when(&[HV_SYNIC]) .cap("KVM_CAP_HYPERV_SYNIC2");
    0x4000_00c1 HV_X64_MSR_POWER_STATE_TRIGGER_C1 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00c2 HV_X64_MSR_POWER_STATE_TRIGGER_C2 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00c3 HV_X64_MSR_POWER_STATE_TRIGGER_C3 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00d1 HV_X64_MSR_POWER_STATE_CONFIG_C1 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00d2 HV_X64_MSR_POWER_STATE_CONFIG_C2 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00d3 HV_X64_MSR_POWER_STATE_CONFIG_C3 HyperV Hyperv .restore(rank::NEVER);
    0x4000_00e0 HV_X64_MSR_STATS_PARTITION_RETAIL_PAGE HyperV Hyperv .restore(rank::NEVER);
    0x4000_00e1 HV_X64_MSR_STATS_PARTITION_INTERNAL_PAGE HyperV Hyperv .restore(rank::NEVER);
    0x4000_00e2 HV_X64_MSR_STATS_VP_RETAIL_PAGE HyperV Hyperv .restore(rank::NEVER);
    0x4000_00e3 HV_X64_MSR_STATS_VP_INTERNAL_PAGE HyperV Hyperv .restore(rank::NEVER);
    0x4000_00f0 HV_X64_MSR_GUEST_IDLE HyperV Hyperv .restore(rank::NEVER);
    0x4000_00f1 HV_X64_MSR_SYNDBG_CONTROL HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_00f2 HV_X64_MSR_SYNDBG_STATUS HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_00f3 HV_X64_MSR_SYNDBG_SEND_BUFFER HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_00f4 HV_X64_MSR_SYNDBG_RECV_BUFFER HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_00f5 HV_X64_MSR_SYNDBG_PENDING_BUFFER HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_00ff HV_X64_MSR_SYNDBG_OPTIONS HyperV Hyperv .when(&[HV_DEBUG]);
    0x4000_0105 HV_X64_MSR_CRASH_CTL HyperV Hyperv .restore(rank::NEVER) .danger(3) .when(&[HV_CRASH]);
    0x4000_0106 HV_X64_MSR_REENLIGHTENMENT_CONTROL HyperV Hyperv .when(&[HV_REENLIGHTENMENT]);
    0x4000_0107 HV_X64_MSR_TSC_EMULATION_CONTROL HyperV Hyperv .when(&[HV_REENLIGHTENMENT]);
    0x4000_0108 HV_X64_MSR_TSC_EMULATION_STATUS HyperV Hyperv .when(&[HV_REENLIGHTENMENT]);
    0x4000_0114 HV_X64_MSR_STIME_UNHALTED_TIMER_CONFIG HyperV Hyperv .restore(rank::NEVER);
    0x4000_0115 HV_X64_MSR_STIME_UNHALTED_TIMER_COUNT HyperV Hyperv .restore(rank::NEVER);
    0x4000_0116 HV_X64_MSR_NESTED_VP_INDEX HyperV Hyperv .ro() .restore(rank::NEVER);
    0x4000_0118 HV_X64_MSR_TSC_INVARIANT_CONTROL HyperV Hyperv .bits(1) .when(&[HV_TSC_INVARIANT]);
    0x4000_0200 XEN_HYPERCALL_PAGE Xen Xen .danger(2) .cap("KVM_CAP_XEN_HVM");
}
