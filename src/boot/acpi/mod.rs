//! The ACPI tables: what the board has that a guest cannot find by probing.
//!
//! The tables take a plain description of the board and know no device. Addresses are decided in one
//! pass, RSDP first, where a guest without firmware looks for it: in the BIOS area on 16 bytes.

mod dsdt;
mod fadt;
mod madt;
mod pci;

use acpi_tables::Aml;
use acpi_tables::facs::FACS;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;

use crate::mem::{Gpa, GuestRam, MemError};

use super::place::Span;

/// Where an OS looks for the RSDP besides the EBDA (ACPI 6.5, 5.2.5.1), and where the rest of the
/// tables has room too. The memory map holds it as reserved.
pub const BIOS_AREA: Span = Span {
    start: 0xe_0000,
    end: 0x10_0000,
};

const OEM_ID: [u8; 6] = *b"TRAPLN";
const OEM_TABLE_ID: [u8; 8] = *b"TRAPLINE";
const OEM_REVISION: u32 = 1;

/// A 16550 on the ISA bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uart {
    /// The first of its eight ports.
    pub port: u16,
    /// Its interrupt, edge triggered.
    pub gsi: u8,
}

/// The PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pci {
    /// Memory below 4 GiB that BARs may have.
    pub memory: Span,
    /// Memory for 64-bit BARs.
    pub memory_64: Option<Span>,
    /// The GSIs a PIRQ may go to, level triggered.
    pub pirq_choices: Vec<u8>,
}

/// The board, as far as ACPI describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The local APIC id of every vCPU, the first one's first.
    pub apic_ids: Vec<u32>,
    /// PM1a event block, 4 bytes.
    pub pm1a_evt: u16,
    /// PM1a control block, 2 bytes.
    pub pm1a_cnt: u16,
    /// The 24-bit PM timer, 4 bytes.
    pub pm_tmr: u16,
    /// What SLP_TYP must hold for S5.
    pub s5_slp_typ: u8,
    /// The ACPI interrupt: level triggered, active high.
    pub sci_gsi: u8,
    /// The port whose write resets the machine.
    pub reset_port: u16,
    /// What to write there.
    pub reset_value: u8,
    /// The IOAPIC's address; it serves GSI 0 and up.
    pub ioapic: u32,
    /// The local APICs' address.
    pub lapic: u32,
    /// Serial ports, COM1 first, 15 at most.
    pub uarts: Vec<Uart>,
    /// The pvpanic port.
    pub pvpanic: Option<u16>,
    /// fw_cfg's first port, and how many it has.
    pub fw_cfg: Option<(u16, u8)>,
    /// The PCI bus.
    pub pci: Pci,
}

/// Tables that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AcpiError {
    /// An id that MADT's local APIC entries cannot hold.
    #[error(
        "APIC id {id} does not fit ACPI's local APIC entries, whose last is 254; it would take x2APIC \
         entries and interrupt remapping, so lower --cpus"
    )]
    ApicId {
        /// The id.
        id: u32,
    },
    /// More tables than room.
    #[error("the ACPI tables take {need} bytes, their place has {have}; lower --cpus")]
    TooLarge {
        /// Bytes needed.
        need: u64,
        /// Bytes there are.
        have: u64,
    },
    /// Their place is not RAM.
    #[error("cannot write the ACPI tables")]
    Write(#[from] MemError),
}

/// Writes all tables into `place` and returns the address of the RSDP, which is its start.
///
/// # Errors
/// [`AcpiError`].
pub fn write(ram: &GuestRam, place: Span, platform: &Platform) -> Result<Gpa, AcpiError> {
    let mut out = Out {
        at: place,
        bytes: Vec::new(),
    };
    // Reserved now, written when its pointer is known.
    out.bytes.resize(Rsdp::len(), 0);
    let facs = out.table(&FACS::new(), 64);
    let dsdt = out.table(&dsdt::build(platform), 16);
    let fadt = out.table(&fadt::build(platform, facs, dsdt), 16);
    let madt = out.table(&madt::build(platform)?, 16);
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for table in [fadt, madt] {
        xsdt.add_entry(table);
    }
    let xsdt = out.table(&xsdt, 16);

    let mut rsdp = Vec::with_capacity(Rsdp::len());
    Rsdp::new(OEM_ID, xsdt).to_aml_bytes(&mut rsdp);
    for (to, from) in out.bytes.iter_mut().zip(rsdp) {
        *to = from;
    }
    let need = out.bytes.len() as u64;
    if need > place.len() {
        return Err(AcpiError::TooLarge {
            need,
            have: place.len(),
        });
    }
    ram.write(Gpa(place.start), &out.bytes)?;
    Ok(Gpa(place.start))
}

