//! How long a Linux guest takes from the start of the program to its init, beside QEMU: the machine `pc`
//! and the small one, `microvm`, with the same kernel, the same initramfs and the same KVM. Where this
//! machine's KVM boots no Linux, all of them run in one lab.
//!
//! `cargo bench --bench boot`. Ratios of one run: absolute times belong to the machine, and under TCG to its mood.

#[path = "common/place.rs"]
mod place;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use trapline::boot::initramfs::Initramfs;
use trapline::kernels::Cache;

use place::{TRAPLINE, where_linux_boots};

const ROUNDS: usize = 5;
/// The kernel's last line before it enters init (init/main.c).
const INIT: &str = "Run /init as init process";
const COMMAND_LINE: &str = "console=ttyS0 panic=-1";

/// One way to boot.
struct Contender {
    name: &'static str,
    command: fn(&Path, &Path) -> Command,
}

const CONTENDERS: [Contender; 3] = [
    Contender {
        name: "trapline",
        command: trapline,
    },
    Contender {
        name: "QEMU microvm",
        command: |kernel, initrd| qemu("microvm,accel=kvm,pit=on,pic=on,rtc=on", kernel, initrd),
    },
    Contender {
        name: "QEMU pc",
        command: |kernel, initrd| qemu("pc,accel=kvm", kernel, initrd),
    },
];

fn trapline(kernel: &Path, initrd: &Path) -> Command {
    let mut command = Command::new(TRAPLINE);
    command.args(["--in", "here", "-q", "boot"]).arg(kernel);
    command.args(["-m", "256", "--cmdline", COMMAND_LINE, "--initrd"]);
    command.arg(initrd);
    command
}

fn qemu(machine: &str, kernel: &Path, initrd: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
    command.args(["-no-reboot", "-serial", "stdio", "-cpu", "host"]);
    command.args(["-m", "256", "-append", COMMAND_LINE, "-M", machine]);
    command
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd);
    command
}

/// From the start to [`INIT`], if that is reached.
fn time(mut command: Command) -> Option<Duration> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let lines = BufReader::new(child.stdout.take()?).split(b'\n');
    let reached = lines
        .map_while(Result::ok)
        .any(|line| String::from_utf8_lossy(&line).contains(INIT));
    let took = start.elapsed();
    let _ = child.kill();
    let _ = child.wait();
    reached.then_some(took)
}

fn kernels() -> Vec<PathBuf> {
    let all = Cache::from_env().and_then(|cache| cache.list());
    let all = all.unwrap_or_default();
    let mut chosen = Vec::new();
    for flavour in ["tiny", "debian-cloud"] {
        if let Some(kernel) = all.iter().find(|k| k.flavour.as_deref() == Some(flavour)) {
            chosen.push(kernel.image.clone());
            chosen.extend(kernel.vmlinux.clone());
        }
    }
    chosen
}

fn compare(folder: &Path) {
    let initrd = folder.join("initrd");
    let mut archive = Initramfs::new();
    archive
        .dir("/dev", 0o755)
        .and_then(|archive| archive.node("/dev/console", 0o600, (5, 1)))
        .and_then(|archive| archive.file("/init", 0o755, b"#!/nothing\n"))
        .expect("an archive");
    std::fs::write(&initrd, archive.finish()).expect("room");
    for kernel in kernels() {
        // Read once before, so that nobody pays for a cold cache or a slow share.
        let copy = folder.join("kernel");
        std::fs::copy(&kernel, &copy).expect("room");
        let mut times = CONTENDERS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for (contender, times) in CONTENDERS.iter().zip(&mut times) {
                times.extend(time((contender.command)(&copy, &initrd)));
            }
        }
        println!("{}", kernel.display());
        let first = times.first().and_then(|t| t.iter().min()).copied();
        for (contender, times) in CONTENDERS.iter().zip(&mut times) {
            times.sort();
            let (Some(best), Some(middle)) = (times.first(), times.get(times.len() / 2)) else {
                println!("  {:<14} never reached init", contender.name);
                continue;
            };
            let ratio = first.map_or(f64::NAN, |first| best.as_secs_f64() / first.as_secs_f64());
            println!(
                "  {:<14} best {:.2} s, median {:.2} s, {} of {ROUNDS}; best beside Trapline's {ratio:.2}",
                contender.name,
                best.as_secs_f64(),
                middle.as_secs_f64(),
                times.len(),
            );
        }
    }
}

fn main() {
    where_linux_boots(compare);
}
