//! The lab's initramfs: its init, and the modules to load, in order. Uncompressed, because unpacking
//! under TCG costs more than copying; in memory, because nothing outlives the lab.

use std::fs::File;
use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

use super::error::LabError;
use super::wire::MODULE_ORDER;
use crate::kernels::{Kernel, Module, ModuleError, modules};

/// Built from `guest/lab-init` by build.rs.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lab-init"));

/// Directories the init mounts on.
const DIRECTORIES: [&str; 6] = ["dev", "modules", "newroot", "overlay", "proc", "sys"];

/// Modules every lab loads, besides KVM's for its CPU.
const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_console",
    "9p",
    "9pnet_virtio",
    "overlay",
];

/// `c_mode` of cpio(5): file type and permissions.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const REGULAR: u32 = 0o100_644;

/// Builds it in a memory file.
pub(super) fn build(kernel: &Kernel, kvm: &str, more: &[&str]) -> Result<File, LabError> {
    let mut names = vec![kvm];
    names.extend(MODULES);
    names.extend(more);
    let archive = pack(&load_order(kernel, &names)?)?;

    let fd = memfd_create("trapline-lab-initramfs", MemfdFlags::CLOEXEC)
        .map_err(|e| LabError::io("create a memory file")(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(&archive)
        .map_err(LabError::io("fill a memory file"))?;
    Ok(file)
}

/// A kernel that has everything built in may come without a module tree.
fn load_order(kernel: &Kernel, names: &[&str]) -> Result<Vec<Module>, LabError> {
    match modules::resolve(kernel, names) {
        Err(ModuleError::NoTree { .. }) if kernel.config.is_some() && !modular(kernel) => {
            Ok(Vec::new())
        }
        result => Ok(result?),
    }
}

fn modular(kernel: &Kernel) -> bool {
    let config = kernel.config.as_ref();
    config
        .and_then(|path| std::fs::read_to_string(path).ok())
        .is_none_or(|text| text.lines().any(|line| line == "CONFIG_MODULES=y"))
}

fn pack(modules: &[Module]) -> Result<Vec<u8>, ModuleError> {
    let mut archive = Vec::with_capacity(16 << 20);
    for directory in DIRECTORIES {
        entry(&mut archive, directory, DIRECTORY, &[]);
    }
    entry(&mut archive, "init", PROGRAM, INIT);
    let mut order = String::new();
    for module in modules {
        let file = format!("{}.ko", module.name);
        entry(
            &mut archive,
            &format!("modules/{file}"),
            REGULAR,
            &module.bytes()?,
        );
        order.push_str(&file);
        order.push('\n');
    }
    entry(&mut archive, MODULE_ORDER, REGULAR, order.as_bytes());
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    Ok(archive)
}

/// One file in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    // Each file its own inode: equal ones are taken for hard links.
    let inode = archive.len();
    let fields = [
        inode,
        mode as usize,
        0,
        0,
        1,
        0,
        bytes.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    align(archive);
    archive.extend_from_slice(bytes);
    align(archive);
}

fn align(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_one_cpio_takes() {
        let archive = pack(&[]).unwrap();
        assert_eq!(archive.len() % 4, 0);
        let name_at = |at: usize| &archive[at + 110..at + 116];
        assert_eq!(&archive[..6], b"070701");
        assert_eq!(name_at(0)[..3], *b"dev");
        let end = archive
            .windows(10)
            .position(|w| w == b"TRAILER!!!")
            .unwrap();
        assert_eq!(&archive[end - 110..end - 104], b"070701");
    }

    #[test]
    fn the_init_is_static() {
        // PT_INTERP names a loader, and in the initramfs there is none.
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(INIT).unwrap();
        let kinds = file.elf_program_headers().iter();
        assert!(kinds.clone().count() > 0);
        assert!(kinds.clone().all(|header| {
            header.p_type.get(object::Endianness::Little) != object::elf::PT_INTERP
        }));
    }
}
