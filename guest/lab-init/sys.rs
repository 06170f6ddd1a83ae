//! The system calls the standard library has no name for, with safe signatures.
#![expect(
    unsafe_code,
    reason = "init has no dependencies: the C library is called directly"
)]

use std::ffi::{CString, c_char, c_int, c_long, c_short, c_ulong, c_void};
use std::fs::File;
use std::io::{self, Error};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `mount(2)` flags.
pub(crate) const READ_ONLY: c_ulong = 1;
/// No device files, no set-user-id: for shares.
pub(crate) const NO_DEVICES: c_ulong = 4;
/// Bind a path to another.
pub(crate) const BIND: c_ulong = 4096;
/// Move a mount.
pub(crate) const MOVE: c_ulong = 8192;

pub(crate) const SIGKILL: c_int = 9;
pub(crate) const POLLIN: c_short = 1;

const SYS_FINIT_MODULE: c_long = 313;
const SYS_SCHED_SETAFFINITY: c_long = 203;
const TIOCGPTN: c_ulong = 0x8004_5430;
const TIOCSPTLCK: c_ulong = 0x4004_5431;
const TIOCSWINSZ: c_ulong = 0x5414;
const TIOCSCTTY: c_ulong = 0x540e;
const SIOCGIFFLAGS: c_ulong = 0x8913;
const SIOCSIFFLAGS: c_ulong = 0x8914;
const RB_POWER_OFF: c_int = 0x4321_fedc;

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

#[repr(C)]
struct WinSize {
    rows: u16,
    columns: u16,
    pixels: [u16; 2],
}

/// `struct ifreq` with `ifr_flags`.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: c_short,
    rest: [u8; 22],
}

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    safe fn setsid() -> c_int;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    safe fn reboot(how: c_int) -> c_int;
    safe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(result)
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(Error::other)
}

/// `mount(2)`.
pub(crate) fn mount_at(
    source: &[u8],
    target: &[u8],
    kind: &str,
    flags: c_ulong,
    data: &str,
) -> io::Result<()> {
    let (source, target) = (c_string(source)?, c_string(target)?);
    let (kind, data) = (c_string(kind.as_bytes())?, c_string(data.as_bytes())?);
    // SAFETY: five arguments as mount(2) wants them; every pointer is a C string that outlives it.
    let result = unsafe {
        mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    };
    checked(result).map(drop)
}

/// `umount2(2)` without flags: what was written reaches the host before it returns.
pub(crate) fn unmount(target: &[u8]) -> io::Result<()> {
    let target = c_string(target)?;
    // SAFETY: a C string that outlives the call.
    checked(unsafe { umount2(target.as_ptr(), 0) }).map(drop)
}

/// `finit_module(2)`.
pub(crate) fn load_module(file: &File, parameters: &str) -> io::Result<()> {
    let parameters = c_string(parameters.as_bytes())?;
    // SAFETY: an open file, a C string and no flags; the kernel keeps none of them.
    let result = unsafe { syscall(SYS_FINIT_MODULE, file.as_raw_fd(), parameters.as_ptr(), 0) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// Keeps this thread, and what it starts, off the first `spare` processors (`sched_setaffinity(2)`).
pub(crate) fn keep_off_processors(spare: u32) -> io::Result<()> {
    let kept = !0u64 << spare.min(63);
    // More processors than QEMU's q35 has; the kernel drops those that are not there.
    let mut mask = [!0u64; 16];
    mask[0] = kept;
    // SAFETY: the calling thread, and length and pointer of a mask that outlives the call.
    let result = unsafe { syscall(SYS_SCHED_SETAFFINITY, 0, size_of_val(&mask), mask.as_ptr()) };
    if result < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// Names the machine.
pub(crate) fn name_host(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length of one string.
    checked(unsafe { sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Sets `IFF_UP` on an interface.
pub(crate) fn interface_up(name: &str) -> io::Result<()> {
    const AF_INET: c_int = 2;
    const SOCK_DGRAM: c_int = 2;
    const IFF_UP: c_short = 1;
    let socket = checked(socket(AF_INET, SOCK_DGRAM, 0))?;
    // SAFETY: fresh from socket(2), owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = InterfaceFlags {
        name: [0; 16],
        flags: 0,
        rest: [0; 22],
    };
    // One byte stays zero: the name is a C string.
    for (to, from) in request.name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: `request` is a whole struct ifreq (40 bytes on x86-64), which SIOCGIFFLAGS fills.
    checked(unsafe { ioctl(socket.as_raw_fd(), SIOCGIFFLAGS, &raw mut request) })?;
    request.flags |= IFF_UP;
    // SAFETY: as above; SIOCSIFFLAGS only reads it.
    checked(unsafe { ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) }).map(drop)
}

/// Unlocks the other side of a pty and gives its number in `/dev/pts`.
pub(crate) fn unlock_pty(master: &File) -> io::Result<u32> {
    let mut number = 0u32;
    let unlocked: c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, TIOCGPTN writes one.
    unsafe {
        checked(ioctl(master.as_raw_fd(), TIOCSPTLCK, &raw const unlocked))?;
        checked(ioctl(master.as_raw_fd(), TIOCGPTN, &raw mut number))?;
    }
    Ok(number)
}

/// Sets a terminal's size; its foreground group gets SIGWINCH when that changes it.
pub(crate) fn resize(terminal: &File, (rows, columns): (u16, u16)) -> io::Result<()> {
    let size = WinSize {
        rows,
        columns,
        pixels: [0; 2],
    };
    // SAFETY: `size` is a struct winsize.
    checked(unsafe { ioctl(terminal.as_raw_fd(), TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Makes `command` lead a session of its own; on a `terminal` that is its standard input, with that
/// as the controlling one.
pub(crate) fn lead_session(command: &mut Command, terminal: bool) {
    let lead = move || {
        checked(setsid())?;
        if terminal {
            // SAFETY: TIOCSCTTY takes a number, not a pointer.
            checked(unsafe { ioctl(0, TIOCSCTTY, 0 as c_ulong) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(lead) };
}

/// `kill(2)`; a group when negative, everybody but PID 1 when -1.
pub(crate) fn signal(pid: i32, number: c_int) {
    // That nobody is left to hear it is not an error.
    kill(pid, number);
}

/// Reaps whoever ended: its pid and wait status.
pub(crate) fn reap() -> io::Result<(i32, c_int)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = checked(unsafe { waitpid(-1, &raw mut status, 0) })?;
    Ok((pid, status))
}

/// Waits until one of two can be read or is hung up; says which.
pub(crate) fn wait_readable(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let mut fds = [a, b].map(|fd| PollFd {
        fd: fd.as_raw_fd(),
        events: POLLIN,
        revents: 0,
    });
    // SAFETY: two pollfd structures, and their count.
    checked(unsafe { poll(fds.as_mut_ptr(), 2, -1) })?;
    Ok((fds[0].revents != 0, fds[1].revents != 0))
}

/// Ends the machine.
pub(crate) fn power_off() -> ! {
    reboot(RB_POWER_OFF);
    loop {
        std::thread::park();
    }
}
