//! SIGTERM, handed on to the boot under way: it ends in order, and this process after it.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use vmm_sys_util::signal::register_signal_handler;

static CHILD: AtomicI32 = AtomicI32::new(0);
static ASKED: AtomicBool = AtomicBool::new(false);

pub(super) extern "C" fn hand_on(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    ASKED.store(true, Ordering::Relaxed);
    if let Some(pid) = Pid::from_raw(CHILD.load(Ordering::Relaxed)) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// From now on SIGTERM ends the boot under way, and then there is no other.
///
/// # Errors
/// The error of sigaction(2).
pub fn hand_on_signals() -> io::Result<()> {
    Ok(register_signal_handler(libc::SIGTERM, hand_on)?)
}

/// Whether SIGTERM came.
pub(super) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Runs `wait` while `child` hears what this process hears.
pub(super) fn while_it_runs<T>(child: u32, wait: impl FnOnce() -> T) -> T {
    CHILD.store(i32::try_from(child).unwrap_or(0), Ordering::Relaxed);
    if asked() {
        // It came between the look before the start and the start.
        hand_on(libc::SIGTERM, std::ptr::null_mut(), std::ptr::null_mut());
    }
    let done = wait();
    CHILD.store(0, Ordering::Relaxed);
    done
}

#[cfg(test)]
pub(super) fn forget() {
    ASKED.store(false, Ordering::Relaxed);
}
