//! The one timer behind every device's deadline.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::bus::{Clock, HostClock, Ns};

/// A timer that is only ever brought forward until it fires.
#[derive(Debug)]
pub struct DeadlineTimer {
    fd: OwnedFd,
    clock: Arc<HostClock>,
    /// When it fires, in guest time; `u64::MAX` when it does not.
    armed: AtomicU64,
}

impl AsRawFd for DeadlineTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl DeadlineTimer {
    /// A timer on `clock`, not armed.
    ///
    /// # Errors
    /// The error of timerfd_create(2).
    pub fn new(clock: Arc<HostClock>) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            fd,
            clock,
            armed: AtomicU64::new(u64::MAX),
        })
    }

    /// Fires at `at`, unless it fires earlier anyway. Called after every access to a device that
    /// waits for something, so the common case is one atomic load.
    pub fn arm(&self, at: Ns) {
        if at.0 >= self.armed.load(Ordering::Acquire) {
            return;
        }
        self.armed.store(at.0, Ordering::Release);
        // Zero would disarm it.
        let delay = at.0.saturating_sub(self.clock.now().0).max(1);
        let seconds = i64::try_from(delay / 1_000_000_000).unwrap_or(i64::MAX);
        let nanos = i64::try_from(delay % 1_000_000_000).unwrap_or(0);
        let once = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: seconds,
                tv_nsec: nanos,
            },
        };
        // Only a bad descriptor or a bad time can be refused, and neither can be here.
        let _ = timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once);
    }

    /// It fired: the next [`DeadlineTimer::arm`] arms it anew.
    pub fn fired(&self) {
        self.armed.store(u64::MAX, Ordering::Release);
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
    }
}
