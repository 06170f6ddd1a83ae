//! The Linux 64-bit boot protocol: Documentation/arch/x86/boot.rst, "64-bit boot protocol".

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::GuestAddress;

use crate::mem::{Gpa, GuestRam};

use super::e820::Entry;
use super::load_error::LoadError;
use super::place::Span;

/// The 64-bit entry of a bzImage, from where its protected-mode code is loaded.
pub(super) const ENTRY_64: u64 = 0x200;
/// What a kernel without a setup header accepts: `COMMAND_LINE_SIZE` 2048 with its NUL.
pub(super) const CMDLINE_SIZE: u32 = 2047;
/// Where an initrd may end at most when the image does not say.
pub(super) const INITRD_ADDR_MAX: u32 = 0x7fff_ffff;

/// `type_of_loader`: a loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `boot_flag` and `header` of every boot_params since protocol 2.00.
const BOOT_FLAG: u16 = 0xaa55;
const HDRS: u32 = u32::from_le_bytes(*b"HdrS");
/// `loadflags`: the kernel is loaded high. Nothing below 640 KiB is its own.
const LOADED_HIGH: u8 = 1 << 0;
/// `vid_mode`: leave the video mode alone.
const VID_MODE_NORMAL: u16 = 0xffff;

/// The header a vmlinux gets, which carries none: the newest protocol, and Linux's own limits.
pub(super) fn header_of_elf() -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: HDRS,
        version: 0x020f,
        loadflags: LOADED_HIGH,
        initrd_addr_max: INITRD_ADDR_MAX,
        cmdline_size: CMDLINE_SIZE,
        ..setup_header::default()
    }
}

/// What goes into `boot_params`.
#[derive(Debug)]
pub(super) struct Handover<'a> {
    pub(super) header: setup_header,
    pub(super) cmdline: Gpa,
    pub(super) initrd: Option<Span>,
    pub(super) rsdp: Option<Gpa>,
    pub(super) map: &'a [Entry],
}

/// Writes `boot_params` at `at`.
pub(super) fn write(ram: &GuestRam, at: Gpa, give: &Handover<'_>) -> Result<(), LoadError> {
    let mut params = boot_params {
        hdr: give.header,
        ..boot_params::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.vid_mode = VID_MODE_NORMAL;
    (params.hdr.cmd_line_ptr, params.ext_cmd_line_ptr) = halves(give.cmdline.0);
    if let Some(initrd) = give.initrd {
        (params.hdr.ramdisk_image, params.ext_ramdisk_image) = halves(initrd.start);
        (params.hdr.ramdisk_size, params.ext_ramdisk_size) = halves(initrd.len());
    }
    params.acpi_rsdp_addr = give.rsdp.map_or(0, |rsdp| rsdp.0);
    // Through a copy: the table is a field of a packed structure.
    let mut table = params.e820_table;
    let mut entries = 0;
    for (slot, entry) in table.iter_mut().zip(give.map) {
        *slot = boot_e820_entry {
            addr: entry.span.start,
            size: entry.span.len(),
            r#type: entry.kind,
        };
        entries = u8::saturating_add(entries, 1);
    }
    params.e820_table = table;
    params.e820_entries = entries;
    LinuxBootConfigurator::write_bootparams(
        &BootParams::new(&params, GuestAddress(at.0)),
        ram.memory(),
    )
    .map_err(|source| LoadError::Handover {
        what: "boot_params",
        at,
        source,
    })
}

/// The low and the high half of a 64-bit field that `boot_params` keeps in two places.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}
