//! SVM and SEV.

use super::class::Forward::{Exact, Never};
use super::class::rank;
use super::cpuid::{SEV_ES, SEV_SNP, SVM, VIRT_SSBD};
use super::row::rows;

// APM 2, 15.30 (SVM MSRs), 15.34 to 15.36 (SEV).
rows! {
    0xc001_0114 VM_CR Amd Vmx .restore(rank::PLAIN) .when(&[SVM]);
    0xc001_0115 IGNNE Amd LegacyZero;
    0xc001_0117 VM_HSAVE_PA Amd Vmx .restore(rank::PLAIN) .forward(Exact, Never) .when(&[SVM]) .danger(2);
    0xc001_0118 SVM_KEY Amd Vmx .wo() .when(&[SVM]);
    0xc001_011b AVIC_DOORBELL Amd Vmx .wo() .when(&[SVM]) .danger(2);
    0xc001_011e VMPAGE_FLUSH Amd Vmx .wo() .when(&[SEV_ES]) .danger(2);
    0xc001_011f VIRT_SPEC_CTRL Amd Mitigation .bits(1 << 2) .when(&[VIRT_SSBD]);
    0xc001_0130 GHCB Amd Vmx .restore(rank::NEVER) .when(&[SEV_ES]) .danger(2);
    0xc001_0131 SEV_STATUS Amd Vmx .ro() .restore(rank::NEVER) .when(&[SEV_ES]);
    0xc001_0132 RMP_BASE Amd Vmx .restore(rank::NEVER) .when(&[SEV_SNP]);
    0xc001_0133 RMP_END Amd Vmx .restore(rank::NEVER) .when(&[SEV_SNP]);
    0xc001_0134 GUEST_TSC_FREQ Amd Vmx .ro() .restore(rank::NEVER) .when(&[SEV_SNP]);
}
