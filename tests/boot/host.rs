//! A host that lacks something, or runs out of it: the message names it and its mend.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::{Case, Need, TRAPLINE};
use super::linux::kernel;
use super::{Run, boot, finish, unspoiled};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "without_dev_kvm_it_is_65_and_the_mend_is_named",
        needs: &[Need::Mounts],
        run: no_device,
    },
    Case {
        name: "without_permission_on_dev_kvm_it_is_65_and_the_mend_is_named",
        needs: &[Need::Mounts],
        run: no_permission,
    },
    Case {
        name: "a_disk_that_fills_up_under_events_is_told",
        needs: &[Need::Kvm, Need::Mounts],
        run: full_under_events,
    },
    Case {
        name: "a_disk_that_fills_up_under_get_is_told",
        needs: &[Need::KvmLinux, Need::Kernel, Need::Mounts],
        run: full_under_get,
    },
    Case {
        name: "huge_pages_the_host_lacks_are_named_with_the_mend",
        needs: &[],
        run: no_huge_pages,
    },
    Case {
        name: "huge_pages_of_both_sizes_back_a_guest",
        needs: &[Need::Lab],
        run: huge_pages,
    },
];

/// `trapline boot` in a mount namespace of its own, after a script that may mount there. `$1` is a
/// scratch folder.
fn after(script: &str, scratch: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec"])
        .arg(format!("{script}\nshift\nexec \"$@\""))
        .arg("sh")
        .arg(scratch)
        .args([TRAPLINE, "--in", "here", "boot"])
        .args(arguments)
        .stdin(Stdio::null());
    finish(command)
}

/// An empty /dev but for what programs expect of any.
const BARE_DEV: &str = "touch $1/null; mount --bind /dev/null $1/null; \
     mount -t tmpfs none /dev; touch /dev/null; mount --bind $1/null /dev/null";

fn no_device() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let run = after(BARE_DEV, dir.path(), &[":hello"]);
    run.ends(65)
        .says("there is no /dev/kvm")
        .says("modprobe kvm_intel or kvm_amd")
        .says("--in lab");
}

/// As a user who is nobody, on a machine where only root may.
fn no_permission() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("open to all");
    // The program may lie in a folder that is closed to others.
    let program = dir.path().join("trapline");
    fs::copy(TRAPLINE, &program).expect("a copy");
    let runtime = dir.path().join("run");
    fs::create_dir(&runtime).expect("a folder");
    std::os::unix::fs::chown(&runtime, Some(65534), Some(65534)).expect("root may");
    let script = format!(
        "{BARE_DEV}; mknod -m 600 /dev/kvm c 10 232; export XDG_RUNTIME_DIR=$1/run; \
         cd /; shift; shift; \
         exec setpriv --reuid 65534 --regid 65534 --clear-groups {} \"$@\"",
        program.display()
    );
    let run = after(&script, dir.path(), &[":hello"]);
    run.ends(65)
        .says("no permission on /dev/kvm")
        .says("usermod -aG kvm")
        .says("--in lab");
}

fn full_under_events() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("events");
    let script = "mount -t tmpfs -o size=64k none $1";
    let file = file.to_str().expect("text");
    let run = after(script, dir.path(), &[":flood", "--events", file]);
    run.ends(74)
        .says(&format!("writing events to {file} failed"))
        .says("No space left on device");
    // The guest is not to blame, and its console is whole.
    assert!(run.stdout.len() >= 64 * 1024, "{} bytes", run.stdout.len());
}

fn full_under_get() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let script = "mount -t tmpfs -o size=2m none $1";
    let get = format!("/tmp/big:{}/big", dir.path().display());
    let kernel = kernel().name;
    let exec = "head -c 8388608 /dev/zero > /tmp/big";
    let arguments = [&kernel, "--timeout", "200s", "--get", &get, "--exec", exec];
    unspoiled(|| after(script, dir.path(), &arguments))
        .ends(74)
        .says(&format!(
            "cannot keep what the guest sends for --get in {}",
            dir.path().display()
        ))
        .says("No space left on device");
}

fn no_huge_pages() {
    let run = boot([":hello", "--hugepages", "2M", "-m", "900G"]);
    run.ends(65).says("huge pages of 2048 KiB");
    let run = boot([":hello", "--hugepages", "1G", "-m", "900G"]);
    run.ends(65).says("huge pages of 1048576 KiB");
    let run = boot([":hello", "--hugepages", "4K"]);
    run.ends(64).says("2M").says("1G");
}

/// In a lab, whose pools nobody else needs.
fn huge_pages() {
    let script = r#"
        pool() { echo /sys/kernel/mm/hugepages/hugepages-$1kB; }
        boot() { "$0" --in here boot "$@"; }
        uses() {
            boot :hang --hang 0s --timeout 100s --name $2 --hugepages $2 -m $3 >/dev/null 2>&1 &
            tries=0
            until [ $(cat $(pool $1)/free_hugepages) -lt $(cat $(pool $1)/nr_hugepages) ]; do
                tries=$((tries + 1)); [ $tries -lt 600 ] || return 1; sleep 0.1
            done
            "$0" ctl $2 stop; wait; echo $2 were used
        }
        echo 31 > $(pool 2048)/nr_hugepages
        boot :hello --hugepages 2M -m 64; echo with 31: $?
        echo 32 > $(pool 2048)/nr_hugepages
        boot :hello --hugepages 2M -m 64; echo with 32: $?
        uses 2048 2M 64
        echo 0 > $(pool 2048)/nr_hugepages
        [ -e $(pool 1048576) ] || { echo this processor has no pages of 1 GiB; exit; }
        echo 1 > $(pool 1048576)/nr_hugepages
        boot :hello --hugepages 1G -m 1G; echo with 1: $?
        uses 1048576 1G 1G
    "#;
    let mut lab = Command::new(TRAPLINE);
    lab.args(["lab", "--no-devices", "--lab-mem", "4G", "--"])
        .args(["sh", "-c", script, TRAPLINE])
        .stdin(Stdio::null());
    let run = finish(lab);
    run.ends(0)
        .prints("with 31: 65")
        .prints("with 32: 0")
        .prints("2M were used");
    run.says("31 huge pages of 2048 KiB are free, and the guest needs 32")
        .says("echo 32 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    if !run.stdout.contains("no pages of 1 GiB") {
        run.prints("with 1: 0").prints("1G were used");
    }
}
