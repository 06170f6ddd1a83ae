//! Time as devices see it. Nothing in a device calls the host's clock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Nanoseconds since the machine was built, not counting pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ns(pub u64);

/// A source of guest time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Time since the machine was built, never going back.
    fn now(&self) -> Ns;
    /// Wall-clock time, in nanoseconds since 1970: what a battery-backed clock shows.
    fn wall(&self) -> u64;
}

/// The host's monotonic clock, which can be stopped while the machine is paused.
#[derive(Debug)]
pub struct HostClock {
    born: Instant,
    /// Nanoseconds spent stopped, up to the last resume.
    stopped: AtomicU64,
    /// When it was stopped, in nanoseconds since `born`, plus one; zero when it runs.
    stopped_at: AtomicU64,
}

impl HostClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            born: Instant::now(),
            stopped: AtomicU64::new(0),
            stopped_at: AtomicU64::new(0),
        }
    }

    fn raw(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Stops guest time. Stopping twice is stopping once.
    pub fn stop(&self) {
        let now = self.raw().saturating_add(1);
        let _ = self
            .stopped_at
            .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Lets guest time go on from where it stopped.
    pub fn start(&self) {
        let at = self.stopped_at.load(Ordering::Acquire);
        if at != 0 {
            let gone = self.raw().saturating_sub(at.saturating_sub(1));
            self.stopped.fetch_add(gone, Ordering::AcqRel);
            self.stopped_at.store(0, Ordering::Release);
        }
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for HostClock {
    fn now(&self) -> Ns {
        let at = self.stopped_at.load(Ordering::Acquire);
        let raw = if at == 0 {
            self.raw()
        } else {
            at.saturating_sub(1)
        };
        Ns(raw.saturating_sub(self.stopped.load(Ordering::Acquire)))
    }

    fn wall(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves only when told.
#[derive(Debug, Default)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// Moves time forward.
    pub fn advance(&self, by: Ns) {
        self.0.fetch_add(by.0, Ordering::AcqRel);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Ns {
        Ns(self.0.load(Ordering::Acquire))
    }

    /// Starts at 2026-01-02 03:04:05 UTC.
    fn wall(&self) -> u64 {
        self.0
            .load(Ordering::Acquire)
            .saturating_add(1_767_323_045_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_clock_stands_still_and_goes_on_from_there() {
        let clock = HostClock::new();
        clock.stop();
        let stood = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(3));
        assert_eq!(clock.now(), stood);
        clock.start();
        assert!(clock.now().0 - stood.0 < 2_000_000, "the pause was counted");
    }
}
