//! Performance monitoring of Intel.

use super::class::Forward::{Exact, Never};
use super::class::rank;
use super::cpuid::{DS, PDCM};
use super::row::rows;

// SDM 3B, 20 and 4, table 2-2.
rows! {
    0x329 MSR_PERF_METRICS Intel Pmu .moves() .when(&[PDCM]);
    0x38d IA32_FIXED_CTR_CTRL Intel Pmu .forward(Exact, Never);
    0x38e IA32_PERF_GLOBAL_STATUS Intel Pmu .ro() .moves();
    0x38f IA32_PERF_GLOBAL_CTRL Intel Pmu;
    0x390 IA32_PERF_GLOBAL_STATUS_RESET Intel Pmu .aka("PERF_GLOBAL_OVF_CTRL");
    0x391 IA32_PERF_GLOBAL_STATUS_SET Intel Pmu .restore(rank::NEVER);
    0x392 IA32_PERF_GLOBAL_INUSE Intel Pmu .ro() .restore(rank::NEVER);
    0x394 MSR_UNC_PERF_FIXED_CTRL Intel Platform;
    0x395 MSR_UNC_PERF_FIXED_CTR Intel Platform .moves();
    0x1a6 MSR_OFFCORE_RSP_0 Intel Pmu .restore(rank::NEVER);
    0x1a7 MSR_OFFCORE_RSP_1 Intel Pmu .restore(rank::NEVER);
    0x3f1 IA32_PEBS_ENABLE Intel Pmu .when(&[DS]) .forward(Exact, Never) .danger(2);
    0x3f2 MSR_PEBS_DATA_CFG Intel Pmu .when(&[DS]);
    0x3f6 MSR_PEBS_LD_LAT_THRESHOLD Intel Pmu .when(&[DS]) .restore(rank::NEVER);
    0x3f7 MSR_PEBS_FRONTEND Intel Pmu .when(&[DS]) .restore(rank::NEVER);
}
