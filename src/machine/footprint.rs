//! How much memory Trapline itself takes: proportional set size outside the guest's memfd.

use serde::Serialize;

/// The name guest RAM has in /proc/self/smaps; `mem` gives it to memfd_create(2).
const GUEST: &str = "/memfd:trapline-ram";

/// Proportional set sizes in KiB. Huge pages are in neither: the kernel does not count them in Pss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Footprint {
    /// Trapline's own.
    pub own_kib: u64,
    /// The guest's memory that was touched.
    pub guest_kib: u64,
}

impl Footprint {
    /// This process's; none where /proc does not tell.
    #[must_use]
    pub fn now() -> Option<Self> {
        std::fs::read_to_string("/proc/self/smaps")
            .ok()
            .map(|smaps| Self::of(&smaps))
    }

    /// Sums up a smaps file (proc(5)): mappings begin with their range, their fields follow as
    /// `Name: N kB`.
    fn of(smaps: &str) -> Self {
        let mut sum = Self::default();
        let mut in_guest = false;
        for line in smaps.lines() {
            if let Some(kib) = line.strip_prefix("Pss:") {
                let kib = kib.trim().strip_suffix(" kB").and_then(|n| n.parse().ok());
                let to = if in_guest {
                    &mut sum.guest_kib
                } else {
                    &mut sum.own_kib
                };
                *to = to.saturating_add(kib.unwrap_or(0));
            } else if line
                .split(' ')
                .next()
                .is_some_and(|range| range.contains('-'))
            {
                in_guest = line.contains(GUEST);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Gpa, GuestRam, HugePages};

    #[test]
    fn guest_memory_is_told_from_our_own() {
        let smaps = "\
55d0c0a00000-55d0c0b00000 r-xp 00000000 08:01 42                   /usr/bin/trapline
Size:               1024 kB
Pss:                 300 kB
Pss_Dirty:             8 kB
7f0000000000-7f0008000000 rw-s 00000000 00:01 77                   /memfd:trapline-ram (deleted)
Pss:               65536 kB
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                    [stack]
Pss:                  20 kB
";
        let expected = Footprint {
            own_kib: 320,
            guest_kib: 65536,
        };
        assert_eq!(Footprint::of(smaps), expected);
    }

    #[test]
    fn touched_guest_memory_shows_up_as_the_guests() {
        let ram = GuestRam::new(16 << 20, HugePages::None).unwrap();
        let before = Footprint::now().unwrap();
        for page in 0..2048 {
            ram.write(Gpa(page * 4096), &[1]).unwrap();
        }
        let after = Footprint::now().unwrap();
        // Other tests' memory comes and goes meanwhile; they touch little.
        assert!(
            after.guest_kib >= before.guest_kib + 4096,
            "{before:?} {after:?}"
        );
    }
}
