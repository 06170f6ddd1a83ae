//! Disks and discs under Linux's own drivers, and what the host finds in their files afterwards.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use trapline::kernels::{Cache, Kernel};

use super::common::{Case, Need, TRAPLINE};
use super::disc_image::{DISC_FILE, disc_image};
use super::linux::{lines, tried};
use super::{Run, boot, command, finish};

pub(crate) const CASES: &[Case] = &[
    outside("linux_writes_a_filesystem_that_the_host_reads", filesystem),
    outside(
        "a_lab_killed_in_the_middle_of_writes_loses_nothing_synced",
        killed,
    ),
    inside(
        "two_cpus_write_two_disks_without_a_lost_interrupt",
        two_disks,
    ),
    inside("a_disc_is_read_and_read_only_and_overlay_keep_files", kinds),
    inside("linux_recovers_from_a_host_bus_error", bus_error),
    inside("a_file_that_shrinks_gives_io_errors", shrunk),
    inside("a_48_bit_dma_request_costs_at_most_21_exits", cost),
    Case {
        name: "bad_images_are_refused_before_anything_starts",
        needs: &[],
        run: refusals,
    },
    Case {
        name: "an_image_in_use_is_refused",
        needs: &[Need::Kvm],
        run: in_use,
    },
];

/// From the machine itself: the lab is part of what is tested.
const fn outside(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Lab, Need::Kernel],
        run,
    }
}

const fn inside(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

/// Drivers of disks that stock kernels have as modules.
const MODULES: [&str; 6] = [
    "--module", "ata_piix", "--module", "sd_mod", "--module", "ext4",
];

/// Debian's stock kernel: its cloud flavour has no driver for IDE.
fn kernel() -> Kernel {
    let all = Cache::from_env().and_then(|cache| cache.list());
    let mut all = all.expect("kernels").into_iter();
    let stock = all.find(|kernel| kernel.flavour.as_deref() == Some("debian"));
    stock.expect("trapline kernel get debian")
}

/// An ext4 image of `mib` MiB.
fn image(dir: &Path, name: &str, mib: u64) -> PathBuf {
    let path = dir.join(name);
    let file = File::create(&path).expect("a file");
    file.set_len(mib << 20).expect("room");
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&path)
        .status();
    assert!(made.expect("e2fsprogs").success());
    path
}

/// Whether the filesystem in `image` is in order, after its journal was replayed.
#[track_caller]
fn check(image: &Path) {
    let mut replay = Command::new("e2fsck");
    replay.arg("-p").arg(image).stdin(Stdio::null());
    let replayed = finish(replay);
    assert!(matches!(replayed.status, Some(0 | 1)), "{replayed:?}");
    let mut whole = Command::new("e2fsck");
    whole.arg("-fn").arg(image).stdin(Stdio::null());
    finish(whole).ends(0);
}

/// A file in an ext4 image.
fn file_in(image: &Path, name: &str, scratch: &Path) -> Vec<u8> {
    let out = scratch.join("dumped");
    let _ = fs::remove_file(&out);
    let request = format!("dump {name} {}", out.display());
    let mut debugfs = Command::new("debugfs");
    debugfs.args(["-R", &request]).arg(image);
    finish(debugfs);
    fs::read(out).unwrap_or_default()
}

/// No driver has given up on a drive for a while.
#[track_caller]
fn no_complaints(run: &Run) {
    for words in [
        "lost interrupt",
        "exception Emask",
        "I/O error",
        "qc timeout",
        "frozen",
    ] {
        assert!(!run.stdout.contains(words), "{words:?} in\n{}", run.stdout);
    }
}

/// `trapline boot`, wherever it takes the guest; made again after what QEMU 7.2 spoils.
fn anywhere(arguments: &[&str], prepare: impl Fn() -> PathBuf) -> (Run, PathBuf) {
    for last in [false, false, true] {
        let image = prepare();
        let mut trapline = Command::new(TRAPLINE);
        trapline.args(["boot", &kernel().name, "--timeout", "900s", "--disk"]);
        trapline.arg(&image).args(MODULES).args(arguments);
        trapline.stdin(Stdio::null());
        let run = finish(trapline);
        if last || !run.is_spoiled() {
            return (run, image);
        }
    }
    unreachable!("the last run was returned");
}

