use std::cell::RefCell;
use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Physical memory of 4 KiB pages that exist only where something was put.
#[derive(Default)]
struct Memory(RefCell<HashMap<u64, [u8; 4096]>>);

impl Memory {
    fn put(&self, at: u64, bytes: &[u8]) {
        let mut pages = self.0.borrow_mut();
        for (n, byte) in bytes.iter().enumerate() {
            let at = at + n as u64;
            pages.entry(at >> 12).or_insert([0; 4096])[(at & 4095) as usize] = *byte;
        }
    }
    fn put64(&self, at: u64, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
    fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        let pages = self.0.borrow();
        bytes.iter_mut().enumerate().all(|(n, byte)| {
            let at = at.wrapping_add(n as u64);
            pages.get(&(at >> 12)).is_some_and(|page| {
                *byte = page[(at & 4095) as usize];
                true
            })
        })
    }
}

fn long_mode(la57: bool) -> kvm_sregs {
    kvm_sregs {
        cr0: CR0_PE | CR0_PG,
        cr3: 0x1000,
        cr4: CR4_PAE | if la57 { CR4_LA57 } else { 0 },
        efer: EFER_LMA | EFER_NXE,
        ..kvm_sregs::default()
    }
}

fn found(sregs: &kvm_sregs, memory: &Memory, at: u64) -> Found {
    Paging::of(sregs).walk(at, &|a, b| memory.read(a, b)).found
}

fn page(physical: u64, page: u64, rights: &str) -> Found {
    Found::Page {
        physical: Hex(physical),
        page,
        writable: rights.contains('w'),
        user: rights.contains('u'),
        executable: rights.contains('x'),
    }
}

#[test]
fn four_levels_with_every_page_size() {
    let memory = Memory::default();
    let va = 0xffff_ffff_8123_4567_u64;
    memory.put64(0x1000 + 8 * 511, 0x2000 | 3);
    memory.put64(0x2000 + 8 * 510, 0x3000 | 3);
    memory.put64(0x3000 + 8 * 9, 0x4000 | 3);
    memory.put64(0x4000 + 8 * 0x34, 0x7_5000 | 1 | NO_EXECUTE);
    assert_eq!(
        found(&long_mode(false), &memory, va),
        page(0x7_5567, 4096, "")
    );
    memory.put64(0x3000 + 8 * 9, 0x60_0000 | 3 | LARGE);
    assert_eq!(
        found(&long_mode(false), &memory, va),
        page(0x63_4567, 2 << 20, "wx")
    );
    memory.put64(0x2000 + 8 * 510, 0x4000_0000 | 7 | LARGE);
    assert_eq!(
        found(&long_mode(false), &memory, va),
        page(0x4123_4567, 1 << 30, "wx")
    );
}

#[test]
fn rights_are_those_that_every_level_gives() {
    let memory = Memory::default();
    memory.put64(0x1000, 0x2000 | 7);
    memory.put64(0x2000, 0x3000 | 5);
    memory.put64(0x3000, 0x20_0000 | 7 | LARGE);
    assert_eq!(
        found(&long_mode(false), &memory, 0x10),
        page(0x20_0010, 2 << 20, "ux")
    );
    let mut without_nx = long_mode(false);
    without_nx.efer &= !EFER_NXE;
    memory.put64(0x3000, 0x20_0000 | 7 | LARGE | NO_EXECUTE);
    assert_eq!(
        found(&without_nx, &memory, 0x10),
        page(0x20_0010, 2 << 20, "ux")
    );
    assert_eq!(
        found(&long_mode(false), &memory, 0x10),
        page(0x20_0010, 2 << 20, "u")
    );
}

#[test]
fn five_levels() {
    let memory = Memory::default();
    let va = 0x00ab_cdef_1234_5678_u64;
    memory.put64(0x1000 + 8 * (va >> 48 & 511), 0x2000 | 3);
    memory.put64(0x2000 + 8 * (va >> 39 & 511), 0x3000 | 3);
    memory.put64(0x3000 + 8 * (va >> 30 & 511), 3 | LARGE);
    let expected = page(va & 0x3fff_ffff, 1 << 30, "wx");
    assert_eq!(found(&long_mode(true), &memory, va), expected);
    assert_eq!(found(&long_mode(false), &memory, va), Found::NotCanonical);
    assert_eq!(
        found(&long_mode(true), &memory, 1 << 57),
        Found::NotCanonical
    );
}

