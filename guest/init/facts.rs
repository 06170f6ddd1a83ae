//! What the console says of the machine before the job begins: one fact a line.

use std::fmt::Write as _;
use std::fs;

use crate::{say, sys};

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const UNKNOWN: &str = "unknown";

/// Functions that allocate a task's kernel stack, or into which compilers inline the one that does:
/// `alloc_thread_stack_node` (kernel/fork.c) asks for the memory in its caller's name.
const STACK_ALLOCATORS: [&str; 4] = [
    "alloc_thread_stack_node",
    "dup_task_struct",
    "copy_process",
    "kernel_clone",
];

/// In kernel/fork.c only under CONFIG_VMAP_STACK, and a callback, so it is never inlined.
const VMAP_STACK_SYMBOL: &str = " free_vm_stack_cache";

/// The first line: which kernel.
pub(crate) fn print_kernel() {
    let kernel = sys::kernel_release();
    say!("kernel {}", kernel.as_deref().unwrap_or(UNKNOWN));
}

/// The others: on which machine.
pub(crate) fn print_machine() {
    let mut text = String::new();
    let _ = writeln!(text, "cpus {} online", or_unknown(online_cpus()));
    let _ = writeln!(text, "memory {} MiB", or_unknown(memory_mib()));
    let _ = writeln!(
        text,
        "clocksource {} (available: {})",
        word(&format!("{CLOCK}/current_clocksource")),
        word(&format!("{CLOCK}/available_clocksource")),
    );
    let vmapped = match stacks_vmapped() {
        Some(true) => "yes",
        Some(false) => "no",
        None => UNKNOWN,
    };
    let _ = writeln!(text, "kernel stacks vmapped: {vmapped}");
    say!("{}", text.trim_end());
}

fn or_unknown(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.into(), |n| n.to_string())
}

fn word(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| UNKNOWN.into(), |text| text.trim().into())
}

fn online_cpus() -> Option<u64> {
    count_list(&fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

/// How many numbers a kernel list such as `0-3,7` holds.
fn count_list(list: &str) -> Option<u64> {
    let mut count = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

fn memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib >> 10)
}

/// Whether the stacks of kernel threads lie in vmalloc space. Every thread's stack is then an entry
/// of /proc/vmallocinfo. Without one the symbol table decides, which is slow to read and therefore
/// second.
fn stacks_vmapped() -> Option<bool> {
    let areas = fs::read_to_string("/proc/vmallocinfo").ok()?;
    if names_stack(&areas) {
        return Some(true);
    }
    let symbols = fs::read_to_string("/proc/kallsyms").ok()?;
    vmapped_by_symbols(&symbols)
}

fn names_stack(areas: &str) -> bool {
    areas
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter_map(|caller| caller.split_once('+'))
        .any(|(function, _)| STACK_ALLOCATORS.contains(&function))
}

/// A symbol table without any function of kernel/fork.c proves nothing.
fn vmapped_by_symbols(symbols: &str) -> Option<bool> {
    if symbols.contains(VMAP_STACK_SYMBOL) {
        return Some(true);
    }
    symbols.contains(" kernel_clone").then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_with_their_ranges() {
        assert_eq!(count_list("0\n"), Some(1));
        assert_eq!(count_list("0-3,7,9-10\n"), Some(7));
        assert_eq!(count_list("3-0"), None);
        assert_eq!(count_list(""), None);
    }

    #[test]
    fn a_stack_in_vmallocinfo_is_known_by_who_asked_for_it() {
        let stack = "0xffffc90000000000-0xffffc90000005000   20480 dup_task_struct+0x56/0x1a0 \
                     pages=4 vmalloc N0=4";
        let other = "0xffffc90000008000-0xffffc9000000a000    8192 hpet_enable+0x36/0x430 \
                     phys=0x00000000fed00000 ioremap";
        assert!(names_stack(&format!("{other}\n{stack}\n")));
        assert!(!names_stack(other));
        assert!(!names_stack(
            "0x0-0x5000   20480 0xffffffff81000000 pages=4 vmalloc"
        ));
    }

    #[test]
    fn symbols_decide_only_when_fork_is_among_them() {
        assert_eq!(vmapped_by_symbols("0 t free_vm_stack_cache\n"), Some(true));
        assert_eq!(vmapped_by_symbols("0 T kernel_clone\n"), Some(false));
        assert_eq!(vmapped_by_symbols(""), None);
    }
}
