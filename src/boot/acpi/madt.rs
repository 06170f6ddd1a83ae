//! MADT: the interrupt controllers (ACPI 6.5, 5.2.12).

use acpi_tables::Aml;
use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use acpi_tables::sdt::Sdt;

use super::{AcpiError, OEM_ID, OEM_REVISION, OEM_TABLE_ID, Platform};

/// Header, local APIC address and flags.
const FIXED_LEN: u32 = 44;
const LAPIC_OFFSET: usize = 36;
const FLAGS_OFFSET: usize = 40;
/// Two 8259s are there too. acpi_tables' own MADT cannot say so; Linux then takes them for absent.
const PCAT_COMPAT: u32 = 1;
const REVISION: u8 = 5;
const IOAPIC_ID: u8 = 0;
/// APIC id 255 is the broadcast.
const LAST_APIC_ID: u8 = 254;

/// Interrupt source override, ISA bus.
const OVERRIDE: u8 = 2;
const ISA: u8 = 0;
/// MPS INTI flags: as the bus has it, or active high and level triggered.
const CONFORMS: u16 = 0;
const HIGH_LEVEL: u16 = 0b1101;
/// Local APIC NMI, on every processor, at LINT1.
const LAPIC_NMI: u8 = 4;
const ALL_PROCESSORS: u8 = 0xff;
const LINT1: u8 = 1;

pub(super) fn build(platform: &Platform) -> Result<Sdt, AcpiError> {
    let mut body = Vec::new();
    for (index, &id) in platform.apic_ids.iter().enumerate() {
        let (Ok(uid), Ok(apic_id @ 0..=LAST_APIC_ID)) = (u8::try_from(index), u8::try_from(id))
        else {
            return Err(AcpiError::ApicId { id });
        };
        ProcessorLocalApic::new(uid, apic_id, EnabledStatus::Enabled).to_aml_bytes(&mut body);
    }
    IoApic::new(IOAPIC_ID, platform.ioapic, 0).to_aml_bytes(&mut body);
    // The PIT reaches the IOAPIC at pin 2, where the 8259s' output would be on a real board.
    body.extend(source_override(0, 2, CONFORMS));
    body.extend(source_override(
        platform.sci_gsi,
        platform.sci_gsi,
        HIGH_LEVEL,
    ));
    // PCI's are level triggered, and active high at the IOAPIC as QEMU has them.
    for &gsi in &platform.pci.pirq_choices {
        body.extend(source_override(gsi, gsi, HIGH_LEVEL));
    }
    body.extend([LAPIC_NMI, 6, ALL_PROCESSORS, 0, 0, LINT1]);

    let mut madt = Sdt::new(
        *b"APIC",
        FIXED_LEN,
        REVISION,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    );
    madt.write_u32(LAPIC_OFFSET, platform.lapic);
    madt.write_u32(FLAGS_OFFSET, PCAT_COMPAT);
    madt.append_slice(&body);
    Ok(madt)
}

fn source_override(irq: u8, gsi: u8, flags: u16) -> [u8; 10] {
    let [low, high] = flags.to_le_bytes();
    [OVERRIDE, 10, ISA, irq, gsi, 0, 0, 0, low, high]
}
