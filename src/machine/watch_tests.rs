//! Excerpts are from Debian's 6.1.0-56-amd64 on a serial console: `echo c > /proc/sysrq-trigger`,
//! an init that exits, no root, and a system call sent to address 0x10, to an invalid opcode and
//! into an endless loop.

use proptest::prelude::*;

use super::*;

const BANNER: &str =
    "[    0.000000] Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)\r\n";

const SYSRQ: &str = "\
init: up\r
[    1.574641] sysrq: Trigger a crash\r
[    1.575025] Kernel panic - not syncing: sysrq triggered crash\r
[    1.575223] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2\r
[    1.575579] Call Trace:\r
[    1.575956]  <TASK>\r
[    1.576366]  panic+0x118/0x2f4\r
[    1.576469]  sysrq_handle_crash+0x16/0x20\r
[    1.578275]  </TASK>\r
[    1.578604] Kernel Offset: disabled\r
";

const OOPS: &str = "\
init: up\r
[    1.673730] BUG: kernel NULL pointer dereference, address: 0000000000000010\r
[    1.675614] #PF: supervisor instruction fetch in kernel mode\r
[    1.675751] #PF: error_code(0x0010) - not-present page\r
[    1.675906] PGD 624e067 P4D 6250067 PUD 6251067 PMD 0 \r
[    1.676344] Oops: 0010 [#1] PREEMPT SMP NOPTI\r
[    1.676544] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2\r
[    1.676877] RIP: 0010:0x10\r
[    1.678550] Call Trace:\r
[    1.678870]  <TASK>\r
[    1.678962]  ? vfs_write+0x235/0x3f0\r
[    1.679794]  </TASK>\r
[    1.679854] Modules linked in:\r
[    1.680004] CR2: 0000000000000010\r
[    1.680213] ---[ end trace 0000000000000000 ]---\r
[    1.680311] RIP: 0010:0x10\r
[    1.681323] note: init[1] exited with irqs disabled\r
[    1.684054] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009\r
[    1.684453] Kernel Offset: disabled\r
";

const NO_ROOT: &str = "\
[    1.307317] List of all partitions:\r
[    1.307501] No filesystem could mount root, tried: \r
[    1.307511] \r
[    1.307668] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r
[    1.307918] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-56-amd64 #1  Debian 6.1.192-2\r
";

const STALL: &str = "\
init: up\r
[   22.548895] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\r
[   22.550882] \t(detected by 0, t=5252 jiffies, g=-935, q=15 ncpus=1)\r
[   22.551441] rcu: rcu_preempt kthread starved for 5251 jiffies! g-935 f0x2 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=0\r
[   22.551596] rcu: \tUnless rcu_preempt kthread gets sufficient CPU time, OOM is now expected behavior.\r
";

const USER: &str = "\
init: up\r
Segmentation fault\r
user: kernel panic is only a word here\r
WARNING: apt does not have a stable CLI interface.\r
Oops: something went wrong\r
BUG: report this to bugs@example.org\r
[  OK  ] Reached target Swap.\r
[    1.624269] ACPI: PM: Preparing to enter system sleep state S5\r
[    1.624804] reboot: Power down\r
";

fn sightings_of(chunks: &[&[u8]]) -> (Vec<String>, Watch) {
    let mut watch = Watch::new();
    let mut seen = Vec::new();
    let mut note = |sighting| {
        seen.push(match sighting {
            Sighting::Alarm(Alarm { level, line }) => format!("{level:?}: {line}"),
            Sighting::ReportEnds => "end".into(),
        });
    };
    for chunk in chunks {
        watch.feed(chunk, &mut note);
    }
    watch.finish(&mut note);
    (seen, watch)
}

fn sightings(log: &str) -> Vec<String> {
    sightings_of(&[log.as_bytes()]).0
}

#[test]
fn a_panic_is_seen_with_and_without_the_kernels_introduction() {
    let panic = ["Panic: Kernel panic - not syncing: sysrq triggered crash"];
    assert_eq!(sightings(SYSRQ), panic);
    assert_eq!(sightings(&format!("{BANNER}{SYSRQ}")), panic);
}

#[test]
fn an_oops_of_many_lines_is_one_and_a_panic_after_it_another() {
    let expected = [
        "Oops: BUG: kernel NULL pointer dereference, address: 0000000000000010",
        "end",
        "Panic: Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009",
    ];
    let (seen, watch) = sightings_of(&[BANNER.as_bytes(), OOPS.as_bytes()]);
    assert_eq!(seen, expected);
    assert_eq!(
        watch.counts(),
        AlarmCounts {
            warnings: 0,
            oopses: 1,
            panics: 1
        }
    );
}

#[test]
fn every_real_excerpt_has_its_verdict() {
    assert_eq!(
        sightings(&format!("{BANNER}{NO_ROOT}")),
        ["Panic: Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"]
    );
    assert_eq!(
        sightings(&format!("{BANNER}{STALL}")),
        ["Warning: rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"]
    );
    let invalid = "[    1.719402] invalid opcode: 0000 [#1] PREEMPT SMP NOPTI\n\
                   [    1.730442] ---[ end trace 0000000000000000 ]---\n";
    assert_eq!(
        sightings(&format!("{BANNER}{invalid}")),
        ["Oops: invalid opcode: 0000 [#1] PREEMPT SMP NOPTI", "end"]
    );
}

#[test]
fn what_programs_print_raises_no_alarm() {
    assert_eq!(sightings(USER), [""; 0]);
    let panics = "Kernel panic - not syncing: said a test\nOops: 0002 [#1] SMP\n";
    assert_eq!(sightings(&format!("{BANNER}{USER}{panics}")), [""; 0]);
}

#[test]
fn a_kernel_without_stamps_is_heard() {
    let unstamped: String = OOPS
        .lines()
        .map(|l| l.split_once("] ").map_or(l, |(_, text)| text))
        .fold("Linux version 6.1.0\n".into(), |log, line| {
            log + line + "\n"
        });
    assert_eq!(sightings(&unstamped), sightings(OOPS));
    assert_eq!(
        sightings("Linux version 6.1.0\nWARNING: CPU: 0 PID: 1 at x.c:1 f+0x0\n").len(),
        1
    );
}

#[test]
fn a_quoted_log_raises_nothing_twice() {
    let twice = format!("{BANNER}{OOPS}# dmesg\r\n{OOPS}{OOPS}");
    let once = sightings(&format!("{BANNER}{OOPS}"));
    let alarms = |log: &str| {
        let mut seen = sightings(log);
        seen.retain(|s| s != "end");
        seen.len()
    };
    assert_eq!(alarms(&twice), once.len() - 1);
    // grep puts a file name before the stamp.
    let grep =
        format!("{BANNER}[    9.000000] later\nlog:[    1.684054] Kernel panic - not syncing: x\n");
    assert_eq!(sightings(&grep), [""; 0]);
}

#[test]
fn a_second_oops_is_heard_even_when_the_first_never_ended() {
    let trace = "[    2.000000]  ? vfs_write+0x235/0x3f0\n".repeat(20);
    let log = format!(
        "{BANNER}[    1.000000] Oops: 0002 [#1] SMP\n{trace}[    3.000000] Oops: 0002 [#2] SMP\n"
    );
    assert_eq!(sightings(&log).len(), 2);
}

#[test]
fn a_kernel_line_behind_an_unfinished_one_is_heard() {
    let log = format!(
        "{BANNER}/ # echo c > [x[    1.575025] Kernel panic - not syncing: sysrq triggered crash\n"
    );
    assert_eq!(sightings(&log).len(), 1);
}

#[test]
fn an_exception_before_printk_works_is_a_panic() {
    let log = format!(
        "{BANNER}PANIC: early exception 0x0e IP 10:ffffffff9259f439 error 0 cr2 0xffffffffff240004\n"
    );
    assert_eq!(sightings(&log).len(), 1);
}

#[test]
fn the_last_line_counts_without_its_end() {
    assert_eq!(
        sightings("[    1.575025] Kernel panic - not syncing: x").len(),
        1
    );
}

#[test]
fn a_machine_that_starts_again_begins_a_new_log() {
    assert_eq!(
        sightings(&format!("{BANNER}{SYSRQ}{BANNER}{SYSRQ}")).len(),
        2
    );
}

#[test]
fn colours_and_carriage_returns_hide_nothing() {
    let log = "50%\r100%\r\x1b[0;31m[    1.575025] \x1b]0;title\x07Kernel panic - not syncing: x\x1b[0m\r\r\n";
    let (seen, watch) = sightings_of(&[log.as_bytes()]);
    assert_eq!(seen, ["Panic: Kernel panic - not syncing: x"]);
    assert_eq!(
        watch.last_lines(),
        ["[    1.575025] Kernel panic - not syncing: x"]
    );
}

#[test]
fn memory_is_bounded_and_the_last_lines_are_kept() {
    let mut watch = Watch::new();
    for n in 0..10_000 {
        watch.feed(format!("line {n} {}", "x".repeat(5000)).as_bytes(), |_| {});
        watch.feed(if n % 2 == 0 { b"\n" } else { b"\r\n" }, |_| {});
    }
    let last = watch.last_lines();
    assert_eq!(last.len(), LAST_LINES);
    assert!(last.iter().all(|l| l.len() <= LINE_MAX));
    assert!(last[LAST_LINES - 1].starts_with("line 9999 "));
}

proptest! {
    #[test]
    fn chunking_never_changes_the_verdict(
        cuts in prop::collection::vec(0_usize..2000, 0..40),
        parts in prop::collection::vec(prop::sample::select(vec![BANNER, SYSRQ, OOPS, NO_ROOT, STALL, USER, "\x1b[1m", "\r"]), 1..5),
    ) {
        let log = parts.concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % (log.len() + 1)).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([log.len()]) {
            chunks.push(&log.as_bytes()[from..cut]);
            from = cut;
        }
        let (cut_up, by_parts) = sightings_of(&chunks);
        let (whole, at_once) = sightings_of(&[log.as_bytes()]);
        prop_assert_eq!(cut_up, whole);
        prop_assert_eq!(by_parts.last_lines(), at_once.last_lines());
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let _ = sightings_of(&[&bytes]);
    }
}
