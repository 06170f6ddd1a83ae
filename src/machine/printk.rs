//! What a line of a Linux console means.
//!
//! The texts are those of kernel/panic.c, arch/x86/kernel/{dumpstack,traps,head64}.c,
//! arch/x86/mm/{fault,extable}.c, kernel/{watchdog,hung_task}.c, kernel/rcu/tree_stall.h, lib/bug.c
//! and mm/kasan/report.c, from 4.19 to 6.18.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use serde::Serialize;

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The kernel complains or waits, and goes on: WARN, stalls, lockups, hung tasks. A slow host
    /// makes some of these by itself.
    Warning,
    /// The kernel killed what it was doing, or found its memory corrupted.
    Oops,
    /// The kernel stopped.
    Panic,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Opens a report of this level.
    Alarm(Level),
    /// The first or a later headline of one `die()`: the kernel prints several before its trace.
    Die,
    /// The last line of a report.
    End,
    /// A kernel begins to speak.
    Banner,
}

/// A printk time stamp, in microseconds. It is read from the guest: any value may come.
pub(super) type Stamp = u64;

/// Splits `[    1.234567] text` and, with CONFIG_PRINTK_CALLER, `[    1.234567][    T1] text`, with
/// or without a `<n>` before it.
pub(super) fn split_stamp(line: &str) -> Option<(Stamp, &str)> {
    let line = strip_priority(line);
    let inside = line.strip_prefix('[')?;
    let (stamp, mut text) = inside.split_once(']')?;
    let (seconds, micros) = stamp.trim_start_matches(' ').split_once('.')?;
    // vsnprintf("[%5lu.%06lu]").
    if micros.len() != 6 || !all_digits(seconds) || !all_digits(micros) {
        return None;
    }
    let stamp = seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros.parse().ok()?)?;
    if let Some(caller) = text.strip_prefix('[')
        && let Some((caller, rest)) = caller.split_once(']')
        && let Some(id) = caller.trim_start_matches(' ').strip_prefix(['T', 'C'])
        && all_digits(id)
    {
        text = rest;
    }
    Some((stamp, text.strip_prefix(' ').unwrap_or(text)))
}

/// Every stamped text in a line: printk does not begin a new line when a program left one
/// unfinished.
pub(super) fn stamped(line: &str) -> impl Iterator<Item = (usize, Stamp, &str)> {
    line.match_indices('[').filter_map(move |(at, _)| {
        let (stamp, text) = split_stamp(line.get(at..)?)?;
        Some((at, stamp, text))
    })
}

/// Drops the `<n>` or `<n,...>` of a console that shows priorities.
pub(super) fn strip_priority(line: &str) -> &str {
    let strip = || {
        let (priority, rest) = line.strip_prefix('<')?.split_once('>')?;
        (priority.len() <= 3 && all_digits(priority)).then_some(rest)
    };
    strip().unwrap_or(line)
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// What the kernel's `text` means, its stamp removed. `certain` says that it is the kernel who
/// speaks; without it only texts count that no program prints by chance.
pub(super) fn meaning(text: &str, certain: bool) -> Option<Meaning> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| text.starts_with(p));
    if starts(&[
        "Kernel panic - not syncing: ",
        // Before printk works, through early_printk: these never have a stamp.
        "PANIC: early exception 0x",
        "PANIC: double fault, error_code: ",
        // The decompressor's last words.
        " -- System halted",
    ]) {
        return Some(Meaning::Alarm(Level::Panic));
    }
    if starts(&["---[ end "]) && text.contains("]---") {
        return Some(Meaning::End);
    }
    if is_die(text)
        || starts(&[
            "BUG: kernel NULL pointer dereference, address: ",
            "BUG: unable to handle ",
            "kernel BUG at ",
        ])
    {
        return Some(Meaning::Die);
    }
    if starts(&["BUG: KASAN: ", "BUG: KFENCE: ", "BUG: KMSAN: "]) {
        return Some(Meaning::Alarm(Level::Oops));
    }
    if starts(&["Linux version "]) {
        return Some(Meaning::Banner);
    }
    if !certain {
        return None;
    }
    if starts(&[
        "WARNING: ",
        "UBSAN: ",
        "BUG: sleeping function called from invalid context",
        "BUG: scheduling while atomic",
        "BUG: using ",
        "BUG: workqueue lockup",
        "watchdog: BUG: soft lockup",
        "NMI watchdog: BUG: soft lockup",
    ]) || (starts(&["watchdog: ", "NMI watchdog: "])
        && text.contains("Watchdog detected hard LOCKUP on cpu"))
        || is_stall(text)
        || is_hung_task(text)
    {
        return Some(Meaning::Alarm(Level::Warning));
    }
    // Bad page state, spinlock bad magic, a guard page that was hit, and what later versions add.
    starts(&["BUG: "]).then_some(Meaning::Alarm(Level::Oops))
}

/// The header of `__die()`: `Oops: 0002 [#1] PREEMPT SMP`, `invalid opcode: 0000 [#3] SMP`. The
/// four digits of an error code before the count are what no other text has.
fn is_die(text: &str) -> bool {
    let found = || {
        let (head, tail) = text.split_once(" [#")?;
        let (count, _) = tail.split_once(']')?;
        let (_, code) = head.rsplit_once(": ")?;
        Some(
            all_digits(count)
                && (4..=16).contains(&code.len())
                && code.bytes().all(|b| b.is_ascii_hexdigit()),
        )
    };
    found().unwrap_or(false)
}

