//! Machine check, outside the banks.

use super::cpuid::MCA;
use super::row::rows;

// SDM 3B, 16.3; APM 2, 9.3.
rows! {
    0x179 IA32_MCG_CAP Any Mce .ro() .when(&[MCA]);
    0x17a IA32_MCG_STATUS Any Mce .when(&[MCA]);
    0x17b IA32_MCG_CTL Any Mce .when(&[MCA]);
    0x4d0 IA32_MCG_EXT_CTL Intel Mce .bits(1) .when(&[MCA]);
}
