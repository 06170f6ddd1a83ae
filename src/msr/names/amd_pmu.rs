//! AMD's counters, outside the banks, and instruction-based sampling.

use super::class::rank;
use super::cpuid::{IBS, LBR_V2, PERFMON_V2};
use super::row::rows;

// APM 2, 13.2 (performance counters), 13.3 (IBS), 13.1.1 (branch records).
rows! {
    0xc000_010e AMD_LBR_SELECT Amd Debug .when(&[LBR_V2]);
    0xc000_010f DBG_EXTN_CTL Amd Debug .when(&[LBR_V2]);
    0xc000_0300 PERF_CNTR_GLOBAL_STATUS Amd Pmu .ro() .moves() .when(&[PERFMON_V2]);
    0xc000_0301 PERF_CNTR_GLOBAL_CTL Amd Pmu .when(&[PERFMON_V2]);
    0xc000_0302 PERF_CNTR_GLOBAL_STATUS_CLR Amd Pmu .when(&[PERFMON_V2]);
    0xc000_0303 PERF_CNTR_GLOBAL_STATUS_SET Amd Pmu .when(&[PERFMON_V2]) .restore(rank::NEVER);
    0xc001_1030 IBS_FETCH_CTL Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER) .danger(2);
    0xc001_1031 IBS_FETCH_LINADDR Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1032 IBS_FETCH_PHYSADDR Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1033 IBS_OP_CTL Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER) .danger(2);
    0xc001_1034 IBS_OP_RIP Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1035 IBS_OP_DATA Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1036 IBS_OP_DATA2 Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1037 IBS_OP_DATA3 Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1038 IBS_DC_LINADDR Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_1039 IBS_DC_PHYSADDR Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_103a IBS_CTL Amd Pmu .when(&[IBS]) .restore(rank::NEVER);
    0xc001_103b BP_IBSTGT_RIP Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
    0xc001_103c IC_IBS_EXTD_CTL Amd Pmu .when(&[IBS]) .restore(rank::NEVER);
    0xc001_103d IBS_OP_DATA4 Amd Pmu .moves() .when(&[IBS]) .restore(rank::NEVER);
}
