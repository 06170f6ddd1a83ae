//! Memory types, outside the variable ranges.

use super::cpuid::{MTRR, PAT};
use super::row::rows;

// SDM 3A, 12.11 and 12.12.
rows! {
    0xfe IA32_MTRRCAP Any Mtrr .ro() .inert() .when(&[MTRR]);
    0x250 IA32_MTRR_FIX64K_00000 Any Mtrr .when(&[MTRR]);
    0x258 IA32_MTRR_FIX16K_80000 Any Mtrr .when(&[MTRR]);
    0x259 IA32_MTRR_FIX16K_A0000 Any Mtrr .when(&[MTRR]);
    0x268 IA32_MTRR_FIX4K_C0000 Any Mtrr .when(&[MTRR]);
    0x269 IA32_MTRR_FIX4K_C8000 Any Mtrr .when(&[MTRR]);
    0x26a IA32_MTRR_FIX4K_D0000 Any Mtrr .when(&[MTRR]);
    0x26b IA32_MTRR_FIX4K_D8000 Any Mtrr .when(&[MTRR]);
    0x26c IA32_MTRR_FIX4K_E0000 Any Mtrr .when(&[MTRR]);
    0x26d IA32_MTRR_FIX4K_E8000 Any Mtrr .when(&[MTRR]);
    0x26e IA32_MTRR_FIX4K_F0000 Any Mtrr .when(&[MTRR]);
    0x26f IA32_MTRR_FIX4K_F8000 Any Mtrr .when(&[MTRR]);
    0x277 IA32_PAT Any Mtrr .aka("CR_PAT") .bits(0x0707_0707_0707_0707) .when(&[PAT]);
    0x2ff IA32_MTRR_DEF_TYPE Any Mtrr .bits(0xcff) .when(&[MTRR]);
}
