//! Intel's registers of package, firmware and memory that KVM does not have, or drops.

use super::class::rank;
use super::cpuid::{DCA, PQE, PQM, SGX};
use super::row::rows;

// SDM 4, tables 2-2, 2-6, 2-20 and 2-29.
rows! {
    0x2a MSR_EBL_CR_POWERON Intel LegacyZero .ro();
    0x2b MSR_EBC_SOFT_POWERON Intel Platform;
    0x2c MSR_EBC_FREQUENCY_ID Intel LegacyZero .ro();
    0x33 MSR_MEMORY_CTRL Intel Platform .aka("TEST_CTRL") .effect();
    0x34 MSR_SMI_COUNT Intel Emulated .ro();
    0x35 MSR_CORE_THREAD_COUNT Intel Platform;
    0x36 MSR_THREAD_ID_INFO Intel Platform;
    0x4e MSR_PPIN_CTL Intel Platform .lock(0);
    0x4f MSR_PPIN Intel Platform;
    0x7b IA32_MCU_ENUMERATION Intel Platform;
    0x7c IA32_MCU_STATUS Intel Platform;
    0x87 IA32_MKTME_KEYID_PARTITIONING Intel Platform;
    0xbc IA32_MISC_PACKAGE_CTLS Intel Platform;
    0xbd IA32_XAPIC_DISABLE_STATUS Intel Platform;
    0xe2 MSR_PKG_CST_CONFIG_CONTROL Intel Platform .lock(15);
    0xe4 MSR_PMG_IO_CAPTURE_BASE Intel Platform;
    0xee MSR_EXT_CONFIG Intel Platform;
    0x119 MSR_BBL_CR_CTL Intel Platform;
    0x11e MSR_BBL_CR_CTL3 Intel LegacyZero;
    0x13c MSR_FEATURE_CONFIG Intel Platform .lock(0);
    0x150 MSR_OC_MAILBOX Intel Platform .danger(3);
    0x194 MSR_FLEX_RATIO Intel Platform .lock(20);
    0x195 IA32_OVERCLOCKING_STATUS Intel Platform;
    0x1f2 IA32_SMRR_PHYSBASE Intel Platform;
    0x1f3 IA32_SMRR_PHYSMASK Intel Platform;
    0x1f4 MSR_PRMRR_PHYS_BASE Intel Platform;
    0x1f5 MSR_PRMRR_PHYS_MASK Intel Platform .lock(10);
    0x1f8 IA32_PLATFORM_DCA_CAP Intel Platform .when(&[DCA]);
    0x1f9 IA32_CPU_DCA_CAP Intel Platform .when(&[DCA]);
    0x1fa IA32_DCA_0_CAP Intel Platform .when(&[DCA]);
    0x1fb MSR_PRMRR_VALID_CONFIG Intel Platform;
    0x2a0 MSR_PRMRR_BASE_0 Intel Platform;
    0x2c2 MSR_COPY_SCAN_HASHES Intel Platform .wo();
    0x2c3 MSR_SCAN_HASHES_STATUS Intel Platform;
    0x2c4 MSR_AUTHENTICATE_AND_COPY_CHUNK Intel Platform .wo();
    0x2c5 MSR_CHUNKS_AUTHENTICATION_STATUS Intel Platform;
    0x2c6 MSR_ACTIVATE_SCAN Intel Platform .wo() .danger(3);
    0x2c7 MSR_SCAN_STATUS Intel Platform;
    0x2d9 MSR_INTEGRITY_CAPS Intel Platform;
    0x2e0 MSR_NO_EVICT_MODE Intel Platform;
    0x2e7 MSR_LT_LOCK_MEMORY Intel Platform;
    0x300 MSR_SGXOWNEREPOCH0 Intel Platform .wo();
    0x301 MSR_SGXOWNEREPOCH1 Intel Platform .wo();
    0x4e0 MSR_SMM_FEATURE_CONTROL Intel Platform .lock(0);
    0x4e2 MSR_SMM_DELAYED Intel Platform;
    0x4e3 MSR_SMM_BLOCKED Intel Platform;
    0x4f0 MSR_SAF_CTRL Intel Platform;
    0x500 IA32_SGX_SVN_STATUS Intel Platform .when(&[SGX]);
    0xc81 IA32_L3_QOS_CFG Intel Platform .when(&[PQE]);
    0xc82 IA32_L2_QOS_CFG Intel Platform .when(&[PQE]);
    0xc83 IA32_L3_IO_QOS_CFG Intel Platform .when(&[PQE]);
    0xc8d IA32_QM_EVTSEL Any Platform .when(&[PQM]);
    0xc8e IA32_QM_CTR Any Platform .moves() .when(&[PQM]);
    0xc8f IA32_PQR_ASSOC Any Platform .when(&[PQM, PQE]);
    0x1b01 IA32_UARCH_MISC_CTL Intel Mitigation .bits(1) .restore(rank::NEVER);
}
