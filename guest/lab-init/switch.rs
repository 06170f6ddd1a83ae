//! Many connections over one port. Both ends of a tunnel are this; compiled into both.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::wire::{CHUNK, receive_piece, send_piece};

/// The connections of this end, by number. A number is used once; the first words of two connections
/// may come in any order, as each has its own reader.
#[derive(Debug)]
pub(crate) struct Switch<P> {
    port: Mutex<P>,
    open: Mutex<BTreeMap<u32, UnixStream>>,
}

impl<P: Write + Send + 'static> Switch<P> {
    pub(crate) fn new(port: P) -> Arc<Self> {
        Arc::new(Self {
            port: Mutex::new(port),
            open: Mutex::default(),
        })
    }

    /// Takes a connection up: what it says goes to the other end under `number`.
    pub(crate) fn carry(self: &Arc<Self>, number: u32, stream: UnixStream) {
        let Ok(mut from) = stream.try_clone() else {
            return self.send(number, &[]);
        };
        locked(&self.open).insert(number, stream);
        let switch = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; CHUNK];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                switch.send(number, buffer.get(..length).unwrap_or_default());
            }
            switch.send(number, &[]);
        });
    }

    /// Delivers what the other end says until the port closes. `connect` makes the connection for a
    /// number that is new; a port that only delivers answers none.
    pub(crate) fn serve(
        self: &Arc<Self>,
        mut from: impl Read,
        mut connect: impl FnMut() -> Option<UnixStream>,
    ) {
        let mut buffer = [0; CHUNK];
        let mut known = BTreeSet::new();
        while let Ok((number, length)) = receive_piece(&mut from, &mut buffer) {
            // A late word on a connection that has ended here is not a new one.
            if length > 0 && known.insert(number) {
                match connect() {
                    Some(stream) => self.carry(number, stream),
                    None => self.send(number, &[]),
                }
            }
            self.deliver(number, buffer.get(..length).unwrap_or_default());
        }
        for stream in locked(&self.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn deliver(&self, number: u32, bytes: &[u8]) {
        let mut open = locked(&self.open);
        let Some(stream) = open.get_mut(&number) else {
            return;
        };
        if bytes.is_empty() || stream.write_all(bytes).is_err() {
            // Its reader sees the end and says so to the other side.
            let _ = stream.shutdown(Shutdown::Both);
            open.remove(&number);
        }
    }

    fn send(&self, number: u32, bytes: &[u8]) {
        // A port that fails is closed: nobody is left to tell.
        let _ = send_piece(&mut *locked(&self.port), number, bytes);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
