//! One queue's registers, and the ring behind them once it is enabled.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue, QueueState, QueueT};

/// Descriptors of every queue: what QEMU's devices have; a power of two.
pub(super) const MAX_SIZE: u16 = 128;

/// What the driver writes of a queue (VIRTIO 1.2, 4.1.4.3), and how far its rings have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    next_avail: u16,
    next_used: u16,
    /// To be served: the driver notified it, or not all was done.
    pub(super) kicked: bool,
}

impl State {
    const FRESH: Self = Self {
        size: MAX_SIZE,
        enabled: false,
        descriptors: 0,
        driver: 0,
        device: 0,
        next_avail: 0,
        next_used: 0,
        kicked: false,
    };
}

/// A queue.
#[derive(Debug)]
pub(super) struct Virtqueue {
    pub(super) regs: State,
    /// Once it is enabled; none when its addresses cannot be.
    pub(super) queue: Option<Queue>,
}

impl Virtqueue {
    pub(super) const fn new() -> Self {
        Self {
            regs: State::FRESH,
            queue: None,
        }
    }

    fn build(regs: &State, event_idx: bool) -> Option<Queue> {
        let state = QueueState {
            max_size: MAX_SIZE,
            next_avail: regs.next_avail,
            next_used: regs.next_used,
            event_idx_enabled: event_idx,
            size: regs.size,
            ready: true,
            desc_table: regs.descriptors,
            avail_ring: regs.driver,
            used_ring: regs.device,
        };
        Queue::try_from(state).ok()
    }

    /// A size that is no power of two, or too large, changes nothing: the driver reads it back.
    pub(super) const fn set_size(&mut self, size: u16) {
        if size.is_power_of_two() && size <= MAX_SIZE {
            self.regs.size = size;
        }
    }

    /// Returns whether its addresses can be.
    pub(super) fn enable(&mut self, event_idx: bool) -> bool {
        self.queue = Self::build(&self.regs, event_idx);
        self.regs.enabled = true;
        self.queue.is_some()
    }

    pub(super) fn save(&self) -> State {
        let mut regs = self.regs.clone();
        if let Some(queue) = &self.queue {
            regs.next_avail = queue.next_avail();
            regs.next_used = queue.next_used();
        }
        regs
    }

    /// The queue of a saved state; none when no driver can have brought it about.
    pub(super) fn of(regs: State, event_idx: bool, broken: bool) -> Option<Self> {
        let sized = regs.size.is_power_of_two() && regs.size <= MAX_SIZE;
        let queue = match regs.enabled {
            true => Self::build(&regs, event_idx),
            false => None,
        };
        // Addresses that cannot be stop the device; it is saved like that.
        let whole = regs.enabled == queue.is_some() || broken;
        let began = regs.next_avail != 0 || regs.next_used != 0;
        let idle = regs.enabled || !began;
        (sized && whole && idle).then_some(Self { regs, queue })
    }
}
