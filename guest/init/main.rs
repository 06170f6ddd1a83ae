//! The init of the built-in initramfs: it makes the file systems a test expects, says what machine
//! it is on, does the job it finds in `/trapline/job`, reports the status through the debug-exit
//! port and powers off.
//!
//! Whatever goes wrong is said on the console and ends in [`job_abi::INIT_FAILED`]; nothing waits
//! for ever but a command that does. Built by `build.rs` as a static program without dependencies;
//! as an example of the crate it is linted and its tests run.

mod archive;
mod facts;
mod input;
mod mounts;
mod ports;
mod postbox;
mod run;
mod sys;

#[path = "../postbox_abi.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the host uses what init does not"
)]
mod postbox_abi;

#[path = "../job_abi.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the host writes what init only reads"
)]
mod job_abi;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::path::Path;
use std::process::exit;

use job_abi::{INIT_FAILED, JOB_PATH, Job};
use ports::Ports;
use postbox::{Postbox, Stream};

/// The debug-exit port (`chipset::debug_exit`).
const DEBUG_EXIT: u16 = 0xf4;

/// A line on the console, or several, each marked as init's own.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::print_lines(&format!($($words)*))
    };
}
pub(crate) use say;

fn main() {
    panic::set_hook(Box::new(|what| {
        say!("init failed: {what}");
        end(INIT_FAILED);
    }));
    // From now on what is typed waits for whoever reads it. Without, the kernel takes 64 KiB ahead of
    // a slow reader and drops the rest. A console that is no serial port has no such lines.
    let _ = sys::flow_control(io::stdout().as_fd());
    mounts::make();
    facts::print_kernel();
    let postbox = Postbox::find();
    if let Some(postbox) = &postbox {
        postbox.running();
    }
    facts::print_machine();
    let status = read_job().and_then(|job| work(&job, postbox.as_ref()));
    end(status.unwrap_or_else(|why| {
        say!("{why}");
        INIT_FAILED
    }));
}

/// In one write, because each costs a wait for the serial line. A console that is gone is no reason
/// to die.
fn print_lines(text: &str) {
    let marked: String = text.lines().map(|l| format!("trapline: {l}\n")).collect();
    let _ = io::stdout().write_all(marked.as_bytes());
}

fn read_job() -> Result<Job, String> {
    match fs::read(JOB_PATH) {
        Ok(bytes) => Job::decode(&bytes).map_err(|e| e.to_string()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Job::default()),
        Err(e) => Err(format!("cannot read {JOB_PATH}: {e}")),
    }
}

fn work(job: &Job, postbox: Option<&Postbox>) -> Result<u32, String> {
    for module in &job.modules {
        load_module(path(module))?;
    }
    let status = run::run(job)?;
    match send(job, postbox) {
        // The command's own failure says more than what then could not be fetched.
        Err(why) if status != 0 => say!("{why}"),
        sent => sent?,
    }
    Ok(status)
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Sends what the job asks for to the host: all that is there, even when something is not.
fn send(job: &Job, postbox: Option<&Postbox>) -> Result<(), String> {
    if job.get.is_empty() {
        return Ok(());
    }
    let postbox = postbox.ok_or("cannot send files back: this machine has no postbox")?;
    let mut missing = Vec::new();
    let sent = Stream::open(postbox).and_then(|mut stream| {
        for (number, wanted) in job.get.iter().enumerate() {
            if let Err(e) = fs::metadata(path(wanted)) {
                missing.push(format!("cannot send {} back: {e}", path(wanted).display()));
                continue;
            }
            archive::append(&mut stream, number.to_string().as_bytes(), path(wanted))?;
        }
        archive::finish(&mut stream)?;
        stream.flush()
    });
    sent.map_err(|e| format!("cannot send files back: {e}"))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(missing.join("\n"))
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
