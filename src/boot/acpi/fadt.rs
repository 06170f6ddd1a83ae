//! FADT: the fixed hardware (ACPI 6.5, 5.2.9).

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, Platform};

/// IAPC_BOOT_ARCH: devices on ISA, an 8042, and no VGA to probe for.
const LEGACY_DEVICES: u16 = 1 << 0;
const KBC_8042: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;
/// The century byte of the RTC's CMOS.
const CENTURY: u8 = 0x32;
/// Latencies above these say that there is no C2 and no C3.
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// An I/O port in generic address form.
fn port(port: u16, bits: u8, size: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, size, u64::from(port))
}

/// SMI_CMD stays 0: SCI_EN reads as one, so the guest is in ACPI mode from the start (4.8.2.5).
pub(super) fn build(platform: &Platform, facs: u64, dsdt: u64) -> FADT {
    let low = |address: u64| u32::try_from(address).unwrap_or(0);
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .preferred_pm_profile(PmProfile::Unspecified)
        .firmware_ctrl_32(low(facs))
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // The fixed sleep button is absent, the fixed power button (flag clear) is there.
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.dsdt = low(dsdt).into();
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(platform.sci_gsi).into();

    fadt.pm1a_evt_blk = u32::from(platform.pm1a_evt).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = port(platform.pm1a_evt, 32, AccessSize::WordAccess);
    fadt.pm1a_cnt_blk = u32::from(platform.pm1a_cnt).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = port(platform.pm1a_cnt, 16, AccessSize::WordAccess);
    fadt.pm_tmr_blk = u32::from(platform.pm_tmr).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = port(platform.pm_tmr, 32, AccessSize::DwordAccess);

    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = (LEGACY_DEVICES | KBC_8042 | NO_VGA).into();
    fadt.reset_reg = port(platform.reset_port, 8, AccessSize::ByteAccess);
    fadt.reset_value = platform.reset_value;
    fadt.finalize()
}
