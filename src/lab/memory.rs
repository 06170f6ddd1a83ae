//! Whether this machine has the memory a lab is to get.

use std::fs;

use super::error::LabError;

/// Refuses what is not available: QEMU would start, and be killed in the middle of the work.
pub(super) fn check(bytes: u64) -> Result<(), LabError> {
    match fs::read_to_string("/proc/meminfo") {
        Ok(text) => compare(bytes, &text),
        // Without /proc there is nothing to refuse by.
        Err(_) => Ok(()),
    }
}

fn compare(bytes: u64, meminfo: &str) -> Result<(), LabError> {
    let Some(available) = available_kib(meminfo) else {
        return Ok(());
    };
    let asked = bytes.div_ceil(1 << 20);
    if bytes.div_ceil(1 << 10) > available {
        return Err(LabError::Memory {
            asked,
            available: available >> 10,
        });
    }
    Ok(())
}

/// `MemAvailable` of /proc/meminfo, in KiB.
fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n";

    #[test]
    fn what_is_available_may_be_taken_and_one_more_may_not() {
        assert!(compare(4 << 30, MEMINFO).is_ok());
        let text = compare((4 << 30) + 1, MEMINFO).unwrap_err().to_string();
        assert!(
            text.contains("4097 MiB") && text.contains("4096 MiB to spare"),
            "{text}"
        );
    }

    #[test]
    fn without_the_line_nothing_is_refused() {
        assert!(compare(u64::MAX, "MemTotal: 1 kB\n").is_ok());
    }
}
