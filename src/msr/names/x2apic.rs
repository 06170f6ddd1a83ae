//! The local APIC as MSRs. No filter covers 0x800 to 0x8ff, and nothing can be forwarded.

use super::class::rank;
use super::cpuid::APIC;
use super::row::rows;

// SDM 3A, table 11-6.
rows! {
    0x802 IA32_X2APIC_APICID Any Apic .ro() .width(32) .when(&[APIC]);
    0x803 IA32_X2APIC_VERSION Any Apic .ro() .width(32) .when(&[APIC]);
    0x808 IA32_X2APIC_TPR Any Apic .width(32) .bits(0xff) .when(&[APIC]);
    0x80a IA32_X2APIC_PPR Any Apic .ro() .width(32) .moves() .when(&[APIC]);
    0x80b IA32_X2APIC_EOI Any Apic .wo() .bits(0) .when(&[APIC]);
    0x80d IA32_X2APIC_LDR Any Apic .ro() .width(32) .when(&[APIC]);
    0x80f IA32_X2APIC_SIVR Any Apic .width(32) .bits(0x13ff) .when(&[APIC]);
    0x828 IA32_X2APIC_ESR Any Apic .bits(0) .when(&[APIC]);
    0x82f IA32_X2APIC_LVT_CMCI Any Apic .width(32) .when(&[APIC]);
    0x830 IA32_X2APIC_ICR Any Apic .danger(3) .when(&[APIC]);
    0x832 IA32_X2APIC_LVT_TIMER Any Apic .width(32) .when(&[APIC]);
    0x833 IA32_X2APIC_LVT_THERMAL Any Apic .width(32) .when(&[APIC]);
    0x834 IA32_X2APIC_LVT_PMI Any Apic .width(32) .when(&[APIC]);
    0x835 IA32_X2APIC_LVT_LINT0 Any Apic .width(32) .when(&[APIC]);
    0x836 IA32_X2APIC_LVT_LINT1 Any Apic .width(32) .when(&[APIC]);
    0x837 IA32_X2APIC_LVT_ERROR Any Apic .width(32) .when(&[APIC]);
    0x838 IA32_X2APIC_INIT_COUNT Any Apic .width(32) .when(&[APIC]);
    0x839 IA32_X2APIC_CUR_COUNT Any Apic .ro() .width(32) .moves() .restore(rank::NEVER) .when(&[APIC]);
    0x83e IA32_X2APIC_DIV_CONF Any Apic .width(32) .bits(0xb) .when(&[APIC]);
    0x83f IA32_X2APIC_SELF_IPI Any Apic .wo() .bits(0xff) .danger(3) .when(&[APIC]);
}
