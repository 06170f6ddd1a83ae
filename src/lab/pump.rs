//! Bytes between our standard streams and the lab's ports.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};

use super::talk::Event;
use super::wire::{self, CHUNK};

/// Which of the command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// Copies an output of the command to ours; tells when it has ended, or when nobody reads ours.
pub(super) fn output(which: Output, mut from: UnixStream, events: Sender<Event>) {
    thread::spawn(move || {
        let to = match which {
            Output::Stdout => rustix::stdio::stdout(),
            Output::Stderr => rustix::stdio::stderr(),
        };
        let mut buffer = Box::new([0; CHUNK]);
        let mut wanted = true;
        while let Ok(length @ 1..) = wire::receive_chunk(&mut from, &mut buffer) {
            let bytes = buffer.get(..length).unwrap_or_default();
            if wanted && write_all(to, bytes).is_err() {
                // Read on, so that the end of the stream is seen; the lab ends it soon.
                wanted = false;
                let _ = events.send(Event::Unwanted(which));
            }
        }
        let _ = events.send(Event::Ended);
    });
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // The other end of a terminal or pipe that somebody made non-blocking.
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Copies our standard input to the command until it ends, or `stop` is hung up. `to` stays open
/// then: QEMU drops what it has not delivered when a port's socket closes.
pub(super) fn input(to: Arc<UnixStream>, stop: io::PipeReader) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut to = to.as_ref();
        let from = rustix::stdio::stdin();
        let mut buffer = vec![0; CHUNK];
        loop {
            match readable(from, stop.as_fd()) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => break,
            }
            match read(from, &mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    if wire::send_chunk(&mut to, bytes).is_err() {
                        return;
                    }
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => break,
            }
        }
        let _ = wire::send_chunk(&mut to, &[]);
    })
}

/// Waits for bytes, or for the end; false when told to stop first.
fn readable(from: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(from, PollFlags::IN),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let [data, stopped] = fds.map(|fd| !fd.revents().is_empty());
        if stopped {
            return Ok(false);
        }
        if data {
            return Ok(true);
        }
    }
}

fn wait(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, what)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