fn filesystem() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let mib = lines(16 << 10);
    fs::write(dir.path().join("mib"), &mib).expect("a file");
    let file = format!("{}:/mib", dir.path().join("mib").display());
    let script = "mkdir /m && mount -t ext4 /dev/sda /m && \
         i=0; while [ $i -lt 256 ]; do cat /mib || exit 9; i=$((i + 1)); done > /m/big && \
         sync && echo all synced && umount /m";
    let (run, image) = anywhere(&["--file", &file, "--exec", script], || {
        image(dir.path(), "disk.img", 400)
    });
    run.ends(0).prints("all synced");
    no_complaints(&run);
    check(&image);
    let big = file_in(&image, "big", dir.path());
    assert_eq!(big.len(), 256 << 20);
    assert!(big.chunks(1 << 20).all(|chunk| chunk == mib.as_bytes()));
}

/// How many labs are killed: more with `TRAPLINE_CRASHES=50`.
fn crashes() -> u32 {
    let given = std::env::var("TRAPLINE_CRASHES").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// A process and all that come from it, by their numbers.
fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .filter_map(|word| word.parse().ok());
        found.extend(children.flat_map(family));
    }
    found
}

fn kill_family(child: &mut Child) {
    for pid in family(child.id()).into_iter().rev() {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = child.wait();
}

/// Kills the lab with everything in it while the guest writes; gives the last number that was synced.
fn kill_while_writing(image: &Path, delay: Duration) -> Option<u64> {
    const SCRIPT: &str = "mkdir /m && mount -t ext4 /dev/sda /m && cd /m || exit 9; \
         while :; do head -c 3000000 /dev/zero > noise; rm noise; done & \
         n=0; while :; do echo number $n > f$n && sync f$n && echo synced $n.; \
         n=$((n + 1)); done";
    let mut trapline = Command::new(TRAPLINE);
    trapline.args(["boot", &kernel().name, "-q", "--timeout", "300s", "--disk"]);
    trapline.arg(image).args(MODULES).args(["--exec", SCRIPT]);
    trapline
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = trapline.spawn().expect("trapline starts");
    let stdout = child.stdout.take().expect("piped");
    let (send, receive) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut last = None;
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let number = line.trim_end().strip_prefix("synced ");
            let number = number.and_then(|rest| rest.strip_suffix('.')?.parse().ok());
            if number.is_some() {
                last = number;
                let _ = send.send(());
            }
        }
        last
    });
    // The first one tells that the guest is at it; a guest that never comes is made again.
    if receive.recv_timeout(Duration::from_secs(240)).is_ok() {
        std::thread::sleep(delay);
    }
    kill_family(&mut child);
    reader.join().expect("a reader")
}

fn killed() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let (mut done, mut vain) = (0, 0);
    while done < crashes() {
        let image = image(dir.path(), "disk.img", 64);
        let delay = Duration::from_millis(300 + u64::from(done) * 370 % 2900);
        let Some(last) = kill_while_writing(&image, delay) else {
            vain += 1;
            assert!(vain <= 2 + done / 10, "guests do not come up");
            continue;
        };
        check(&image);
        for n in 0..=last {
            let text = file_in(&image, &format!("f{n}"), dir.path());
            assert_eq!(String::from_utf8_lossy(&text), format!("number {n}\n"));
        }
        done += 1;
    }
}

fn two_disks() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let images = ["a.img", "b.img"].map(|name| image(dir.path(), name, 64));
    let disks: Vec<_> = images
        .iter()
        .map(|image| image.display().to_string())
        .collect();
    fs::write(dir.path().join("part"), lines(32 << 10)).expect("a file");
    let file = format!("{}:/part", dir.path().join("part").display());
    let script = "mkdir /a /b && mount -t ext4 /dev/sda /a && mount -t ext4 /dev/sdb /b; \
         end=$(($(cut -d. -f1 /proc/uptime) + 60)); \
         work() { n=0; while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do \
             cp /part $1/f && sync $1/f && echo 3 > /proc/sys/vm/drop_caches && \
             cmp /part $1/f || exit 9; n=$((n + 1)); done; echo $1 $n rounds; }; \
         work /a & one=$!; work /b && wait $one && umount /a /b && echo both done";
    let arguments = [
        &kernel().name,
        "-c",
        "2",
        "--timeout",
        "600s",
        "--disk",
        &disks[0],
        "--disk",
        &disks[1],
        "--file",
        &file,
        "--exec",
        script,
    ];
    let run = tried(arguments.iter().chain(&MODULES));
    run.ends(0).prints("both done").prints(" rounds");
    no_complaints(&run);
    for image in images {
        check(&image);
        assert_eq!(file_in(&image, "f", dir.path()), lines(32 << 10).as_bytes());
    }
}

