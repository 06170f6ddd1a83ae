//! System calls that `std` does not have, with safe signatures.
#![expect(
    unsafe_code,
    reason = "init has no dependencies: the C library is called directly"
)]

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

const SYS_FINIT_MODULE: c_long = 313;
const TCGETS: c_ulong = 0x5401;
const TCSETS: c_ulong = 0x5402;
const CBAUD: u32 = 0x100f;
const CRTSCTS: u32 = 0x8000_0000;
const TIOCSCTTY: c_ulong = 0x540e;
const TIOCSWINSZ: c_ulong = 0x5414;
const TCSBRK: c_ulong = 0x5409;
const RB_AUTOBOOT: c_int = 0x0123_4567;
const RB_POWER_OFF: c_int = 0x4321_fedc;
const UTS_FIELD: usize = 65;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn uname(name: *mut UtsName) -> c_int;
    fn mlock(start: *const c_void, len: usize) -> c_int;
    safe fn setsid() -> c_int;
    safe fn reboot(command: c_int) -> c_int;
    safe fn ioperm(from: c_ulong, count: c_ulong, on: c_int) -> c_int;
    #[link_name = "sync"]
    safe fn sync_all();
}

/// `struct new_utsname` of the kernel.
#[repr(C)]
struct UtsName {
    sysname: [u8; UTS_FIELD],
    nodename: [u8; UTS_FIELD],
    release: [u8; UTS_FIELD],
    version: [u8; UTS_FIELD],
    machine: [u8; UTS_FIELD],
    domainname: [u8; UTS_FIELD],
}

#[repr(C)]
struct WindowSize {
    rows: u16,
    columns: u16,
    width: u16,
    height: u16,
}

/// `struct termios` of the kernel, which is shorter than the C library's.
#[repr(C)]
struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    characters: [u8; 19],
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Mounts a file system that has no device.
pub(crate) fn mount_virtual(kind: &CStr, target: &CStr) -> io::Result<()> {
    // SAFETY: three NUL-terminated strings that outlive the call; no flags and no data.
    check(unsafe {
        mount(
            kind.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            0,
            ptr::null(),
        )
    })
}

/// Loads the module in an open file.
pub(crate) fn load_module(file: BorrowedFd<'_>, parameters: &CStr) -> io::Result<()> {
    // SAFETY: finit_module(fd, params, flags) reads the string and keeps neither argument.
    let result = unsafe { syscall(SYS_FINIT_MODULE, file.as_raw_fd(), parameters.as_ptr(), 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The kernel's release, as `uname -r`.
pub(crate) fn kernel_release() -> Option<String> {
    let mut name = MaybeUninit::<UtsName>::zeroed();
    // SAFETY: the kernel fills a structure of exactly this layout.
    let result = unsafe { uname(name.as_mut_ptr()) };
    check(result).ok()?;
    // SAFETY: bytes all the way, zeroed above and written by the kernel.
    let name = unsafe { name.assume_init() };
    let text = CStr::from_bytes_until_nul(&name.release).ok()?;
    Some(text.to_string_lossy().into_owned())
}

/// Leaves the session of init and takes a terminal as the new session's own.
pub(crate) fn own_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    check(setsid())?;
    // SAFETY: TIOCSCTTY takes an integer; 0 asks for it without force.
    check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSCTTY, 0) })
}

/// Tells a terminal its size.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = WindowSize {
        rows,
        columns,
        width: 0,
        height: 0,
    };
    // SAFETY: TIOCSWINSZ reads one struct winsize, which has this layout.
    check(unsafe { ioctl(terminal.as_raw_fd(), TIOCSWINSZ, &raw const size) })
}

/// Has a serial terminal raise and drop RTS as its buffer empties and fills (`stty crtscts`).
///
/// The buffer may be full already, and the driver tells the line only of changes. So the line is
/// hung up first, with speed 0: when a speed comes back, the driver raises RTS only if there is room
/// (`uart_set_termios`, drivers/tty/serial/serial_core.c).
pub(crate) fn flow_control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    let mut modes = MaybeUninit::<Termios>::zeroed();
    // SAFETY: TCGETS fills one struct termios of the kernel, which has this layout.
    check(unsafe { ioctl(terminal.as_raw_fd(), TCGETS, modes.as_mut_ptr()) })?;
    // SAFETY: integers all the way, zeroed above and written by the kernel.
    let mut modes = unsafe { modes.assume_init() };
    let control = modes.control | CRTSCTS;
    for control in [control & !CBAUD, control] {
        modes.control = control;
        // SAFETY: TCSETS reads one struct termios, which has this layout.
        check(unsafe { ioctl(terminal.as_raw_fd(), TCSETS, &raw const modes) })?;
    }
    Ok(())
}

/// Waits until a terminal has sent what was written to it (`tcdrain`).
pub(crate) fn drain(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TCSBRK takes an integer; any but 0 sends no break.
    check(unsafe { ioctl(terminal.as_raw_fd(), TCSBRK, 1) })
}

/// How a child ended.
pub(crate) struct Ended {
    /// Its process id.
    pub(crate) pid: u32,
    /// As a shell would say it: the exit status, or 128 plus the signal.
    pub(crate) status: u32,
}

/// Waits for any child, own or inherited.
pub(crate) fn wait_any() -> io::Result<Ended> {
    let mut status: c_int = 0;
    // SAFETY: the kernel writes one integer.
    let pid = unsafe { waitpid(-1, &raw mut status, 0) };
    check(pid)?;
    let signal = status.cast_unsigned() & 0x7f;
    let status = match signal {
        0 => (status.cast_unsigned() >> 8) & 0xff,
        signal => 128 + signal,
    };
    Ok(Ended {
        pid: pid.cast_unsigned(),
        status,
    })
}

/// Keeps memory from being paged out; the kernel may still move it to other frames.
pub(crate) fn lock_memory<T>(memory: &[T]) -> io::Result<()> {
    // SAFETY: a range this process has mapped; locking does not change its contents.
    check(unsafe { mlock(memory.as_ptr().cast(), size_of_val(memory)) })
}

/// Lets this thread use `count` I/O ports from `from` on.
pub(crate) fn allow_ports(from: u16, count: u16) -> io::Result<()> {
    check(ioperm(from.into(), count.into(), 1))
}

/// Writes out every file system, then asks the kernel for power-off; comes back only where the
/// kernel refuses.
pub(crate) fn power_off() {
    sync_all();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
}
