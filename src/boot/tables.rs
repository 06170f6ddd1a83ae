//! Segment descriptors and page tables for the two entries: 64-bit with paging, 32-bit without.

use crate::mem::{Gpa, GuestRam, MemError};

use super::place::Places;

/// `__BOOT_CS` of Linux's 64-bit boot protocol.
const BOOT_CS: u16 = 0x10;
/// `__BOOT_DS`.
const BOOT_DS: u16 = 0x18;
/// A task state segment: VMX entry wants TR to hold one.
const BOOT_TR: u16 = 0x20;

/// SDM volume 3, 3.4.5: code, execute and read, accessed, present, limit 4 GiB; L or D.
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
/// Data, read and write, accessed, present, D/B, limit 4 GiB.
const DATA: u64 = 0x00cf_9300_0000_ffff;
/// SDM volume 3, 7.2.2: busy 32/64-bit TSS at 0, limit 0x67, present. Its upper half, which exists
/// only in IA-32e mode, is 0.
const TSS_BUSY: u64 = 0x0000_8b00_0000_0067;

/// SDM volume 3, 4.5: present and writable; PS: a page directory entry that maps 2 MiB.
const PRESENT_WRITABLE: u64 = 0b11;
const PAGE_2M: u64 = 1 << 7;
const ENTRIES: u64 = 512;
/// 4 GiB in page directories of 1 GiB each.
const DIRECTORIES: u64 = 4;

/// What the vCPU's registers must hold for the 64-bit entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongModeTables {
    /// GDTR base.
    pub gdt_base: u64,
    /// GDTR limit: the offset of its last byte.
    pub gdt_limit: u16,
    /// The PML4.
    pub cr3: u64,
    /// Selector of the 64-bit code segment.
    pub cs: u16,
    /// Selector of the flat data segment: DS, ES, SS.
    pub ds: u16,
    /// Selector of the busy TSS.
    pub tr: u16,
}

/// What the vCPU's registers must hold for the 32-bit PVH entry, paging off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlatTables {
    /// GDTR base.
    pub gdt_base: u64,
    /// GDTR limit: the offset of its last byte.
    pub gdt_limit: u16,
    /// Selector of the flat 32-bit code segment.
    pub cs: u16,
    /// Selector of the flat data segment: DS, ES, SS.
    pub ds: u16,
    /// Selector of the busy TSS.
    pub tr: u16,
}

/// Writes the GDT and page tables that map the first 4 GiB onto themselves in pages of 2 MiB: the
/// kernel, `boot_params`, the command line and every device below 4 GiB are reached before the
/// guest has tables of its own.
///
/// # Errors
/// [`MemError`] when a place is not RAM.
pub fn write_long_mode_tables(ram: &GuestRam, places: &Places) -> Result<LongModeTables, MemError> {
    let gdt_limit = write_gdt(ram, places.gdt, CODE_64)?;
    let pml4 = places.page_tables.0;
    let page = |n: u64| pml4.saturating_add(n.saturating_mul(4096));
    let table = |entries: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
        entries.flat_map(u64::to_le_bytes).collect()
    };
    let link = |address: u64| address | PRESENT_WRITABLE;
    ram.write(Gpa(pml4), &table(&mut [link(page(1))].into_iter()))?;
    let directories = (0..DIRECTORIES).map(|i| link(page(i.saturating_add(2))));
    ram.write(Gpa(page(1)), &table(&mut { directories }))?;
    let pages = (0..DIRECTORIES.saturating_mul(ENTRIES))
        .map(|i| i.saturating_mul(2 << 20) | PRESENT_WRITABLE | PAGE_2M);
    ram.write(Gpa(page(2)), &table(&mut { pages }))?;
    Ok(LongModeTables {
        gdt_base: places.gdt.0,
        gdt_limit,
        cr3: pml4,
        cs: BOOT_CS,
        ds: BOOT_DS,
        tr: BOOT_TR,
    })
}

/// Writes the GDT of the 32-bit entry.
///
/// # Errors
/// [`MemError`] when its place is not RAM.
pub fn write_flat_tables(ram: &GuestRam, places: &Places) -> Result<FlatTables, MemError> {
    let gdt_limit = write_gdt(ram, places.gdt, CODE_32)?;
    Ok(FlatTables {
        gdt_base: places.gdt.0,
        gdt_limit,
        cs: BOOT_CS,
        ds: BOOT_DS,
        tr: BOOT_TR,
    })
}

/// Null, unused, code, data, TSS and the TSS's upper half. Returns the limit.
fn write_gdt(ram: &GuestRam, at: Gpa, code: u64) -> Result<u16, MemError> {
    let descriptors = [0, 0, code, DATA, TSS_BUSY, 0_u64];
    let bytes: Vec<u8> = descriptors.into_iter().flat_map(u64::to_le_bytes).collect();
    ram.write(at, &bytes)?;
    Ok(u16::try_from(bytes.len().saturating_sub(1)).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::HugePages;

    fn entry(ram: &GuestRam, table: u64, index: u64) -> u64 {
        let mut bytes = [0; 8];
        ram.read(Gpa(table + index * 8), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// What the processor does with a linear address, as SDM volume 3, figure 4-9 draws it.
    fn walk(ram: &GuestRam, cr3: u64, linear: u64) -> Option<u64> {
        let mut table = cr3;
        for shift in [39, 30] {
            let found = entry(ram, table, linear >> shift & 0x1ff);
            (found & 1 == 1).then_some(())?;
            table = found & 0x000f_ffff_ffff_f000;
        }
        let found = entry(ram, table, linear >> 21 & 0x1ff);
        (found & 0b1000_0011 == 0b1000_0011).then_some((found & !0x1f_ffff) + (linear & 0x1f_ffff))
    }

    #[test]
    fn every_2_mib_below_4_gib_maps_to_itself_and_nothing_above_is_mapped() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let tables = write_long_mode_tables(&ram, &Places::default()).unwrap();
        for linear in (0..1_u64 << 32).step_by(2 << 20) {
            assert_eq!(
                walk(&ram, tables.cr3, linear + 0x1234),
                Some(linear + 0x1234)
            );
        }
        for linear in [1_u64 << 32, 1 << 38, 1 << 39, 1 << 46] {
            assert_eq!(walk(&ram, tables.cr3, linear), None);
        }
    }

    #[test]
    fn the_selectors_name_a_code_segment_of_the_right_size_and_a_data_segment() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let places = Places::default();
        let long = write_long_mode_tables(&ram, &places).unwrap();
        let descriptor = |selector: u16| entry(&ram, places.gdt.0, u64::from(selector >> 3));
        assert_eq!((long.cs, long.ds), (0x10, 0x18));
        let (l, d) = (1 << 53, 1 << 54);
        assert_eq!(descriptor(long.cs) & (l | d), l);
        let flat = write_flat_tables(&ram, &places).unwrap();
        assert_eq!(descriptor(flat.cs) & (l | d), d);
        assert_eq!(descriptor(flat.ds) >> 40 & 0x1f, 0x13);
        // The TSS descriptor of IA-32e mode has 16 bytes, all within the limit.
        assert_eq!(flat.gdt_limit, flat.tr + 15);
    }

    #[test]
    fn a_place_outside_ram_is_an_error() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let places = Places {
            page_tables: Gpa((2 << 20) - 4096),
            ..Places::default()
        };
        assert!(write_long_mode_tables(&ram, &places).is_err());
    }
}
