//! What the host sends into the guest, on its way to the device that takes it there.
//!
//! The wire is flow-controlled: bytes wait here, in a bounded queue, until the device has room for
//! them. A producer that is refused is told when there is room again, so a paste of any length and a
//! piped file arrive whole.

use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes the queue holds.
const CAPACITY: usize = 64 << 10;

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
    /// The producer has pushed its last.
    closed: AtomicBool,
    on_room: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The host's end of the wire into the guest. Clones share one queue.
#[derive(Clone, Default)]
pub struct HostInput(Arc<Inner>);

impl fmt::Debug for HostInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostInput")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl HostInput {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues as many of `bytes` as there is room for and returns how many. Then let the device see
    /// them: [`crate::bus::Bus::wake`].
    #[must_use]
    pub fn push(&self, bytes: &[u8]) -> usize {
        let mut queue = self.lock();
        let accepted = bytes.len().min(CAPACITY.saturating_sub(queue.bytes.len()));
        queue
            .bytes
            .extend(bytes.get(..accepted).unwrap_or_default());
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

    /// Says that nothing more will be pushed. A serial line has no way to pass that on.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// Whether the guest has taken all there will ever be.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        // In this order: what was pushed before the close is then seen.
        self.0.closed.load(Ordering::Acquire) && self.waiting() == 0
    }

    /// Has `notify` called once per refused push, when half the queue is free again. It is called
    /// from the thread that made room, with the device's lock held: it must not reach the bus (an
    /// eventfd is right). Only the first call counts.
    pub fn on_room(&self, notify: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_room.set(Box::new(notify));
    }

    /// Fills the front of `bytes` and returns how many it got.
    pub(super) fn take(&self, bytes: &mut [u8]) -> usize {
        let mut queue = self.lock();
        let before = queue.bytes.len();
        let mut rest = bytes;
        // A deque reads as two slices, and never fails.
        while let Ok(count @ 1..) = queue.bytes.read(rest) {
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        let taken = before.saturating_sub(queue.bytes.len());
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
        let input = HostInput::default();
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
    #[test]
    fn the_end_is_seen_when_everything_is_taken() {
        let input = HostInput::default();
        assert!(!input.is_at_end());
        assert_eq!(input.push(b"xy"), 2);
        input.close();
        assert!(!input.is_at_end());
        assert_eq!(input.take(&mut [0; 8]), 2);
        assert!(input.is_at_end());
    }

    #[test]
    fn bytes_come_out_in_order_around_the_queues_end() {
        let input = HostInput::default();
        let sent: Vec<u8> = (0..251).cycle().take(3 * CAPACITY).collect();
        let (mut pushed, mut got) = (0, Vec::<u8>::new());
        while got.len() < sent.len() {
            pushed += input.push(&sent[pushed..]);
            let mut some = [0; 1000];
            let count = input.take(&mut some);
            got.extend(&some[..count]);
        }
        assert_eq!(got, sent);
    }
}
