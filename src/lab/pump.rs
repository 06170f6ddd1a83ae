//! Bytes between our standard streams and the lab's ports.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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
/// then: QEMU drops what it has not delivered when a port's socket closes. Of a raw terminal
/// `leave` looks for the keys that end the lab.
pub(super) fn input(
    to: Arc<UnixStream>,
    stop: io::PipeReader,
    mut leave: Option<(Leave, Sender<Event>)>,
) -> JoinHandle<()> {
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
                    if let Some((leave, events)) = &mut leave
                        && leave.is_asked(bytes, Instant::now())
                    {
                        let _ = events.send(Event::Leave);
                    }
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

/// Ctrl-] three times within a second, as systemd-nspawn has it. A lab whose kernel hangs hears no
/// key, and a raw terminal makes no signals.
#[derive(Debug, Default)]
pub(super) struct Leave {
    first: Option<Instant>,
    count: u8,
}

impl Leave {
    const KEY: u8 = 0x1d;
    const WITHIN: Duration = Duration::from_secs(1);

    fn is_asked(&mut self, bytes: &[u8], now: Instant) -> bool {
        for byte in bytes {
            if *byte != Self::KEY {
                *self = Self::default();
                continue;
            }
            match self.first {
                Some(first) if now.duration_since(first) <= Self::WITHIN => self.count += 1,
                _ => (self.first, self.count) = (Some(now), 1),
            }
            if self.count == 3 {
                return true;
            }
        }
        false
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_the_key_in_a_second_leave_and_nothing_else_does() {
        let start = Instant::now();
        let asked = |presses: &[(&[u8], u64)]| {
            let mut leave = Leave::default();
            let at = |ms: u64| start + Duration::from_millis(ms);
            presses
                .iter()
                .any(|(bytes, ms)| leave.is_asked(bytes, at(*ms)))
        };
        assert!(asked(&[(b"\x1d", 0), (b"\x1d", 400), (b"\x1d", 900)]));
        assert!(asked(&[(b"ls\x1d\x1d\x1d", 0)]));
        assert!(!asked(&[(b"\x1d\x1d", 0), (b"\x1d", 1100)]));
        assert!(!asked(&[(b"\x1d\x1dx\x1d", 0)]));
    }
}
