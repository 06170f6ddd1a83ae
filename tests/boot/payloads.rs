//! Bare-metal guests: how a run ends, on any KVM.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use trapline::boot::payload;

use super::common::{Case, Need, TRAPLINE};
use super::{boot, command};

pub(crate) const CASES: &[Case] = &[
    kvm("every_payload_ends_as_the_listing_says", documented),
    kvm("edu_moves_bytes_and_interrupts_as_a_guest_asks", edu),
    kvm("post_codes_are_told_with_their_times", post_codes),
    kvm("a_guests_status_is_its_own_up_to_63", statuses),
    kvm("a_triple_fault_is_71_and_never_0", triple_fault),
    kvm("a_guest_that_spins_is_ended_by_the_time_limit", timeout),
    kvm("a_guest_that_spins_with_interrupts_off_is_found", hang),
    kvm("a_guest_that_resets_ends_or_starts_again", reset),
    kvm("all_cpus_start_up_to_the_last_xapic_id", all_cpus),
    kvm("a_piped_file_reaches_the_guest_whole", piped),
    kvm("output_to_a_pipe_is_not_lost_at_exit", flood),
    kvm("a_run_is_paused_looked_at_and_stopped_by_name", controlled),
    kvm("a_name_in_use_is_refused", named_twice),
    kvm("events_tell_every_exit", events),
    kvm("a_signal_ends_the_run_with_its_status", signalled),
];

