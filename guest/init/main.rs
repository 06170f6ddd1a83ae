//! The init of the built-in initramfs: it makes the file systems a test expects, says what machine
//! it is on, does the job it finds in `/trapline/job`, reports the status through the debug-exit
//! port and powers off.
//!
//! Whatever goes wrong is said on the console and ends in [`job_abi::INIT_FAILED`]; nothing waits
//! for ever but a command that does. Built by `build.rs` as a static program without dependencies;
//! as an example of the crate it is linted and its tests run.

mod facts;
mod mounts;
mod ports;
mod run;
mod sys;

#[path = "../job_abi.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the host writes what init only reads"
)]
mod job_abi;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::path::Path;
use std::process::exit;

use job_abi::{INIT_FAILED, JOB_PATH, Job};
use ports::Ports;

/// The debug-exit port (`chipset::debug_exit`).
const DEBUG_EXIT: u16 = 0xf4;

/// One line on the console, marked as init's own. A console that is gone is no reason to die.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let line = format!("trapline: {}\n", format_args!($($words)*));
        let _ = std::io::stdout().write_all(line.as_bytes());
    }};
}
pub(crate) use say;

fn main() {
    panic::set_hook(Box::new(|what| {
        say!("init failed: {what}");
        end(INIT_FAILED);
    }));
    mounts::make();
    facts::print();
    let status = read_job().and_then(|job| work(&job)).unwrap_or_else(|why| {
        say!("{why}");
        INIT_FAILED
    });
    end(status);
}

fn read_job() -> Result<Job, String> {
    match fs::read(JOB_PATH) {
        Ok(bytes) => Job::decode(&bytes).map_err(|e| e.to_string()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Job::default()),
        Err(e) => Err(format!("cannot read {JOB_PATH}: {e}")),
    }
}

fn work(job: &Job) -> Result<u32, String> {
    for module in &job.modules {
        load_module(Path::new(OsStr::from_bytes(module)))?;
    }
    let status = run::run(job)?;
    match job.get.as_slice() {
        [] => Ok(status),
        _ => Err("this init cannot send files back".into()),
    }
}

/// A module that is there already is no error: it may be built in, or named twice.
fn load_module(path: &Path) -> Result<(), String> {
    const ENOENT: i32 = 2;
    const ENOEXEC: i32 = 8;
    const EEXIST: i32 = 17;
    let file = File::open(path).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
    let Err(e) = sys::load_module(file.as_fd(), c"") else {
        return Ok(());
    };
    let reason = match e.raw_os_error() {
        Some(EEXIST) => return Ok(()),
        Some(ENOENT) => "it needs symbols of a module that is not loaded".into(),
        Some(ENOEXEC) => "it was built for another kernel, or is damaged".into(),
        _ => e.to_string(),
    };
    let name = path.file_stem().unwrap_or_default().display();
    Err(format!(
        "cannot load module {name}: {reason}; the kernel's own words are above"
    ))
}

/// Reports `status` and stops the machine. Where a failure cannot be reported, the panic that the
/// end of init causes says at least that something was wrong.
fn end(status: u32) -> ! {
    // The report may end the run at once, and the serial driver still holds the last lines.
    drain_console();
    let reported = Ports::open(DEBUG_EXIT, 4).map(|ports| ports.write(0, status));
    if let Err(e) = &reported {
        say!("cannot report status {status}: no access to port {DEBUG_EXIT:#x}: {e}");
        drain_console();
    }
    if status == 0 || reported.is_ok() {
        sys::power_off();
    }
    exit(1)
}

/// Nothing to wait for where there is no console.
fn drain_console() {
    let _ = sys::drain(io::stdout().as_fd());
}
