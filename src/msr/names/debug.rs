//! Debug control, last branches, processor trace, fault injection records.

use super::class::Forward::{Exact, Never};
use super::class::rank;
use super::cpuid::{ARCH_LBR, DS, PT};
use super::row::rows;

// SDM 3B, 18 (debug, last branches) and 3C, 33 (processor trace).
rows! {
    0x1c8 MSR_LBR_SELECT Intel Debug;
    0x1c9 MSR_LASTBRANCH_TOS Intel Debug .moves();
    0x1d9 IA32_DEBUGCTL Any Debug .forward(Exact, Never);
    0x1db MSR_LASTBRANCHFROMIP Any Debug .ro() .moves();
    0x1dc MSR_LASTBRANCHTOIP Any Debug .ro() .moves();
    0x1dd IA32_LER_FROM_IP Any Debug .aka("LASTINTFROMIP") .ro() .moves();
    0x1de IA32_LER_TO_IP Any Debug .aka("LASTINTTOIP") .ro() .moves();
    0x1e0 IA32_LER_INFO Intel Debug .moves() .when(&[ARCH_LBR]);
    0x560 IA32_RTIT_OUTPUT_BASE Intel Debug .when(&[PT]) .danger(2);
    0x561 IA32_RTIT_OUTPUT_MASK_PTRS Intel Debug .when(&[PT]) .danger(2);
    0x570 IA32_RTIT_CTL Intel Debug .forward(Exact, Never) .when(&[PT]) .danger(2);
    0x571 IA32_RTIT_STATUS Intel Debug .when(&[PT]) .moves();
    0x572 IA32_RTIT_CR3_MATCH Intel Debug .bits(!0x1f) .when(&[PT]);
    0x600 IA32_DS_AREA Intel Pmu .canonical() .when(&[DS]) .danger(2);
    0xc80 IA32_DEBUG_INTERFACE Intel Platform .lock(30);
    0x14ce IA32_LBR_CTL Intel Debug .bits(0x7f_000f) .when(&[ARCH_LBR]);
    0x14cf IA32_LBR_DEPTH Intel Debug .when(&[ARCH_LBR]);
    0x1f1 MSR_CRASHLOG_CONTROL Intel Platform .restore(rank::NEVER);
}