#[test]
fn pae_has_four_directories_below_4_gib() {
    let memory = Memory::default();
    let mut sregs = long_mode(false);
    (sregs.efer, sregs.cr3) = (EFER_NXE, 0x1020);
    // A PDPTE's bits 1 and 2 are reserved and restrict nothing.
    memory.put64(0x1020 + 8 * 3, 0x2000 | 1);
    memory.put64(0x2000 + 8 * 2, 0x3000 | 7);
    memory.put64(0x3000 + 8 * 5, 0x12_3456_7000 | 7);
    assert_eq!(
        found(&sregs, &memory, 0xc040_5abc),
        page(0x12_3456_7abc, 4096, "wux")
    );
    assert_eq!(
        found(&sregs, &memory, 0xf_c040_5abc),
        page(0x12_3456_7abc, 4096, "wux")
    );
    assert_eq!(
        found(&sregs, &memory, 0x5abc),
        Found::NotPresent { level: "PDPT" }
    );
}

#[test]
fn two_levels_with_4_mib_pages() {
    let memory = Memory::default();
    let mut sregs = kvm_sregs {
        cr0: CR0_PE | CR0_PG,
        cr3: 0x1018,
        ..kvm_sregs::default()
    };
    memory.put(0x1000 + 4 * 0x300, &(0x2000_u32 | 3).to_le_bytes());
    memory.put(0x2004, &(0x5000_u32 | 1).to_le_bytes());
    assert_eq!(found(&sregs, &memory, 0xc000_1004), page(0x5004, 4096, "x"));
    // PSE-36 puts address bits 39:32 into bits 20:13.
    let large = 0x0040_0000_u32 | 0x2_0000 | 0x83;
    memory.put(0x1000 + 4 * 0x300, &large.to_le_bytes());
    sregs.cr4 = CR4_PSE;
    assert_eq!(
        found(&sregs, &memory, 0xc000_1004),
        page(0x10_0040_1004, 4 << 20, "wx")
    );
}

#[test]
fn without_paging_addresses_are_physical() {
    let memory = Memory::default();
    assert_eq!(
        found(&kvm_sregs::default(), &memory, 0xffff_0000),
        page(0xffff_0000, 0, "wux")
    );
}

#[test]
fn a_walk_says_where_it_ended_and_what_it_saw() {
    let memory = Memory::default();
    let sregs = long_mode(false);
    let walk = |at| {
        Paging::of(&sregs)
            .walk(at, &|a, b| memory.read(a, b))
            .to_string()
    };
    assert_eq!(walk(0), "0x0 -> the PML4 is not in RAM");
    memory.put64(0x1000, 0x9000 | 3);
    assert_eq!(walk(0), "0x0 PML4 0x9003 -> the PDPT is not in RAM");
    memory.put64(0x9000, 0);
    assert_eq!(
        walk(0),
        "0x0 PML4 0x9003 PDPT 0x0 -> not present in the PDPT"
    );
    memory.put64(0x9000, 0x83);
    assert_eq!(walk(0x123), "0x123 PML4 0x9003 PDPT 0x83 -> 0x123 1G rwx");
}

#[test]
fn a_read_goes_over_pages_and_stops_where_nothing_is_mapped() {
    let memory = Memory::default();
    memory.put64(0x1000, 0x2000 | 3);
    memory.put64(0x2000, 0x3000 | 3);
    memory.put64(0x3000, 0x4000 | 3);
    memory.put64(0x4000, 0x8000 | 3);
    memory.put64(0x4008, 0x7000 | 3);
    memory.put(0x8ffe, b"ab");
    memory.put(0x7000, b"cd");
    let mut bytes = [0; 4];
    let paging = Paging::of(&long_mode(false));
    let physical = |a: u64, b: &mut [u8]| memory.read(a, b);
    assert_eq!(paging.read(0xffe, &mut bytes, &physical), 4);
    assert_eq!(&bytes, b"abcd");
    assert_eq!(paging.read(0x1ffe, &mut bytes, &physical), 2);
    assert_eq!(paging.read(0x2000, &mut bytes, &physical), 0);
    assert_eq!(paging.read(u64::MAX - 1, &mut bytes, &physical), 0);
}

proptest! {
    /// Tables that point at themselves, at each other and at nothing.
    #[test]
    fn hostile_tables_are_walked_in_five_steps(
        seed in prop::collection::vec(any::<u64>(), 64),
        cr0 in any::<u64>(), cr3 in any::<u64>(), cr4 in any::<u64>(), efer in any::<u64>(),
        at in any::<u64>(),
    ) {
        let physical = |address: u64, bytes: &mut [u8]| {
            let word = seed[(address >> 3) as usize % seed.len()];
            let len = bytes.len().min(8);
            bytes[..len].copy_from_slice(&word.to_le_bytes()[..len]);
            word % 7 != 0
        };
        let sregs = kvm_sregs { cr0, cr3, cr4, efer, ..kvm_sregs::default() };
        let paging = Paging::of(&sregs);
        let walk = paging.walk(at, &physical);
        prop_assert!(walk.steps.len() <= 5);
        let _ = walk.to_string();
        paging.read(at, &mut [0; 9000], &physical);
    }
}
