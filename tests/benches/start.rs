//! What a start costs: CPU time before the first KVM_RUN, and memory outside the guest's, for 128 MiB
//! and one vCPU. From reports (`--json`) of runs of the program itself: the best of them, but the mean of
//! user time, which the kernel only samples.
//!
//! The guest need not get far, so a kernel is measured on software KVM too, where it does not boot.

use std::path::Path;
use std::process::{Command, Stdio};

use trapline::kernels::Cache;

const RUNS: usize = 60;

/// Milliseconds of CPU and of user time before the first KVM_RUN, and KiB of Pss outside the guest's
/// memory.
fn measure(what: &str, report: &Path) -> Option<(f64, f64, u64)> {
    Command::new(env!("CARGO_BIN_EXE_trapline"))
        .args([
            "--in",
            "here",
            "-q",
            "boot",
            what,
            "-m",
            "128",
            "--timeout",
            "500ms",
            "--hang",
            "0s",
            "--json",
        ])
        .arg(report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report).ok()?).ok()?;
    let first = json["timeline"]
        .as_array()?
        .iter()
        .find(|mark| mark["step"] == "first_run")?;
    Some((
        first["cpu_ms"].as_f64()?,
        first["user_ms"].as_f64()?,
        json["memory"]["own_kib"].as_u64()?,
    ))
}

fn main() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let report = folder.path().join("report.json");
    let mut guests = vec![":hang".to_owned()];
    let kernels = Cache::from_env()
        .and_then(|cache| cache.list())
        .unwrap_or_default();
    if let Some(kernel) = kernels
        .iter()
        .find(|k| k.flavour.as_deref() == Some("debian-cloud"))
    {
        guests.push(kernel.image.display().to_string());
        guests.extend(kernel.vmlinux.iter().map(|elf| elf.display().to_string()));
    }
    println!(
        "{:>10} {:>10} {:>10}  guest",
        "CPU ms", "user ms", "Pss KiB"
    );
    for guest in guests {
        let runs: Vec<_> = (0..RUNS).filter_map(|_| measure(&guest, &report)).collect();
        let cpu = runs.iter().map(|run| run.0).min_by(f64::total_cmp);
        let count = u32::try_from(runs.len()).map_or(f64::NAN, f64::from);
        let user = runs.iter().map(|run| run.1).sum::<f64>() / count;
        let pss = runs.iter().map(|run| run.2).min();
        match (cpu, pss) {
            (Some(cpu), Some(pss)) => println!("{cpu:>10.2} {user:>10.2} {pss:>10}  {guest}"),
            _ => println!(
                "{:>10} {:>10} {:>10}  {guest}: did not run here",
                "-", "-", "-"
            ),
        }
    }
    println!(
        "{:>10} {:>10} {:>10}  budget (design section 7)",
        "", "<= 5", "<= 4096"
    );
}
