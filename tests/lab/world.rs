//! What a command finds around it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::{Case, TRAPLINE};
use super::{ends, in_labs, lab, script};

pub(crate) const CASES: &[Case] = &[
    in_labs(
        "a_command_finds_its_callers_place_and_gives_its_status",
        place,
    ),
    in_labs("a_working_directory_below_run_is_seen", run),
    in_labs("what_is_shared_is_written_and_nothing_else_is", shares),
    in_labs("the_devices_are_where_the_table_says", devices),
    in_labs("guests_with_svm_can_be_made_inside", kvm),
    in_labs(
        "no_guest_runs_on_the_processor_that_qemu_spoils",
        processors,
    ),
];

fn place() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    fs::write(dir.join("name with space"), "seen").unwrap();
    let mut command = script(
        "pwd; cat 'name with space'; echo; id -u; hostname; echo $HOME,$TRAPLINE_MINE,$LD_MINE; \
         echo to-stderr >&2; exit 7",
    );
    command
        .current_dir(&dir)
        .env("HOME", "/my/home")
        .env("TRAPLINE_MINE", "mine, too")
        .env("LD_MINE", "not this")
        .env("TRAPLINE_CACHE", cache());
    let output = command.output().unwrap();
    let expected = format!(
        "{}\nseen\n0\ntrapline-lab\n/my/home,mine, too,\n",
        dir.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.stderr, b"to-stderr\n");
    assert_eq!(output.status.code(), Some(7));
}

fn run() {
    // A file system of its own inside, which hides what the host has there.
    let hidden = ["/run", "/dev/shm"]
        .into_iter()
        .find_map(|dir| tempfile::tempdir_in(dir).ok());
    let dir = hidden.expect("neither /run nor /dev/shm can be written");
    fs::write(dir.path().join("file"), "seen").unwrap();
    let mut command = script("cat file; touch new 2>/dev/null || echo ', and not written'");
    command.current_dir(dir.path());
    assert_eq!(ends(command, 0), "seen, and not written\n");
}

/// Under TCG there is a processor more than the caller has, and the command is kept off the first.
fn processors() {
    let command =
        script("nproc; grep -c ^processor /proc/cpuinfo; grep allowed_list /proc/self/status");
    let said = ends(command, 0);
    let here = std::thread::available_parallelism().unwrap().get().min(16);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], here.to_string(), "{said}");
    let all: usize = lines[1].parse().unwrap();
    let first = lines[2].split_ascii_whitespace().nth(1).unwrap();
    match all - here {
        0 => assert!(first.starts_with('0'), "{said}"),
        spare => assert!(first.starts_with(&spare.to_string()), "{said}"),
    }
}

/// HOME moves the cache, where the lab's kernel is.
fn cache() -> std::path::PathBuf {
    trapline::kernels::Cache::from_env().unwrap().root().into()
}

fn shares() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let file = dir.join("only this");
    let folder = dir.join("a,folder");
    fs::create_dir(&folder).unwrap();
    fs::write(&file, "before").unwrap();
    fs::write(dir.join("beside"), "before").unwrap();
    let text = format!(
        "cd '{}'; echo one > a,folder/new; mkdir a,folder/deep; mv a,folder/new a,folder/deep/moved; \
         printf after > 'only this'; printf after > beside; echo /tmp is mine > /tmp/trapline-test; \
         cat /tmp/trapline-test; touch /trapline-test 2>/dev/null || echo the root is not",
        dir.display()
    );
    let mut command = Command::new(TRAPLINE);
    command.args(["lab", "--no-devices", "--lab-mem", "1G", "--share"]);
    command.arg(&folder).arg("--share").arg(&file);
    command
        .args(["--", "/bin/sh", "-c", &text])
        .stdin(Stdio::null());
    assert_eq!(ends(command, 0), "/tmp is mine\nthe root is not\n");

    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(read(&folder.join("deep/moved")), "one\n");
    assert_eq!(read(&file), "after");
    assert_eq!(read(&dir.join("beside")), "before");
    assert!(!Path::new("/tmp/trapline-test").exists());
}

fn devices() {
    let mut list = Command::new(TRAPLINE);
    list.args(["lab", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&ends(list, 0)).unwrap();
    assert_eq!(list["schema"], "trapline/lab-devices/1");

    let mut command = Command::new(TRAPLINE);
    command.args(["lab", "--lab-mem", "1G", "--", "/bin/sh", "-c"]);
    command.arg(
        "cd /sys/bus/pci/devices; for d in *; do \
         echo ${d#0000:} $(cat $d/vendor) $(cat $d/device) $(basename $(readlink $d/iommu_group)); done",
    );
    let found = ends(command, 0);
    let mut groups = Vec::new();
    for item in list["items"].as_array().unwrap() {
        let (bdf, id) = (item["bdf"].as_str().unwrap(), item["id"].as_str().unwrap());
        let (vendor, device) = id.split_once(':').unwrap();
        let start = format!("{bdf} 0x{vendor} 0x{device} ");
        let group = found.lines().find_map(|line| line.strip_prefix(&start));
        groups.push((
            bdf,
            group.unwrap_or_else(|| panic!("{bdf} is not in\n{found}")),
        ));
    }
    let group = |bdf: &str| groups.iter().find(|g| g.0 == bdf).unwrap().1;
    assert_eq!(group("02:01.0"), group("02:02.0"), "behind one bridge");
    let alone = group("00:03.0");
    assert_eq!(groups.iter().filter(|g| g.1 == alone).count(), 1);
}

fn kvm() {
    let found = ends(
        lab([
            "/bin/sh",
            "-c",
            "test -c /dev/kvm && grep -cwE 'svm|vmx' /proc/cpuinfo >/dev/null && \
             cat /sys/module/kvm/parameters/force_emulation_prefix",
        ]),
        0,
    );
    assert_eq!(found, "1\n");
}
