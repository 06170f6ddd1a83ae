//! The buffers of one queue, as its device takes and returns them.

use std::num::Wrapping;
use std::sync::atomic::Ordering;

use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};

use crate::dma::{Dma, DmaError, DmaSpace, Iova};

/// A driver that broke the rules of rings, or put one where memory is not.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// What virtio-queue found.
    #[error("the ring: {0}")]
    Queue(#[from] Error),
    /// A buffer.
    #[error("a buffer: {0}")]
    Buffer(#[from] DmaError),
    /// A chain that does not end: a descriptor that is not there, or a loop.
    #[error("the descriptor chain from {0} is torn")]
    Torn(u16),
    /// More descriptors than the queue has (VIRTIO 1.2, 2.7.5.3.1).
    #[error("the descriptor chain from {0} is longer than its queue")]
    Long(u16),
    /// Rings that do not lie as 2.7 wants them.
    #[error("the rings of queue {0} are not aligned")]
    Unaligned(u16),
    /// The IOMMU did not answer.
    #[error("the IOMMU did not answer")]
    Unheld,
}

/// A piece of memory that the driver lends to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where, as the device addresses memory.
    pub at: Iova,
    /// Length in bytes.
    pub len: u32,
    /// Whether it is the device's to write, else to read.
    pub writable: bool,
}

/// A buffer: the parts of one descriptor chain, at most as many as the queue has descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// What [`Ring::give_back`] calls it.
    pub head: u16,
    /// Its parts in their order.
    pub parts: Vec<Part>,
}

/// A queue at work. Each of its calls holds the IOMMU once.
#[derive(Debug)]
pub struct Ring<'a> {
    dma: &'a Dma,
    queue: &'a mut Queue,
    features: u64,
}

impl<'a> Ring<'a> {
    pub(super) const fn new(dma: &'a Dma, queue: &'a mut Queue, features: u64) -> Self {
        Self {
            dma,
            queue,
            features,
        }
    }

    /// Whether the driver chose all of these features.
    #[must_use]
    pub const fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    fn hold<R>(
        &mut self,
        work: impl FnOnce(&mut Queue, &DmaSpace<'_>) -> Result<R, RingError>,
    ) -> Result<R, RingError> {
        let queue = &mut *self.queue;
        let done = self.dma.hold(|space| work(queue, space));
        done.unwrap_or(Err(RingError::Unheld))
    }

    /// The next buffer the driver offers.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn take(&mut self) -> Result<Option<Chain>, RingError> {
        self.hold(|queue, space| {
            if queue.avail_idx(space, Ordering::Acquire)? == Wrapping(queue.next_avail()) {
                return Ok(None);
            }
            let size = queue.size();
            // The entry itself cannot be read, when the iterator gives none.
            let chain = queue.iter(space)?.next().ok_or(Error::FindMemoryRegion)?;
            let head = chain.head_index();
            let (mut parts, mut goes_on) = (Vec::new(), true);
            for descriptor in chain {
                if parts.len() >= usize::from(size) {
                    return Err(RingError::Long(head));
                }
                parts.push(Part {
                    at: Iova(descriptor.addr().0),
                    len: descriptor.len(),
                    writable: descriptor.is_write_only(),
                });
                goes_on = descriptor.has_next();
            }
            if goes_on {
                return Err(RingError::Torn(head));
            }
            Ok(Some(Chain { head, parts }))
        })
    }

    /// The bytes the driver put into a buffer, up to `limit` of them.
    ///
    /// # Errors
    /// [`RingError::Buffer`].
    pub fn read(&self, chain: &Chain, limit: usize) -> Result<Vec<u8>, RingError> {
        let mut bytes = Vec::new();
        for part in chain.parts.iter().filter(|part| !part.writable) {
            let before = bytes.len();
            let room = limit.saturating_sub(before);
            let len = usize::try_from(part.len).unwrap_or(usize::MAX).min(room);
            bytes.resize(before.saturating_add(len), 0);
            let part_bytes = bytes.get_mut(before..).unwrap_or_default();
            self.dma.read(part.at, part_bytes)?;
        }
        Ok(bytes)
    }

    /// Gives a buffer back, with `written` bytes of the device's in it.
    ///
    /// # Errors
    /// [`RingError::Queue`].
    pub fn give_back(&mut self, head: u16, written: u32) -> Result<(), RingError> {
        self.hold(|queue, space| Ok(queue.add_used(space, head, written)?))
    }

    /// Has the driver notify again. Returns whether it offered buffers meanwhile.
    pub(super) fn listen(&mut self) -> Result<bool, RingError> {
        self.hold(|queue, space| Ok(queue.enable_notification(space)?))
    }

    /// Whether the driver wants to hear of the buffers given back since this was last asked.
    pub(super) fn is_heard(&mut self, given_back: bool) -> Result<bool, RingError> {
        if !given_back {
            return Ok(false);
        }
        self.hold(|queue, space| Ok(queue.needs_notification(space)?))
    }

    pub(super) fn next_used(&self) -> u16 {
        self.queue.next_used()
    }
}
