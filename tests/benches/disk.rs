//! A disk under Linux's own ata_piix: sequential MB/s and 4 KiB requests per second, beside the same work
//! done on the file directly and beside QEMU's piix3-ide under the same KVM. Where this machine's KVM boots no
//! Linux, all of it runs in one lab.
//!
//! `cargo bench --bench disk`. Ratios of one run.

#[path = "common/place.rs"]
mod place;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use trapline::boot::initramfs::Initramfs;
use trapline::kernels::{Cache, Kernel, modules};

use place::{TRAPLINE, where_linux_boots};

const BUSYBOX: &str = "/bin/busybox";
const DISK: u64 = 256 << 20;
const ROUNDS: usize = 3;

/// What is done: its name, the bytes moved, the requests it takes when there is one per block.
const WORK: [(&str, u64, u64, &str); 4] = [
    (
        "write 64 MiB",
        64 << 20,
        0,
        "if=/dev/zero of=FILE bs=1M count=64 conv=notrunc,fsync DIRECT_OUT",
    ),
    (
        "read 64 MiB",
        64 << 20,
        0,
        "if=FILE of=/dev/null bs=1M count=64 DIRECT_IN",
    ),
    (
        "write 4 KiB",
        2000 << 12,
        2000,
        "if=/dev/zero of=FILE bs=4k count=2000 conv=notrunc,fsync DIRECT_OUT",
    ),
    (
        "read 4 KiB",
        2000 << 12,
        2000,
        "if=FILE of=/dev/null bs=4k count=2000 DIRECT_IN",
    ),
];

/// A script that does the work on `file` and prints a line of hundredths of a second for each.
fn script(file: &str, direct: bool) -> String {
    let (output, input) = match direct {
        true => ("oflag=direct", "iflag=direct"),
        false => ("", ""),
    };
    let mut script =
        String::from("now() { read up rest < /proc/uptime; echo ${up%.*}${up#*.}; }\n");
    for (n, (.., operands)) in WORK.iter().enumerate() {
        let operands = operands
            .replace("FILE", file)
            .replace("DIRECT_OUT", output)
            .replace("DIRECT_IN", input);
        script += &format!(
            "a=$(now); dd {operands} 2>/dev/null || echo failed {n}; echo took {n} $(($(now) - a))\n"
        );
    }
    script
}

/// Hundredths of a second by number of the work.
fn times(said: &str) -> BTreeMap<usize, u64> {
    let lines = said.lines().filter_map(|line| {
        let mut words = line.trim().strip_prefix("took ")?.split(' ');
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    });
    lines.collect()
}

fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    String::from_utf8_lossy(&output.map(|o| o.stdout).unwrap_or_default()).into_owned()
}

/// Modules, busybox and a script.
fn initramfs(kernel: &Kernel) -> Vec<u8> {
    let mut archive = Initramfs::new();
    let mut init = String::from(
        "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n\
         mount -t proc none /proc; mount -t devtmpfs none /dev\n",
    );
    for directory in ["/bin", "/dev", "/proc", "/modules"] {
        archive.dir(directory, 0o755).expect("a folder");
    }
    archive
        .node("/dev/console", 0o600, (5, 1))
        .and_then(|a| a.file(BUSYBOX, 0o755, &fs::read(BUSYBOX).expect("busybox-static")))
        .expect("room");
    for module in modules::resolve(kernel, &["ata_piix", "sd_mod"]).expect("modules") {
        let path = format!("/modules/{}.ko", module.name);
        let bytes = module.bytes().expect("a module");
        archive.file(&path, 0o644, &bytes).expect("room");
        init += &format!("insmod {path}\n");
    }
    init += "until [ -e /dev/sda ]; do sleep 0.1; done; sleep 1\n";
    init += &script("/dev/sda", true);
    init += "poweroff -f\n";
    archive.file("/init", 0o755, init.as_bytes()).expect("room");
    archive.finish()
}

const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet";

fn trapline(kernel: &Path, initrd: &Path, image: &Path) -> Command {
    let mut command = Command::new(TRAPLINE);
    command.args(["--in", "here", "-q", "boot"]).arg(kernel);
    command.args(["-m", "256", "--cmdline", COMMAND_LINE, "--timeout", "300s"]);
    command.arg("--initrd").arg(initrd).arg("--disk").arg(image);
    command
}

fn qemu(kernel: &Path, initrd: &Path, image: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["300", "qemu-system-x86_64", "-nodefaults", "-no-reboot"]);
    command.args(["-no-user-config", "-display", "none", "-serial", "stdio"]);
    command.args(["-M", "pc,accel=kvm", "-cpu", "host", "-m", "256"]);
    command
        .args(["-append", COMMAND_LINE, "-kernel"])
        .arg(kernel);
    command.arg("-initrd").arg(initrd).arg("-drive");
    command.arg(format!("file={},format=raw,if=ide", image.display()));
    command
}

fn directly(image: &Path) -> Command {
    let mut command = Command::new(BUSYBOX);
    let script = script(&image.display().to_string(), false);
    command.args(["sh", "-c"]).arg(script);
    command
}

fn compare(folder: &Path) {
    let all = Cache::from_env().and_then(|cache| cache.list());
    let mut all = all.unwrap_or_default().into_iter();
    let kernel = all.find(|kernel| kernel.flavour.as_deref() == Some("debian"));
    let kernel = kernel.expect("trapline kernel get debian");
    let (copy, initrd) = (folder.join("kernel"), folder.join("initrd"));
    fs::copy(&kernel.image, &copy).expect("room");
    fs::write(&initrd, initramfs(&kernel)).expect("room");
    let image = folder.join("disk.img");
    let file = File::create(&image).expect("a file");
    file.set_len(DISK).expect("room");

    let mut best: [BTreeMap<usize, u64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let commands = [
            trapline(&copy, &initrd, &image),
            qemu(&copy, &initrd, &image),
            directly(&image),
        ];
        for (best, command) in best.iter_mut().zip(commands) {
            for (n, took) in times(&output(command)) {
                let best = best.entry(n).or_insert(took);
                *best = took.min(*best).max(1);
            }
        }
    }
    println!(
        "{:<14} {:>16} {:>16} {:>16} {:>10} {:>10}",
        "", "Trapline", "QEMU piix3-ide", "the file", "T / QEMU", "T / file"
    );
    for (n, (name, bytes, requests, _)) in WORK.iter().enumerate() {
        let speed = best.each_ref().map(|best| {
            let hundredths = best.get(&n).copied();
            let amount = if *requests > 0 {
                *requests
            } else {
                bytes >> 20
            };
            hundredths.map(|h| 100.0 * u32::try_from(amount).map_or(f64::NAN, f64::from) / h as f64)
        });
        let unit = if *requests > 0 { "/s" } else { "MiB/s" };
        let cell = |speed: Option<f64>| {
            speed.map_or_else(|| "failed".into(), |speed| format!("{speed:.0} {unit}"))
        };
        let ratio = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => format!("{:.2}", a / b),
            _ => "-".into(),
        };
        println!(
            "{name:<14} {:>16} {:>16} {:>16} {:>10} {:>10}",
            cell(speed[0]),
            cell(speed[1]),
            cell(speed[2]),
            ratio(speed[0], speed[1]),
            ratio(speed[0], speed[2]),
        );
    }
}

fn main() {
    where_linux_boots(compare);
}
