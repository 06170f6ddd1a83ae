//! Signals that end a run, turned into something the event loop can wait for.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH, c_int, c_void, siginfo_t};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::register_signal_handler;

/// Signals that came and were not taken, one bit each.
static PENDING: AtomicU64 = AtomicU64::new(0);
static WAKE: OnceLock<EventFd> = OnceLock::new();

/// The signals that end a run, and the one that tells of a new window size.
const WATCHED: [c_int; 5] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH];

/// Both calls are async-signal-safe: an atomic, and write(2).
extern "C" fn note(signal: c_int, _: *mut siginfo_t, _: *mut c_void) {
    if let Ok(bit) = u32::try_from(signal)
        && let Some(mask) = 1_u64.checked_shl(bit)
    {
        PENDING.fetch_or(mask, Ordering::SeqCst);
    }
    if let Some(wake) = WAKE.get() {
        let _ = wake.write(1);
    }
}

/// Watches the signals from now on; the descriptor is readable when one has come.
///
/// # Errors
/// The error of eventfd(2) or sigaction(2).
pub(super) fn watch() -> io::Result<&'static EventFd> {
    if WAKE.get().is_none() {
        // A second caller at the same time loses its descriptor, which nobody has seen yet.
        let _ = WAKE.set(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
    }
    for signal in WATCHED {
        register_signal_handler(signal, note)
            .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
    }
    WAKE.get()
        .ok_or_else(|| io::Error::other("no descriptor for signals"))
}

/// Takes the signals that came, lowest number first.
pub(super) fn take() -> impl Iterator<Item = c_int> {
    if let Some(wake) = WAKE.get() {
        let _ = wake.read();
    }
    let came = PENDING.swap(0, Ordering::SeqCst);
    (0..64).filter(move |bit| came >> bit & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_wakes_and_is_taken_once() {
        let wake = watch().unwrap();
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::WINCH).unwrap();
        // Delivered to some thread of this process before kill(2) returns, or soon after.
        while wake.read().is_err() {
            std::thread::yield_now();
        }
        assert_eq!(take().collect::<Vec<_>>(), [SIGWINCH]);
        assert_eq!(take().count(), 0);
    }
}
