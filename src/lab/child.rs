//! QEMU as a child process that cannot outlive this one.
#![expect(
    unsafe_code,
    reason = "only code between fork and exec can set a parent-death signal and keep descriptors"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Spawns `command` with the descriptors `keep`, in a process group of its own (so that a terminal's
/// Ctrl-C is not sent to it), to be killed when the calling thread ends.
pub(super) fn spawn(command: &mut Command, keep: Vec<OwnedFd>) -> io::Result<Child> {
    let parent = getpid();
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have gone before the signal was asked for.
        if getppid() != Some(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for fd in &keep {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    command.process_group(0).spawn()
}