/// `rcu: INFO: rcu_preempt self-detected stall on CPU`, `INFO: rcu_sched detected stalls on
/// CPUs/tasks:`.
fn is_stall(text: &str) -> bool {
    let text = text.strip_prefix("rcu: ").unwrap_or(text);
    text.starts_with("INFO: rcu_") && text.contains("detected") && text.contains("stall")
}

/// `INFO: task khugepaged:35 blocked for more than 120 seconds.`
fn is_hung_task(text: &str) -> bool {
    text.starts_with("INFO: task ") && text.contains(" blocked ") && text.contains(" seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_in_every_form_the_kernel_prints() {
        let table = [
            ("[    1.575025] Kernel", Some((1_575_025, "Kernel"))),
            ("[ 5653.173525] NMI", Some((5_653_173_525, "NMI"))),
            ("[123456.000001] x", Some((123_456_000_001, "x"))),
            (
                "[   36.991800][    T1] BUG: K",
                Some((36_991_800, "BUG: K")),
            ),
            ("[   36.991800][  C12] BUG: K", Some((36_991_800, "BUG: K"))),
            ("<4>[   19.990743] Oops", Some((19_990_743, "Oops"))),
            ("[    1.576157]  <TASK>", Some((1_576_157, " <TASK>"))),
            ("[    1.5] text", None),
            ("[  OK  ] Reached target", None),
            ("[141.993704 text", None),
            ("[99999999999999999999.000000] x", None),
            ("[18446744073709551615.999999] x", None),
            ("[-1.000000] x", None),
        ];
        for (line, expected) in table {
            assert_eq!(split_stamp(line), expected, "{line}");
        }
    }

    #[test]
    fn kernel_texts_have_their_meaning() {
        use Level::{Oops, Panic, Warning};
        use Meaning::{Alarm, Banner, Die, End};
        let table = [
            (
                "Kernel panic - not syncing: sysrq triggered crash",
                Some(Alarm(Panic)),
            ),
            (
                "PANIC: early exception 0x0e IP 10:ffffffffa96679b6 error 0 cr2 0x20",
                Some(Alarm(Panic)),
            ),
            ("PANIC: double fault, error_code: 0x0", Some(Alarm(Panic))),
            (
                "BUG: kernel NULL pointer dereference, address: 0000000000000010",
                Some(Die),
            ),
            (
                "BUG: unable to handle page fault for address: fffffe0000001ff8",
                Some(Die),
            ),
            ("Oops: 0010 [#1] PREEMPT SMP NOPTI", Some(Die)),
            (
                "general protection fault, probably for non-canonical address 0xdead000000000000: 0000 [#1] PREEMPT SMP NOPTI",
                Some(Die),
            ),
            (
                "Oops: general protection fault, probably for non-canonical address 0xff00000001000239: 0000 [#1] SMP PTI",
                Some(Die),
            ),
            ("invalid opcode: 0000 [#1] PREEMPT SMP NOPTI", Some(Die)),
            ("kernel BUG at lib/list_debug.c:56!", Some(Die)),
            ("stack segment: 0000 [#12] SMP", Some(Die)),
            (
                "BUG: KASAN: slab-out-of-bounds in copy_array+0x96/0x100",
                Some(Alarm(Oops)),
            ),
            (
                "BUG: Bad page state in process init  pfn:0b0f4",
                Some(Alarm(Oops)),
            ),
            (
                "BUG: TASK stack guard page was hit at 00000000a1d0c1b4",
                Some(Alarm(Oops)),
            ),
            (
                "BUG: sleeping function called from invalid context at mm/slab.h:256",
                Some(Alarm(Warning)),
            ),
            (
                "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [poweroff:965]",
                Some(Alarm(Warning)),
            ),
            (
                "NMI watchdog: Watchdog detected hard LOCKUP on cpu 10",
                Some(Alarm(Warning)),
            ),
            (
                "watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3",
                Some(Alarm(Warning)),
            ),
            (
                "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                Some(Alarm(Warning)),
            ),
            (
                "INFO: rcu_sched self-detected stall on CPU",
                Some(Alarm(Warning)),
            ),
            (
                "rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 0-... }",
                Some(Alarm(Warning)),
            ),
            (
                "INFO: task kworker/u8:1:34 blocked for more than 120 seconds.",
                Some(Alarm(Warning)),
            ),
            (
                "WARNING: CPU: 0 PID: 1 at kernel/smp.c:912 x+0x1/0x2",
                Some(Alarm(Warning)),
            ),
            ("---[ end trace 0000000000000000 ]---", Some(End)),
            (
                "---[ end Kernel panic - not syncing: sysrq triggered crash ]---",
                Some(End),
            ),
            (
                "Linux version 6.1.0-56-amd64 (debian-kernel@lists.debian.org)",
                Some(Banner),
            ),
            (
                "init[1]: segfault at 0 ip 0000000000401000 sp 00007ffe error 4 in x[401000+1000]",
                None,
            ),
            (
                "traps: a[7] general protection fault ip:401 sp:7ff error:0 in a[400000+1000]",
                None,
            ),
            ("note: init[1] exited with irqs disabled", None),
            ("Oops: I did it again [#1]", None),
        ];
        for (text, expected) in table {
            assert_eq!(meaning(text, true), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_speaker_must_be_unmistakable() {
        for text in [
            "WARNING: deprecated",
            "BUG: report this to me",
            "INFO: task a:1 blocked 3 seconds",
        ] {
            assert_eq!(meaning(text, false), None, "{text}");
        }
        assert_eq!(meaning("Oops: 0002 [#1] SMP", false), Some(Meaning::Die));
    }
}
