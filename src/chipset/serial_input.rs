//! What the host types, on its way to the guest's UART.
//!
//! The wire is flow-controlled: bytes wait here, in a bounded queue, until the guest's FIFO has room
//! and the guest listens. A producer that is refused is told when there is room again, so a paste of
//! any length and a piped file arrive whole.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes the queue holds.
const CAPACITY: usize = 16 << 10;

#[derive(Default)]
struct Queue {
    bytes: VecDeque<u8>,
    /// A push was cut short, and nobody has been told of room since.
    refused: bool,
}

#[derive(Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// Length of the queue, for the device to look at without its lock.
    waiting: AtomicUsize,
    on_room: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The host's end of the wire into the guest. Clones share one queue.
#[derive(Clone, Default)]
pub struct SerialInput(Arc<Inner>);

impl fmt::Debug for SerialInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialInput")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl SerialInput {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues as many of `bytes` as there is room for and returns how many. Then let the device see
    /// them: [`crate::bus::Bus::wake`].
    #[must_use]
    pub fn push(&self, bytes: &[u8]) -> usize {
        let mut queue = self.lock();
        let accepted = bytes.len().min(CAPACITY.saturating_sub(queue.bytes.len()));
        queue.bytes.extend(bytes.iter().take(accepted));
        queue.refused |= accepted < bytes.len();
        self.0.waiting.store(queue.bytes.len(), Ordering::Release);
        accepted
    }

    /// How many bytes a push would take now.
    #[must_use]
    pub fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.waiting())
    }

    /// How many bytes the guest has not taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// Has `notify` called once per refused push, when half the queue is free again. It is called
    /// from the thread that made room, with the UART's lock held: it must not reach the bus (an
    /// eventfd is right). Only the first call counts.
    pub fn on_room(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_room.set(Box::new(notify));
    }

    /// Fills the front of `bytes` and returns how many it got.
    pub(super) fn take(&self, bytes: &mut [u8]) -> usize {
        let mut queue = self.lock();
        let mut taken = 0_usize;
        for slot in bytes {
            let Some(byte) = queue.bytes.pop_front() else {
                break;
            };
            *slot = byte;
            taken = taken.saturating_add(1);
        }
        self.0.waiting.store(queue.bytes.len(), Ordering::Release);
        let tell = queue.refused && queue.bytes.len() <= CAPACITY / 2;
        if tell {
            queue.refused = false;
        }
        drop(queue);
        if tell && let Some(notify) = self.0.on_room.get() {
            notify();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_producer_is_told_once_when_half_the_queue_is_free() {
        let input = SerialInput::default();
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        input.on_room(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(input.push(&vec![b'x'; CAPACITY + 1]), CAPACITY);
        assert_eq!(input.room(), 0);
        let mut some = [0; CAPACITY / 2 - 1];
        assert_eq!(input.take(&mut some), some.len());
        assert_eq!(told.load(Ordering::Relaxed), 0);
        assert_eq!(input.take(&mut [0; 1]), 1);
        assert_eq!(input.take(&mut [0; 1]), 1);
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }
}