/// The tables as one run of bytes.
struct Out {
    at: Span,
    bytes: Vec<u8>,
}

impl Out {
    /// Appends a table and returns the address it will have.
    fn table(&mut self, table: &dyn Aml, align: usize) -> u64 {
        let start = self
            .bytes
            .len()
            .checked_next_multiple_of(align)
            .unwrap_or(usize::MAX);
        self.bytes.resize(start, 0);
        table.to_aml_bytes(&mut self.bytes);
        self.at.start.saturating_add(start as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::HugePages;

    pub(super) fn platform(cpus: u32) -> Platform {
        Platform {
            apic_ids: (0..cpus).collect(),
            pm1a_evt: 0x600,
            pm1a_cnt: 0x604,
            pm_tmr: 0x608,
            s5_slp_typ: 0,
            sci_gsi: 9,
            reset_port: 0xcf9,
            reset_value: 6,
            ioapic: 0xfec0_0000,
            lapic: 0xfee0_0000,
            uarts: vec![Uart {
                port: 0x3f8,
                gsi: 4,
            }],
            pvpanic: Some(0x505),
            fw_cfg: Some((0x510, 12)),
            pci: Pci {
                memory: Span {
                    start: 0xc000_0000,
                    end: 0xfec0_0000,
                },
                memory_64: Some(Span {
                    start: 1 << 38,
                    end: 1 << 39,
                }),
                pirq_choices: vec![5, 10, 11],
            },
        }
    }

    fn ram() -> GuestRam {
        GuestRam::new(2 << 20, HugePages::None).unwrap()
    }

    fn read(ram: &GuestRam, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&bytes[at..at + N]);
        u64::from_le_bytes(wide)
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    /// A table with a standard header, its checksum checked.
    pub(super) fn table(ram: &GuestRam, at: u64) -> Vec<u8> {
        let len = usize::try_from(number::<4>(&read(ram, at, 8), 4)).unwrap();
        let bytes = read(ram, at, len);
        assert_eq!(
            sum(&bytes),
            0,
            "checksum of {}",
            String::from_utf8_lossy(&bytes[..4])
        );
        bytes
    }

    /// Every table with a standard header, found as an OS finds them.
    fn tables(ram: &GuestRam, rsdp: Gpa) -> Vec<Vec<u8>> {
        let rsdp = read(ram, rsdp.0, 36);
        assert_eq!(&rsdp[..8], b"RSD PTR ");
        assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));
        let xsdt = table(ram, number::<8>(&rsdp, 24));
        assert_eq!(&xsdt[..4], b"XSDT");
        let pointers = xsdt[36..].chunks(8).map(|p| number::<8>(p, 0));
        let mut found: Vec<_> = pointers.map(|at| table(ram, at)).collect();
        let fadt = found.iter().find(|t| t.starts_with(b"FACP")).unwrap();
        let dsdt = table(ram, number::<8>(fadt, 140));
        found.push(dsdt);
        found
    }

    #[test]
    fn every_pointer_lands_on_a_table_with_a_good_checksum() {
        let ram = ram();
        let rsdp = write(&ram, BIOS_AREA, &platform(2)).unwrap();
        assert_eq!(rsdp, Gpa(0xe_0000));
        let found = tables(&ram, rsdp);
        let signatures: Vec<_> = found.iter().map(|t| &t[..4]).collect();
        assert_eq!(signatures, [b"FACP", b"APIC", b"DSDT"]);
        let fadt = &found[0];
        let facs = number::<4>(fadt, 36);
        assert_eq!(facs % 64, 0);
        assert_eq!(&read(&ram, facs, 4), b"FACS");
        // An OS that reads only the 32-bit fields finds the same.
        assert_eq!(number::<4>(fadt, 40), number::<8>(fadt, 140));
    }

