//! The PVH boot protocol: xen/include/public/arch-x86/hvm/start_info.h.

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::GuestAddress;

use crate::mem::{Gpa, GuestRam};

use super::e820::Entry;
use super::load_error::LoadError;
use super::place::Span;

/// `XEN_HVM_START_MAGIC_VALUE`: "xEn3" with its top bit set.
const MAGIC: u32 = 0x336e_c578;
/// The first version with a memory map.
const VERSION: u32 = 1;
/// The module list, from the start of the structure, which is 56 bytes long.
const MODULES_OFFSET: u64 = 0x40;
/// The memory map after the one module there can be.
const MAP_OFFSET: u64 = 0x80;

/// What goes into `hvm_start_info`.
#[derive(Debug)]
pub(super) struct Handover<'a> {
    pub(super) cmdline: Gpa,
    pub(super) initrd: Option<Span>,
    pub(super) rsdp: Option<Gpa>,
    pub(super) map: &'a [Entry],
}

/// Writes `hvm_start_info`, the module list and the memory map into the page at `at`.
pub(super) fn write(ram: &GuestRam, at: Gpa, give: &Handover<'_>) -> Result<(), LoadError> {
    let map: Vec<_> = give
        .map
        .iter()
        .map(|entry| hvm_memmap_table_entry {
            addr: entry.span.start,
            size: entry.span.len(),
            type_: entry.kind,
            reserved: 0,
        })
        .collect();
    let map_at = at.0.saturating_add(MAP_OFFSET);
    let modules_at = at.0.saturating_add(MODULES_OFFSET);
    let mut info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        cmdline_paddr: give.cmdline.0,
        rsdp_paddr: give.rsdp.map_or(0, |rsdp| rsdp.0),
        memmap_paddr: map_at,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        ..hvm_start_info::default()
    };
    let modules = give.initrd.map(|initrd| hvm_modlist_entry {
        paddr: initrd.start,
        size: initrd.len(),
        ..hvm_modlist_entry::default()
    });
    if modules.is_some() {
        info.nr_modules = 1;
        info.modlist_paddr = modules_at;
    }
    let mut params = BootParams::new(&info, GuestAddress(at.0));
    params.set_sections(&map, GuestAddress(map_at));
    if let Some(module) = modules {
        params.set_modules(&[module], GuestAddress(modules_at));
    }
    PvhBootConfigurator::write_bootparams(&params, ram.memory()).map_err(|source| {
        LoadError::Handover {
            what: "hvm_start_info",
            at,
            source,
        }
    })
}