const fn kvm(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

fn documented() {
    for payload in payload::all() {
        // Those that run for ever have tests of their own; echo wants input.
        if let payload::Ending::Status(status) = payload.ending
            && !["hang", "halt", "echo"].contains(&payload.name)
        {
            boot([format!(":{}", payload.name)]).ends(status.into());
        }
    }
}

fn edu() {
    let devices = ["--device", "edu", "--device", "edu,dma-mask=32"];
    let run = boot([":pci"].iter().chain(&devices));
    run.ends(0)
        .prints("device 3 function 0: 0x1234 0x11e8 class 0xff00");
    for what in ["liveness", "factorial", "DMA", "INTx", "MSI"] {
        let works = format!("edu: {what} works");
        assert_eq!(run.stdout.matches(&works).count(), 2, "{}", run.stdout);
    }
    // Its buffer is above what 12 bits reach, so its DMA goes astray, and the guest notices.
    boot([":pci", "--device", "edu,dma-mask=12"])
        .ends(1)
        .prints("edu: DMA FAILS")
        .prints("edu: MSI works");
}

fn post_codes() {
    let run = boot([":pci", "--post-codes", "-q"]);
    run.ends(0);
    let said = run.stderr.lines();
    let codes: Vec<(&str, f64)> = said
        .filter_map(|line| {
            line.strip_prefix("POST ")?
                .trim_end_matches(" ms")
                .split_once(' ')
        })
        .map(|(code, ms)| (code, ms.trim().parse().expect("milliseconds")))
        .collect();
    let found: Vec<&str> = codes.iter().map(|(code, _)| *code).collect();
    // One for each function, device and function number in one byte.
    assert!(found.starts_with(&["0x00", "0x08"]), "{}", run.stderr);
    assert!(codes.is_sorted_by(|a, b| a.1 <= b.1), "{}", run.stderr);
    assert!(!boot([":pci", "-q"]).stderr.contains("POST"));
}

fn statuses() {
    for (value, status) in [("0", 0), ("7", 7), ("63", 63), ("64", 63), ("300", 63)] {
        boot([":exit", "-a", value]).ends(status);
    }
}

fn triple_fault() {
    boot([":triple"]).ends(71).says("triple fault");
}

fn timeout() {
    boot([":hang", "--timeout", "1s"])
        .ends(72)
        .says("timed out after 1s");
}

fn hang() {
    boot([":hang", "--hang", "2s", "--timeout", "60s"])
        .ends(72)
        .says("hangs");
    boot([":halt", "--hang", "2s", "--timeout", "60s"])
        .ends(72)
        .says("hangs");
}

fn reset() {
    boot([":reset"]).ends(0);
    let again = boot([":reset", "--on-reboot", "reset", "--timeout", "2s"]);
    let starts = again.ends(72).stdout.lines().count();
    assert!(
        starts > 1,
        "the guest started {starts} times:\n{}",
        again.stdout
    );
}

fn all_cpus() {
    for cpus in [1, 2, 8, 255] {
        boot([":smp".into(), "-c".into(), cpus.to_string()])
            .ends(0)
            .prints(&format!("{cpus} of {cpus}"));
    }
    boot([":smp", "-c", "256"]).ends(64).says("x2APIC");
}

/// 60 KiB of lines, more than any FIFO or queue on the way holds.
fn piped() {
    let sent: String = (0..6000).map(|n| format!("line {n:4}\n")).collect();
    let mut child = command([":echo", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("trapline starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = sent.clone() + "q";
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let mut echoed = String::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut echoed)
        .expect("text");
    writer
        .join()
        .expect("no panic")
        .expect("the guest takes all");
    assert_eq!(child.wait().expect("waits").code(), Some(0));
    assert!(
        echoed.replace('\r', "").contains(&sent),
        "{} of {} bytes",
        echoed.len(),
        sent.len()
    );
}

fn flood() {
    let run = boot([":flood"]);
    assert!(
        run.ends(0).stdout.len() >= 64 * 1024,
        "{} bytes",
        run.stdout.len()
    );
}

/// Runs `:hang` under a name of this test until the closure is done.
fn while_it_runs(name: &str, look: impl FnOnce(&dyn Fn(&[&str]) -> String)) -> Option<i32> {
    let mut child = command([":hang", "--name", name])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("trapline starts");
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut first)
        .expect("the guest prints");
    look(&|words| {
        let mut ctl = std::process::Command::new(TRAPLINE);
        let output = ctl
            .args(["ctl", name, "--json"])
            .args(words)
            .output()
            .expect("ctl starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    child.wait().expect("waits").code()
}

fn controlled() {
    let status = while_it_runs("test-controlled", |ctl| {
        assert!(ctl(&["status"]).contains("running"));
        ctl(&["pause"]);
        assert!(ctl(&["status"]).contains("paused"));
        assert!(ctl(&["regs"]).contains("\"rip\""));
        ctl(&["resume"]);
        assert!(ctl(&["status"]).contains("running"));
        ctl(&["stop"]);
    });
    assert_eq!(status, Some(76));
}

fn named_twice() {
    let status = while_it_runs("test-twice", |ctl| {
        boot([":hello", "--name", "test-twice"])
            .ends(64)
            .says("test-twice is alive");
        ctl(&["stop"]);
    });
    assert_eq!(status, Some(76));
}

fn events() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("events");
    boot([":hello".as_ref(), "--events".as_ref(), file.as_os_str()]).ends(0);
    let text = std::fs::read_to_string(file).expect("events");
    let rows: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let first = rows.first().expect("rows");
    assert_eq!(
        (&first["event"], &first["step"]),
        (&"life".into(), &"start".into())
    );
    let written: String = rows
        .iter()
        .filter(|r| r["device"] == "serial" && r["address"] == "0x3f8" && r["direction"] == "write")
        .filter_map(|r| u32::from_str_radix(r["value"].as_str()?.trim_start_matches("0x"), 16).ok())
        .filter_map(char::from_u32)
        .collect();
    assert!(written.contains("hello"), "{written:?}");
    boot([":hello", "--events", "/dev/full"])
        .ends(74)
        .says("/dev/full");
}

fn signalled() {
    let mut child = command([":hang"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("trapline starts");
    let mut first = [0];
    child
        .stdout
        .as_mut()
        .expect("piped")
        .read_exact(&mut first)
        .expect("the guest prints");
    std::thread::sleep(Duration::from_millis(50));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is alive");
    assert_eq!(child.wait().expect("waits").code(), Some(143));
}
