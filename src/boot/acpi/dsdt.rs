//! DSDT: PCI, the ISA devices behind its bridge, and what SLP_TYP means (ACPI 6.5, 5.2.11.1).

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Name, Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::sdt::Sdt;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, Platform, pci};

const HEADER_LEN: u32 = 36;
/// 2: integers have 64 bits.
const REVISION: u8 = 2;
/// `_STA`: present, enabled, shown, working.
const STA_WORKING: u8 = 0xf;

pub(super) fn build(platform: &Platform) -> Sdt {
    let mut devices = Vec::new();
    for (n, uart) in (1_u8..=0xf).zip(&platform.uarts) {
        let name = Path::new(&format!("COM{n:X}"));
        let ports = [(uart.port, 8)];
        device(
            &mut devices,
            name,
            &EISAName::new("PNP0501"),
            n,
            &ports,
            Some(uart.gsi),
        );
    }
    let rtc = [(0x70, 2)];
    device(
        &mut devices,
        Path::new("RTC_"),
        &EISAName::new("PNP0B00"),
        0,
        &rtc,
        Some(8),
    );
    let keyboard = [(0x60, 1), (0x64, 1)];
    device(
        &mut devices,
        Path::new("KBD_"),
        &EISAName::new("PNP0303"),
        0,
        &keyboard,
        Some(1),
    );
    device(
        &mut devices,
        Path::new("MOU_"),
        &EISAName::new("PNP0F13"),
        0,
        &[],
        Some(12),
    );
    if let Some(port) = platform.pvpanic {
        // QEMU docs/specs/pvpanic.rst.
        device(
            &mut devices,
            Path::new("PEVT"),
            &"QEMU0001",
            0,
            &[(port, 1)],
            None,
        );
    }

    if let Some(ports) = platform.fw_cfg {
        // QEMU docs/specs/fw_cfg.rst.
        device(
            &mut devices,
            Path::new("FWCF"),
            &"QEMU0002",
            0,
            &[ports],
            None,
        );
    }

    let root = pci::build(platform, &platform.pci, devices);
    let mut aml = Scope::raw(Path::new("\\_SB_"), root);
    let slp_typ = platform.s5_slp_typ;
    let s5 = Package::new(vec![&slp_typ, &slp_typ, &ZERO, &ZERO]);
    Name::new(Path::new("\\_S5_"), &s5).to_aml_bytes(&mut aml);

    let mut dsdt = Sdt::new(
        *b"DSDT",
        HEADER_LEN,
        REVISION,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    );
    dsdt.append_slice(&aml);
    dsdt
}

/// A device at fixed ports with at most one edge-triggered, active-high interrupt, as ISA has them.
fn device(
    out: &mut Vec<u8>,
    name: Path,
    hid: &dyn Aml,
    uid: u8,
    ports: &[(u16, u8)],
    gsi: Option<u8>,
) {
    let ports: Vec<IO> = ports
        .iter()
        .map(|&(first, count)| IO::new(first, first, 1, count))
        .collect();
    let interrupt = gsi.map(|gsi| Interrupt::new(true, true, false, false, u32::from(gsi)));
    let mut resources: Vec<&dyn Aml> = ports.iter().map(|p| p as &dyn Aml).collect();
    resources.extend(interrupt.iter().map(|i| i as &dyn Aml));
    Device::new(
        name,
        vec![
            &Name::new(Path::new("_HID"), hid),
            &Name::new(Path::new("_UID"), &uid),
            &Name::new(Path::new("_STA"), &STA_WORKING),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(resources)),
        ],
    )
    .to_aml_bytes(out);
}
