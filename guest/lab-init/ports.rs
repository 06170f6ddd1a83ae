//! The virtio-serial ports.

use std::fs::{self, File};
use std::io::{Error, ErrorKind};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failed, failed, wire};

/// How long the kernel may take to make them.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to whoever started this machine.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) control: File,
    pub(crate) stdin: File,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Ports {
    /// Finds the ports by name. The kernel makes them when the device answers, a little after its
    /// driver is loaded.
    pub(crate) fn open() -> Result<Self, Failed> {
        let deadline = Instant::now() + PATIENCE;
        Ok(Self {
            control: port(wire::CONTROL, deadline)?,
            stdin: port(wire::STDIN, deadline)?,
            stdout: port(wire::STDOUT, deadline)?,
            stderr: port(wire::STDERR, deadline)?,
        })
    }
}

/// Opens one port by name.
pub(crate) fn open(name: &str) -> Result<File, Failed> {
    port(name, Instant::now() + PATIENCE)
}

fn port(name: &str, deadline: Instant) -> Result<File, Failed> {
    let what = || format!("cannot open the virtio-serial port {name}");
    loop {
        if let Some(node) = find(name) {
            return File::options()
                .read(true)
                .write(true)
                .open(format!("/dev/{node}"))
                .map_err(failed(what()));
        }
        if Instant::now() >= deadline {
            let why = "it never appeared; does this kernel have CONFIG_VIRTIO_CONSOLE?";
            return Err(failed(what())(Error::new(ErrorKind::NotFound, why)));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The device node of the port with this name, once both are there.
fn find(name: &str) -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .find(|node| {
            fs::read_to_string(format!("/sys/class/virtio-ports/{node}/name"))
                .is_ok_and(|found| found.trim_end() == name)
                && fs::exists(format!("/dev/{node}")).unwrap_or(false)
        })
}
