//! Machines and arguments that make no lab: each says what to do, before anything is started.

use std::fs;
use std::process::{Command, Output};

use super::common::{Case, TRAPLINE};
use super::{lab, plain};

pub(crate) const CASES: &[Case] = &[
    plain("without_qemu_the_line_that_installs_it_is_said", no_qemu),
    plain("without_a_kernel_the_line_that_gets_one_is_said", no_kernel),
    plain(
        "a_kernel_without_9p_is_refused_by_the_name_of_the_option",
        cloud_kernel,
    ),
    plain("more_memory_than_there_is_is_refused", memory),
    plain("a_share_that_is_not_there_is_named", share),
];

#[track_caller]
fn refused(mut command: Command, status: i32) -> String {
    let Output {
        status: found,
        stderr,
        stdout,
    } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(found.code(), Some(status), "{said}");
    assert!(stdout.is_empty());
    said
}

/// A QEMU that says its version and nothing else, and an empty cache.
fn bare() -> (tempfile::TempDir, Command) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let qemu = dir.path().join("qemu-system-x86_64");
    fs::write(&qemu, "#!/bin/sh\necho QEMU emulator version 7.2.0\n").unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = lab(["true"]);
    command
        .env("PATH", dir.path())
        .env("TRAPLINE_CACHE", dir.path().join("cache"))
        .env_remove("TRAPLINE_LAB_KERNEL");
    (dir, command)
}

fn no_qemu() {
    let (_dir, mut command) = bare();
    command.env("PATH", "/nowhere");
    let said = refused(command, 65);
    assert!(
        said.contains("sudo apt-get install qemu-system-x86"),
        "{said}"
    );
}

fn no_kernel() {
    let (_dir, command) = bare();
    let said = refused(command, 65);
    assert!(said.ends_with("\n  trapline kernel get debian\n"), "{said}");
}

fn cloud_kernel() {
    let (dir, mut command) = bare();
    let entry = dir.path().join("cache/kernels/debian-cloud-6.1");
    fs::create_dir_all(&entry).unwrap();
    let manifest = serde_json::json!({
        "name": "debian-cloud-6.1", "version": "6.1.0-9-cloud-amd64", "flavour": "debian-cloud",
        "suite": null, "package": "p 1", "made_at": 1,
    });
    fs::write(entry.join("kernel.json"), manifest.to_string()).unwrap();
    fs::write(entry.join("vmlinuz"), "").unwrap();
    let config = "CONFIG_KVM_AMD=m\n# CONFIG_9P_FS is not set\nCONFIG_VIRTIO_PCI=m\n";
    fs::write(entry.join("config"), config).unwrap();
    command.env("TRAPLINE_LAB_KERNEL", "debian-cloud-6.1");
    let said = refused(command, 65);
    assert!(
        said.contains("CONFIG_9P_FS") && said.contains("cloud kernels"),
        "{said}"
    );
    assert!(said.contains("trapline kernel get debian"), "{said}");
}

fn memory() {
    let (_dir, bare) = bare();
    let mut command = Command::new(TRAPLINE);
    command.args(["lab", "--lab-mem", "4000000G", "--", "true"]);
    for (name, value) in bare.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let said = refused(command, 65);
    assert!(
        said.contains("4096000000 MiB") && said.contains("MiB to spare"),
        "{said}"
    );
}

fn share() {
    let mut command = Command::new(TRAPLINE);
    command.args(["lab", "--share", "/nowhere/at/all", "--", "true"]);
    let said = refused(command, 64);
    assert!(said.contains("cannot share /nowhere/at/all"), "{said}");
}