fn kinds() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = image(dir.path(), "disk.img", 16);
    let before = fs::read(&image).expect("an image");
    let disc = dir.path().join("disc.iso");
    fs::write(&disc, disc_image()).expect("a disc");
    let disk = |options: &str| format!("{},{options}", image.display());
    let (ro, overlay) = (disk("ro"), disk("overlay"));
    // Linux probes its disks side by side, and names them as they come.
    let script = "disk() { echo /dev/$(basename /sys/bus/pci/devices/0000:00:01.1/ata1/host*/target*:0:$1/*/block/*); }; \
         a=$(disk 0); b=$(disk 1); mkdir /a /b /c; mount -t ext4 -o ro,noload $a /a && ls /a && \
         echo read-only disk mounted; dd if=/dev/zero of=$a bs=4096 count=1 conv=fsync || \
         echo write refused; mount -t ext4 $b /b && echo kept > /b/f && sync && \
         umount /b && mount -t ext4 $b /b && cat /b/f && umount /b; \
         mount -t iso9660 -o ro /dev/sr0 /c && cat /c/hello.txt && echo disc read";
    let disc = disc.display().to_string();
    let arguments = [
        &kernel().name,
        "--timeout",
        "300s",
        "--disk",
        &ro,
        "--disk",
        &overlay,
        "--cdrom",
        &disc,
        "--module",
        "sr_mod",
        "--module",
        "isofs",
        "--exec",
        script,
    ];
    let run = tried(arguments.iter().chain(&MODULES));
    run.ends(0)
        .prints("read-only disk mounted")
        .prints("write refused")
        .prints("kept")
        .prints(DISC_FILE)
        .prints("disc read");
    assert!(
        fs::read(&image).expect("an image") == before,
        "the file changed"
    );
}

/// Without its Bus Master bit the function reaches no memory.
fn bus_error() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = image(dir.path(), "disk.img", 16);
    let script = "config=/sys/bus/pci/devices/0000:00:01.1/config; \
         command() { printf $1 | dd of=$config bs=1 seek=4 conv=notrunc 2>/dev/null; }; \
         dd if=/dev/sda of=/one bs=4096 count=16; \
         command '\\001'; echo 3 > /proc/sys/vm/drop_caches; \
         dd if=/dev/sda of=/two bs=4096 count=16 || echo given up; \
         command '\\005'; echo 3 > /proc/sys/vm/drop_caches; \
         dd if=/dev/sda of=/two bs=4096 count=16; cmp /one /two && echo recovered";
    let image = image.display().to_string();
    let arguments = [
        &kernel().name,
        "--timeout",
        "300s",
        "--disk",
        &image,
        "--exec",
        script,
    ];
    let run = tried(arguments.iter().chain(&MODULES));
    run.ends(0)
        .prints("host bus error")
        .prints("given up")
        .prints("recovered");
}

