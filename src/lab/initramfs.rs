//! The lab's initramfs: its init, and the modules to load. Uncompressed, because unpacking
//! under TCG costs more than copying; in memory, because nothing outlives the lab.

use std::fs::File;
use std::io::Write;

use rustix::fs::{MemfdFlags, memfd_create};

use super::error::LabError;
use super::wire::{MODULES_FIRST, MODULES_LATER};
use crate::boot::initramfs::Initramfs;
use crate::kernels::{Kernel, Module, ModuleError, modules};

/// Built from `guest/lab-init` by build.rs.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lab-init"));

/// Directories the init mounts on.
const DIRECTORIES: [&str; 5] = ["/dev", "/newroot", "/overlay", "/proc", "/sys"];

/// Modules every lab works through.
const TRANSPORT: [&str; 5] = [
    "virtio_pci",
    "virtio_console",
    "9p",
    "9pnet_virtio",
    "overlay",
];

/// Builds it in a memory file. `work` are the modules the command is to find loaded.
pub(super) fn build(kernel: &Kernel, work: &[&str]) -> Result<File, LabError> {
    let transport = load_order(kernel, &TRANSPORT)?;
    let mut work = load_order(kernel, work)?;
    work.retain(|module| !transport.contains(module));
    let archive = pack(&[(MODULES_FIRST, &transport), (MODULES_LATER, &work)])?;

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

fn pack(lists: &[(&str, &[Module])]) -> Result<Vec<u8>, LabError> {
    let mut archive = Initramfs::new();
    for directory in DIRECTORIES {
        archive.dir(directory, 0o755)?;
    }
    archive
        .file("/init", 0o755, INIT)?
        .node("/dev/console", 0o600, (5, 1))?
        .node("/dev/null", 0o666, (1, 3))?;
    for (list, modules) in lists {
        let mut order = String::new();
        for module in *modules {
            let path = format!("/modules/{}.ko", module.name);
            archive.file(&path, 0o644, &module.bytes()?)?;
            order.push_str(&path);
            order.push('\n');
        }
        archive.file(list, 0o644, order.as_bytes())?;
    }
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_module_both_lists_need_is_loaded_by_the_first() {
        let module = |name: &str| Module {
            name: name.into(),
            path: "/dev/null".into(),
        };
        let lists = [
            (MODULES_FIRST, &[module("virtio")][..]),
            (MODULES_LATER, &[module("kvm")]),
        ];
        let archive = pack(&lists).unwrap();
        let has = |text: &str| archive.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(has("/modules/virtio.ko\n") && has("/modules/kvm.ko\n"));
    }

    #[test]
    fn the_init_is_static() {
        let program = Path::new(concat!(env!("OUT_DIR"), "/lab-init"));
        assert!(crate::boot::initramfs::is_static_elf(program));
    }
}
