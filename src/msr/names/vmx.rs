//! What VMX can do.

use super::cpuid::VMX;
use super::row::rows;

// SDM 3D, appendix A.
rows! {
    0x480 IA32_VMX_BASIC Intel Vmx .ro() .inert() .when(&[VMX]);
    0x481 IA32_VMX_PINBASED_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x482 IA32_VMX_PROCBASED_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x483 IA32_VMX_EXIT_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x484 IA32_VMX_ENTRY_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x485 IA32_VMX_MISC Intel Vmx .ro() .inert() .when(&[VMX]);
    0x486 IA32_VMX_CR0_FIXED0 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x487 IA32_VMX_CR0_FIXED1 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x488 IA32_VMX_CR4_FIXED0 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x489 IA32_VMX_CR4_FIXED1 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48a IA32_VMX_VMCS_ENUM Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48b IA32_VMX_PROCBASED_CTLS2 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48c IA32_VMX_EPT_VPID_CAP Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48d IA32_VMX_TRUE_PINBASED_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48e IA32_VMX_TRUE_PROCBASED_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x48f IA32_VMX_TRUE_EXIT_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x490 IA32_VMX_TRUE_ENTRY_CTLS Intel Vmx .ro() .inert() .when(&[VMX]);
    0x491 IA32_VMX_VMFUNC Intel Vmx .ro() .inert() .when(&[VMX]);
    0x492 IA32_VMX_PROCBASED_CTLS3 Intel Vmx .ro() .inert() .when(&[VMX]);
    0x493 IA32_VMX_EXIT_CTLS2 Intel Vmx .ro() .inert() .when(&[VMX]);
}
