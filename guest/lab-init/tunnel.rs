//! Connections from outside to a socket of the command.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::switch::Switch;
use super::wire::{self, Job};
use super::{Fallible, ports};

/// How long a connection waits for the command to make its socket.
const PATIENCE: Duration = Duration::from_secs(20);

/// From now on connections are taken, when the job has a socket for them.
pub(crate) fn open(job: &Job) -> Fallible<()> {
    if job.socket.is_empty() {
        return Ok(());
    }
    let port = ports::open(wire::TUNNEL)?;
    let path = PathBuf::from(OsStr::from_bytes(&job.socket));
    let from = port.try_clone()?;
    thread::spawn(move || Switch::new(port).serve(from, || connect(&path)));
    Ok(())
}

fn connect(path: &PathBuf) -> Option<UnixStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Some(stream),
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(_) => return None,
        }
    }
}
