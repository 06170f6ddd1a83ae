//! PID 1 of a lab: makes this machine look like the one that started it, runs one command there, and
//! says how it ended. The host's root is its root, read-only, over 9p.

mod job;
mod mounts;
mod ports;
mod sys;
mod wire;

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ports::Ports;
use wire::Frame;

fn main() {
    if let Err(error) = prepare().and_then(|mut ports| serve(&mut ports)) {
        // Without ports the console is the only way to be heard.
        eprintln!("trapline lab: {error}");
    }
    // Whoever started this machine ends it when the last word has arrived. Powering off right away
    // could cut that word short; never doing it could leave a machine nobody wants.
    thread::sleep(Duration::from_secs(10));
    sys::power_off();
}

type Fallible<T> = Result<T, Box<dyn Error>>;

/// What failed, on what.
#[derive(Debug)]
struct Failed {
    what: String,
    source: io::Error,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Error for Failed {}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Failed {
    let what = what.into();
    |source| Failed { what, source }
}

/// Kernel file systems, modules, and the way out.
fn prepare() -> Fallible<Ports> {
    mounts::kernel_file_systems()?;
    load_modules()?;
    Ok(Ports::open()?)
}

/// Loads what the initramfs lists, dependencies first. What the kernel has already is no failure.
fn load_modules() -> Fallible<()> {
    const EEXIST: i32 = 17;
    let Ok(order) = fs::read_to_string(Path::new("/").join(wire::MODULE_ORDER)) else {
        return Ok(());
    };
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for name in order.lines() {
        let what = || format!("cannot load the module {name}");
        let file = File::open(Path::new("/modules").join(name)).map_err(failed(what()))?;
        match sys::load_module(&file, &parameters(&command_line, name)) {
            Err(error) if error.raw_os_error() != Some(EEXIST) => {
                // A device driver the machine has no use for refuses with ENODEV. What the lab
                // cannot do without is missed later, by name.
                eprintln!("{}: {error}", what());
            }
            _ => {}
        }
    }
    Ok(())
}

/// A module's parameters, `MODULE.PARAMETER=VALUE` on the kernel's command line. The kernel gives
/// them to what is built in; for the rest modprobe does, and here there is none.
fn parameters(command_line: &str, file: &str) -> String {
    let name = file.trim_end_matches(".ko").replace('-', "_");
    let mine = command_line.split_whitespace().filter_map(|word| {
        let (module, parameter) = word.split_once('.')?;
        (module.replace('-', "_") == name).then_some(parameter)
    });
    mine.collect::<Vec<_>>().join(" ")
}

/// Takes the job, does it, and reports.
fn serve(ports: &mut Ports) -> Fallible<()> {
    let Frame::Run(task) = Frame::receive(&mut ports.control)? else {
        return Err("the first frame is not a command".into());
    };
    let last = match place(&task) {
        Ok(()) => job::run(&task, ports)?,
        Err(error) => Frame::Broken(error.to_string()),
    };
    last.send(&mut ports.control)?;
    Ok(())
}

fn place(task: &wire::Job) -> Fallible<()> {
    mounts::host_root()?;
    mounts::shares(task)?;
    sys::name_host("trapline-lab").map_err(failed("cannot set the host name"))?;
    sys::interface_up("lo").map_err(failed("cannot bring up lo"))?;
    Ok(())
}
