//! Signals of the outer process, as bytes in a pipe.

use std::ffi::{c_int, c_void};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::pipe::{PipeFlags, pipe_with};
use vmm_sys_util::signal::register_signal_handler;

/// The end handlers write to and the end [`next`] reads. Made once: handlers stay for good.
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// Signals that concern a command in the lab, or its terminal. Not SIGTSTP: what stops is this
/// process, and the lab waits for its streams.
const FORWARDED: [c_int; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGWINCH,
    libc::SIGCONT,
];

extern "C" fn note(number: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    if let (Some((_, to)), Ok(byte)) = (PIPE.get(), u8::try_from(number)) {
        // A full pipe holds thousands of unread signals; one more would change nothing.
        let _ = rustix::io::write(to, &[byte]);
    }
}

/// From now on signals are noted instead of acted on; gives the pipe to wait on.
pub(super) fn catch() -> io::Result<&'static OwnedFd> {
    if PIPE.get().is_none() {
        let _ = PIPE.set(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?);
    }
    let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
    for number in FORWARDED {
        // `nohup` and a shell's `&` have said that these are not for us.
        if ignored >> (number - 1) & 1 == 0 {
            register_signal_handler(number, note)?;
        }
    }
    PIPE.get()
        .map(|(from, _)| from)
        .ok_or(io::ErrorKind::NotFound.into())
}

/// Takes the next noted signal.
pub(super) fn next(from: &OwnedFd) -> Option<u8> {
    let mut byte = [0];
    (rustix::io::read(from, &mut byte).ok()? == 1).then_some(byte[0])
}

/// `SigIgn` of /proc/PID/status: a hexadecimal mask, signal 1 in bit 0.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_as_the_kernel_writes_it() {
        let mask = ignored("Name:\tx\nSigBlk:\t00\nSigIgn:\t0000000000001001\n");
        assert_eq!(mask >> (libc::SIGHUP - 1) & 1, 1);
        assert_eq!(mask >> (libc::SIGPIPE - 1) & 1, 1);
        assert_eq!(mask >> (libc::SIGINT - 1) & 1, 0);
        assert_eq!(ignored(""), 0);
    }
}
