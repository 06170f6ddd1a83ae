//! The CPU time this process has used.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::timeline::millis;

/// CPU time since the process began, all its threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CpuTime {
    /// In Trapline, the guest and the kernel.
    #[serde(rename = "cpu_ms", serialize_with = "millis")]
    pub total: Duration,
    /// In Trapline's own code. Most kernels tell it from theirs by ticks: of one short run it may be all
    /// or nothing, the mean of many runs is right.
    #[serde(rename = "user_ms", serialize_with = "millis")]
    pub user: Duration,
}

impl CpuTime {
    /// That of this process up to now.
    pub(super) fn now() -> Option<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        Some(Self {
            total: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).ok()?,
            user: duration(usage.user_time())?,
        })
    }
}

fn duration(time: TimeVal) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_adds_to_both() {
        let before = CpuTime::now().unwrap();
        let work = |end| (0..end).map(std::hint::black_box).sum::<u64>();
        while CpuTime::now().unwrap().user < before.user + Duration::from_millis(40) {
            std::hint::black_box(work(100_000));
        }
        let after = CpuTime::now().unwrap();
        assert!(after.total > before.total, "{before:?} {after:?}");
    }
}
