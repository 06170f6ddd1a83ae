//! The machine around it all.

use super::{Fact, Mark, Root, Topic};

/// What the lab takes besides the guest's own memory (design section 4), with a small guest in it.
const LAB_KIB: u64 = (1024 + 256) << 10;

/// Kernel, memory, huge pages.
#[must_use]
pub fn system(root: &Root) -> Vec<Fact> {
    let meminfo = root.text("/proc/meminfo").unwrap_or_default();
    vec![kernel(root), memory(&meminfo), huge_pages(&meminfo)]
}

fn kernel(root: &Root) -> Fact {
    let release = root.text("/proc/sys/kernel/osrelease");
    let what = release.map_or("unknown release".into(), |release| {
        format!("Linux {release}")
    });
    Fact::new(Topic::System, "kernel", Mark::Ok, what)
}

fn field(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

fn memory(meminfo: &str) -> Fact {
    let fact = |mark, what: String| Fact::new(Topic::System, "memory", mark, what);
    match field(meminfo, "MemAvailable") {
        None => fact(Mark::Warn, "/proc/meminfo has no MemAvailable".into()),
        Some(kib) if kib < LAB_KIB => fact(
            Mark::Warn,
            format!(
                "{} MiB available; the lab needs {} MiB",
                kib >> 10,
                LAB_KIB >> 10
            ),
        ),
        Some(kib) => fact(Mark::Ok, format!("{} MiB available", kib >> 10)),
    }
}

fn huge_pages(meminfo: &str) -> Fact {
    let (total, free) = (
        field(meminfo, "HugePages_Total"),
        field(meminfo, "HugePages_Free"),
    );
    let size = field(meminfo, "Hugepagesize").unwrap_or_default() >> 10;
    let fact = |mark, what: String| Fact::new(Topic::System, "huge pages", mark, what);
    match (total, free) {
        (None, _) => fact(Mark::Warn, "this kernel has none (CONFIG_HUGETLBFS)".into()),
        (Some(0), _) => fact(Mark::Ok, "none reserved: --hugepages needs some".into())
            .mended_by("sudo sysctl vm.nr_hugepages=256"),
        (Some(total), free) => {
            let free = free.unwrap_or_default();
            fact(Mark::Ok, format!("{free} of {total} of {size} MiB free"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const MEMINFO: &str = "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n\
                           HugePages_Total: 4\nHugePages_Free: 3\nHugepagesize: 2048 kB\n";

    #[test]
    fn meminfo_is_read_in_its_own_units() {
        let facts = system(&Fake::with_flags("").file("/proc/meminfo", MEMINFO).root());
        assert_eq!(facts[1].what, "4096 MiB available");
        assert_eq!(facts[2].what, "3 of 4 of 2 MiB free");
    }

    #[test]
    fn too_little_memory_for_the_lab_is_said() {
        let little = MEMINFO.replace("4194304", "1310719");
        let facts = system(&Fake::with_flags("").file("/proc/meminfo", &little).root());
        assert_eq!(facts[1].mark, Mark::Warn);
    }

    #[test]
    fn a_machine_without_proc_is_no_panic() {
        assert_eq!(system(&Fake::with_flags("").root()).len(), 3);
    }
}