/// Of requests beyond what 28 bits address: all accesses to the drive's and the controller's registers, and
/// those that leave KVM when it collects writes.
fn cost() {
    const REQUESTS: u64 = 1000;
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = dir.path().join("large.img");
    let file = File::create(&image).expect("a file");
    file.set_len(200 << 30).expect("a sparse file");
    let report = dir.path().join("report");
    let [image, report] = [image, report].map(|path| path.display().to_string());
    let counts = |requests: u64| {
        let script = format!(
            "dd if=/dev/sda of=/dev/null bs=4096 iflag=direct skip=40000000 count={requests}"
        );
        let arguments = [
            &kernel().name,
            "--append",
            "quiet",
            "--timeout",
            "300s",
            "--json",
            &report,
            "--disk",
            &image,
            "--exec",
            &script,
        ];
        tried(arguments.iter().chain(&MODULES)).ends(0);
        let report = fs::read(&report).expect("a report");
        let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
        let counts = &report["counts"];
        let drive = &counts["devices"]["piix3-ide"];
        let number = |value: &serde_json::Value| value.as_u64().expect("a number");
        let accesses = number(&drive["reads"]) + number(&drive["writes"]);
        (accesses, number(&counts["exits"]["pio"]))
    };
    let (none, some) = (counts(0), counts(REQUESTS));
    let accesses = some.0.abs_diff(none.0) as f64 / REQUESTS as f64;
    let exits = some.1.abs_diff(none.1) as f64 / REQUESTS as f64;
    println!("a request: {accesses:.2} accesses, {exits:.2} exits");
    // A tenth for what a boot does now and then.
    assert!((20.0..31.1).contains(&accesses), "{accesses} accesses");
    assert!((10.0..21.1).contains(&exits), "{exits} exits");
}

fn shrunk() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let image = image(dir.path(), "disk.img", 16);
    let script = "dd if=/dev/sda of=/dev/null bs=4096 count=4 && echo ready; sleep 10; \
         dd if=/dev/sda of=/dev/null bs=4096 skip=2000 count=1 || echo cannot read; \
         dd if=/dev/zero of=/dev/sda bs=4096 seek=2000 count=1 conv=fsync || echo cannot write";
    let mut trapline = command([&kernel().name, "--timeout", "300s", "--disk"]);
    trapline.arg(&image).args(MODULES).args(["--exec", script]);
    trapline.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = trapline.spawn().expect("trapline starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("ready\n") && !said.contains("ready\r") {
        let read = stdout.read_line(&mut said).expect("text");
        assert!(read > 0, "{said}");
    }
    let file = File::options().write(true).open(&image).expect("the image");
    file.set_len(1 << 20).expect("cut");
    stdout.read_to_string(&mut said).expect("text");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(0), "{said}");
    said += &String::from_utf8_lossy(&output.stderr);
    for words in [
        "cannot read",
        "cannot write",
        "error: { UNC }",
        "status: { DRDY DF }",
        "the file has shrunk",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    assert_eq!(fs::metadata(&image).expect("there").len(), 1 << 20);
}

fn refusals() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (name, len) in [("empty", 0), ("odd", 1000), ("good", 4096)] {
        let file = File::create(dir.path().join(name)).expect("a file");
        file.set_len(len).expect("room");
    }
    let refused = |arguments: &[&str], words: &str| {
        boot(["--print-board"].iter().chain(arguments))
            .ends(64)
            .says(words);
    };
    let (empty, odd, good) = (path("empty"), path("odd"), path("good"));
    refused(&["--disk", &path("none")], "No such file");
    refused(&["--disk", &empty], "truncate -s 1G");
    refused(&["--disk", &odd], "not a multiple of 512");
    refused(
        &["--disk", dir.path().to_str().expect("text")],
        "no disk image",
    );
    refused(&["--disk", &format!("{good},rw")], "it has: ro, overlay");
    refused(&["--cdrom", &good], "not an image of a CD or DVD");
    refused(&["--disk", &good, "--disk", &good], "in use");
    let shared = format!("{good},overlay");
    let five: Vec<_> = (0..5).flat_map(|_| ["--disk", &shared]).collect();
    refused(&five, "5 disks and discs are more than");
    boot(["--print-board"].iter().chain(&five[2..]).copied()).ends(0);
}

fn in_use() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("disk.img");
    let mut file = File::create(&path).expect("a file");
    file.seek(SeekFrom::Start(4095)).expect("seeks");
    file.write_all(&[0]).expect("room");
    let disk = path.to_str().expect("text");
    let mut trapline = command([":hang", "--hang", "0s", "--disk", disk, "-q"]);
    trapline.args(["--timeout", "60s"]);
    trapline.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut holder = trapline.spawn().expect("trapline starts");
    let mut first = [0];
    let stdout = holder.stdout.as_mut().expect("piped");
    stdout.read_exact(&mut first).expect("it prints");
    let run = boot([":hello", "--disk", disk]);
    let _ = holder.kill();
    let _ = holder.wait();
    run.ends(64).says("in use by another Trapline");
    boot([":hello", "--disk", disk]).ends(0);
}
