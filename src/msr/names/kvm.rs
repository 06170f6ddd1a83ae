//! KVM's paravirtual registers. With KVM_CAP_ENFORCE_PV_FEATURE_CPUID the CPUID bits gate them; without
//! it they are always there, for guest and host alike.

use super::class::Forward::{Exact, Never};
use super::cpuid::*;
use super::row::rows;

// uapi asm/kvm_para.h; Linux, Documentation/virt/kvm/x86/msr.rst.
rows! {
    0x11 MSR_KVM_WALL_CLOCK Kvm PvGpa .forward(Exact, Exact) .when(&[KVM_CLOCKSOURCE]);
    0x12 MSR_KVM_SYSTEM_TIME Kvm PvGpa .forward(Exact, Never) .when(&[KVM_CLOCKSOURCE]);
    0x4b56_4d00 MSR_KVM_WALL_CLOCK_NEW Kvm PvGpa .forward(Exact, Exact) .when(&[KVM_CLOCKSOURCE2]);
    0x4b56_4d01 MSR_KVM_SYSTEM_TIME_NEW Kvm PvGpa .forward(Exact, Never) .when(&[KVM_CLOCKSOURCE2]);
    0x4b56_4d02 MSR_KVM_ASYNC_PF_EN Kvm PvGpa .forward(Exact, Exact) .when(&[KVM_ASYNC_PF]);
    0x4b56_4d03 MSR_KVM_STEAL_TIME Kvm PvGpa .forward(Exact, Exact) .bits(!0x3e) .when(&[KVM_STEAL_TIME]);
    0x4b56_4d04 MSR_KVM_PV_EOI_EN Kvm PvGpa .forward(Exact, Exact) .when(&[KVM_PV_EOI]);
    0x4b56_4d05 MSR_KVM_POLL_CONTROL Kvm Emulated .forward(Exact, Exact) .bits(1) .effect() .when(&[KVM_POLL_CONTROL]);
    0x4b56_4d06 MSR_KVM_ASYNC_PF_INT Kvm Emulated .forward(Exact, Exact) .effect() .when(&[KVM_ASYNC_PF_INT]);
    0x4b56_4d07 MSR_KVM_ASYNC_PF_ACK Kvm Emulated .forward(Exact, Exact) .effect() .when(&[KVM_ASYNC_PF_INT]);
    0x4b56_4d08 MSR_KVM_MIGRATION_CONTROL Kvm Emulated .bits(1) .when(&[KVM_MIGRATION_CONTROL]);
}