    #[test]
    fn the_fadt_says_where_power_management_is() {
        let ram = ram();
        let rsdp = write(&ram, BIOS_AREA, &platform(1)).unwrap();
        let fadt = tables(&ram, rsdp).remove(0);
        assert!(fadt[8] >= 3);
        let flags = number::<4>(&fadt, 112);
        assert_eq!(flags >> 10 & 1, 1, "RESET_REG_SUP");
        assert_eq!(flags >> 8 & 1, 0, "the timer has 24 bits");
        assert_eq!(number::<2>(&fadt, 46), 9);
        assert_eq!(
            number::<4>(&fadt, 48),
            0,
            "SMI_CMD: SCI_EN reads 1 from the start"
        );
        assert_eq!(
            [number::<4>(&fadt, 56), number::<4>(&fadt, 64)],
            [0x600, 0x604]
        );
        assert_eq!([fadt[88], fadt[89], fadt[91]], [4, 2, 4]);
        assert_eq!(number::<4>(&fadt, 76), 0x608);
        assert_eq!(
            (fadt[108], number::<8>(&fadt, 120), fadt[128]),
            (0x32, 0xcf9, 6)
        );
        // The same again in generic address form: space 1 is I/O.
        for (at, bits, port) in [(148, 32, 0x600), (172, 16, 0x604), (208, 32, 0x608)] {
            assert_eq!(
                (fadt[at], fadt[at + 1], number::<8>(&fadt, at + 4)),
                (1, bits, port)
            );
        }
    }

    #[test]
    fn the_madt_lists_every_cpu_up_to_apic_id_254() {
        let ram = ram();
        let rsdp = write(&ram, BIOS_AREA, &platform(255)).unwrap();
        let madt = tables(&ram, rsdp).remove(1);
        assert_eq!(number::<4>(&madt, 36), 0xfee0_0000);
        assert_eq!(number::<4>(&madt, 40), 1, "PCAT_COMPAT");
        let mut entries = Vec::new();
        let mut rest = &madt[44..];
        while let [kind, len, ..] = *rest {
            entries.push((kind, rest[2..usize::from(len)].to_vec()));
            rest = &rest[usize::from(len)..];
        }
        let of = |kind| {
            entries
                .iter()
                .filter(move |e| e.0 == kind)
                .map(|e| e.1.clone())
        };
        let ids: Vec<_> = of(0).map(|e| (e[1], e[2])).collect();
        assert_eq!(ids, (0..=254).map(|id| (id, 1)).collect::<Vec<_>>());
        assert_eq!(
            of(1).map(|e| number::<4>(&e, 2)).collect::<Vec<_>>(),
            [0xfec0_0000]
        );
        let overrides: Vec<_> = of(2)
            .map(|e| (e[1], number::<4>(&e, 2), number::<2>(&e, 6)))
            .collect();
        let levels = [9_u8, 5, 10, 11].map(|gsi| (u64::from(gsi), u64::from(gsi), 0xd));
        let overrides: Vec<_> = overrides
            .into_iter()
            .map(|(irq, gsi, flags)| (u64::from(irq), gsi, flags))
            .collect();
        assert_eq!(overrides[0], (0, 2, 0));
        assert_eq!(overrides[1..], levels);
        assert_eq!(of(4).collect::<Vec<_>>(), [[0xff, 0, 0, 1]]);
    }

    #[test]
    fn an_apic_id_above_254_names_what_it_would_take() {
        let error = write(&ram(), BIOS_AREA, &platform(256))
            .unwrap_err()
            .to_string();
        assert!(error.contains("255") && error.contains("x2APIC"), "{error}");
    }

    #[test]
    fn a_place_too_small_says_so_and_writes_nothing() {
        let ram = ram();
        let place = Span {
            start: 0xe_0000,
            end: 0xe_0100,
        };
        let error = write(&ram, place, &platform(1)).unwrap_err();
        assert!(
            matches!(error, AcpiError::TooLarge { have: 256, .. }),
            "{error}"
        );
        assert_eq!(read(&ram, 0xe_0000, 8), [0; 8]);
    }
}
