//! PID 1 of a lab: makes this machine look like the one that started it, runs one command there, and
//! says how it ended. The host's root is its root, read-only, over 9p.

mod job;
mod modules;
mod mounts;
mod ports;
mod switch;
mod sys;
mod tunnel;
mod wire;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::thread;

use modules::Modules;
use ports::Ports;
use wire::Frame;

fn main() {
    match work() {
        // Whoever started this machine ends it, when all of the command's output has been taken:
        // that may be as long as its reader likes.
        Ok(()) => loop {
            thread::park();
        },
        Err(error) => {
            // Without ports the console is the only way to be heard.
            eprintln!("trapline lab: {error}");
            sys::power_off();
        }
    }
}

fn work() -> Fallible<()> {
    mounts::kernel_file_systems()?;
    spare_processors()?;
    Modules::open(wire::MODULES_FIRST)?.load();
    // KVM is the largest of all: it is loaded while the host's root is put together.
    let later = Modules::open(wire::MODULES_LATER)?;
    let later = thread::spawn(move || later.load());

    let mut ports = Ports::open()?;
    let Frame::Run(task) = Frame::receive(&mut ports.control)? else {
        return Err("the first frame is not a command".into());
    };
    let placed = place(&task);
    let _ = later.join();
    let last = match placed {
        Ok(()) => {
            tunnel::open(&task)?;
            job::run(&task, &mut ports)?
        }
        Err(error) => Frame::Broken(error.to_string()),
    };
    last.send(&mut ports.control)?;
    Ok(())
}

/// Leaves the processors alone that QEMU spoils; everything that is started from here on does too.
fn spare_processors() -> Fallible<()> {
    let command_line = fs::read_to_string("/proc/cmdline")?;
    let mut words = command_line.split_ascii_whitespace();
    let spare = words.find_map(|word| word.strip_prefix(wire::SPARE_CPUS)?.strip_prefix('='));
    let spare: u32 = spare.map_or(Ok(0), str::parse)?;
    if spare > 0 {
        sys::keep_off_processors(spare).map_err(failed("cannot keep off the first processor"))?;
    }
    Ok(())
}

fn place(task: &wire::Job) -> Fallible<()> {
    mounts::host_root(task)?;
    mounts::shares(task)?;
    sys::name_host("trapline-lab").map_err(failed("cannot set the host name"))?;
    sys::interface_up("lo").map_err(failed("cannot bring up lo"))?;
    Ok(())
}

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What failed, on what.
#[derive(Debug)]
struct Failed {
    what: String,
    source: io::Error,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Error for Failed {}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failed {
    let what = what.into();
    |source| Failed { what, source }
}
