//! The machine's side of the control socket, a subscriber of the main thread's event loop.
//!
//! A client can cost no more than one line and one reply of memory, and never time: a request is
//! done when its line is whole, and no further one is read before its reply has been taken.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};

use super::place::{Listening, Name, Place, PlaceError};
use super::{Controller, Reply, Request};

/// The longest request.
const LINE_MAX: usize = 64 * 1024;
/// Clients at a time; one more takes the place of the oldest.
const CLIENTS: usize = 16;

#[derive(Debug)]
struct Peer {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// It has said all it will say; it goes when its replies are taken.
    closing: bool,
}

/// Serves one run's control socket. The socket vanishes with it.
#[derive(Debug)]
pub struct ControlServer<C> {
    listening: Listening,
    peers: Vec<Peer>,
    controller: C,
}

impl<C: Controller> ControlServer<C> {
    /// Takes `name` in `place`.
    ///
    /// # Errors
    /// [`PlaceError`] when the name is taken or the socket cannot be made.
    pub fn new(place: &Place, name: &Name, controller: C) -> Result<Self, PlaceError> {
        Ok(Self {
            listening: place.listen(name)?,
            peers: Vec::new(),
            controller,
        })
    }

    /// The controller.
    pub const fn controller(&mut self) -> &mut C {
        &mut self.controller
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) {
        while let Ok((stream, _)) = self.listening.socket.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.peers.len() >= CLIENTS {
                let oldest = self.peers.remove(0);
                let _ = ops.remove(Events::empty(&oldest.stream));
            }
            if ops.add(Events::new(&stream, EventSet::IN)).is_ok() {
                self.peers.push(Peer {
                    stream,
                    inbox: Vec::new(),
                    outbox: Vec::new(),
                    closing: false,
                });
            }
        }
    }

    fn serve(&mut self, fd: RawFd, ops: &mut EventOps<'_>) {
        let found = self.peers.iter().position(|p| p.stream.as_raw_fd() == fd);
        let Some(at) = found else { return };
        let Some(peer) = self.peers.get_mut(at) else {
            return;
        };
        let went_well = peer.turn(&mut self.controller);
        let wants = if peer.outbox.is_empty() {
            EventSet::IN
        } else {
            EventSet::OUT
        };
        let done = went_well.is_err() || (peer.closing && peer.outbox.is_empty());
        if done || ops.modify(Events::new(&peer.stream, wants)).is_err() {
            let peer = self.peers.remove(at);
            let _ = ops.remove(Events::empty(&peer.stream));
        }
    }
}

impl<C: Controller> MutEventSubscriber for ControlServer<C> {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.fd() == self.listening.socket.as_raw_fd() {
            self.accept(ops);
        } else {
            self.serve(events.fd(), ops);
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        // Cannot fail but for memory; a run without its socket is still a run.
        let _ = ops.add(Events::new(&self.listening.socket, EventSet::IN));
    }
}

impl Peer {
    /// Sends what waits, then takes what came, as far as both go without waiting.
    fn turn(&mut self, controller: &mut impl Controller) -> io::Result<()> {
        self.send()?;
        if self.outbox.is_empty() && !self.closing {
            self.receive()?;
        }
        while self.outbox.is_empty() {
            let Some(end) = self.inbox.iter().position(|&b| b == b'\n') else {
                break;
            };
            let line: Vec<u8> = self.inbox.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                self.reply(&answer(&line, controller));
                self.send()?;
            }
        }
        if self.inbox.len() > LINE_MAX && !self.inbox.contains(&b'\n') {
            self.inbox = Vec::new();
            self.closing = true;
            self.reply(&Reply::usage(format!(
                "a request is at most {LINE_MAX} bytes"
            )));
            self.send()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        // Never more than a line and a bit, so that one client cannot keep the loop busy.
        while self.inbox.len() <= LINE_MAX {
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    self.closing = true;
                    return Ok(());
                }
                Ok(got) => self
                    .inbox
                    .extend_from_slice(bytes.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reply(&mut self, reply: &Reply) {
        // A `Reply` holds JSON values already: this cannot fail.
        let _ = serde_json::to_writer(&mut self.outbox, reply);
        self.outbox.push(b'\n');
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A large reply's memory is not kept for the small ones after it.
        self.outbox = Vec::new();
        Ok(())
    }
}

fn answer(line: &[u8], controller: &mut impl Controller) -> Reply {
    match serde_json::from_slice::<Request>(line) {
        Ok(request) => controller.handle(request),
        Err(error) => Reply::usage(format!(
            "not a request ({error}); write {{\"verb\":\"help\"}}"
        )),
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
