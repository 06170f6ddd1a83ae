//! How a device tells its driver something (VIRTIO 1.2, 4.1.4.5, 4.1.5.1.2, 4.1.5.3, 4.1.5.4).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::regs::{ISR_CONFIG, ISR_QUEUE, NO_VECTOR};
use crate::pci::Interrupts;

/// What the driver set up, and what it has not read yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    isr: u8,
    generation: u8,
    /// DRIVER_OK: before it nothing is signalled.
    live: bool,
    config_vector: u16,
    queue_vectors: Vec<u16>,
}

impl State {
    fn new(queues: u16) -> Self {
        Self {
            isr: 0,
            generation: 0,
            live: false,
            config_vector: NO_VECTOR,
            queue_vectors: vec![NO_VECTOR; queues.into()],
        }
    }

    /// Whether a device with that many queues, ready or not, can be in it.
    pub(super) fn can_be(&self, queues: u16, live: bool) -> bool {
        let granted = |vector: &u16| *vector <= queues || *vector == NO_VECTOR;
        self.isr & !(ISR_QUEUE | ISR_CONFIG) == 0
            && self.live == live
            && self.queue_vectors.len() == usize::from(queues)
            && granted(&self.config_vector)
            && self.queue_vectors.iter().all(granted)
    }
}

/// A device's way to its driver. The device's handles on the host's side hold one too: a leaf in the
/// lock order, before the function's interrupts.
#[derive(Debug, Clone)]
pub struct Signals {
    queues: u16,
    interrupts: Interrupts,
    state: Arc<Mutex<State>>,
}

impl Signals {
    /// The signals of a device with that many queues.
    #[must_use]
    pub fn new(interrupts: Interrupts, queues: u16) -> Self {
        Self {
            queues,
            interrupts,
            state: Arc::new(Mutex::new(State::new(queues))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message, or the level of INTx: set with the lock held, lest a read of the ISR on another
    /// thread come between.
    fn raise(&self, mut state: MutexGuard<'_, State>, why: u8, vector: u16) {
        if !state.live {
            return;
        }
        if self.interrupts.uses_messages() {
            // A message may wait for an IOMMU.
            drop(state);
            if vector != NO_VECTOR {
                self.interrupts.message(vector);
            }
        } else {
            state.isr |= why;
            self.interrupts.set_level(true);
        }
    }

    /// The device's configuration has changed, or its status.
    pub fn config_changed(&self) {
        let mut state = self.lock();
        state.generation = state.generation.wrapping_add(1);
        let vector = state.config_vector;
        self.raise(state, ISR_CONFIG, vector);
    }

    /// Buffers of a queue have been used.
    pub(super) fn used(&self, queue: u16) {
        let state = self.lock();
        let vector = self.queue_vector_of(&state, queue);
        self.raise(state, ISR_QUEUE, vector);
    }

    /// The driver reads the ISR: that acknowledges all it says.
    pub(super) fn take_isr(&self) -> u8 {
        let mut state = self.lock();
        let isr = std::mem::take(&mut state.isr);
        if isr != 0 {
            self.interrupts.set_level(false);
        }
        isr
    }

    pub(super) fn generation(&self) -> u8 {
        self.lock().generation
    }

    pub(super) fn set_live(&self, live: bool) {
        self.lock().live = live;
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.lock().config_vector
    }

    /// A vector that is not there reads back as none, which tells the driver.
    pub(super) fn set_config_vector(&self, vector: u16) {
        self.lock().config_vector = self.granted(vector);
    }

    fn granted(&self, vector: u16) -> u16 {
        match vector {
            vector if vector <= self.queues => vector,
            _ => NO_VECTOR,
        }
    }

    fn queue_vector_of(&self, state: &State, queue: u16) -> u16 {
        let vector = state.queue_vectors.get(usize::from(queue));
        vector.copied().unwrap_or(NO_VECTOR)
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        self.queue_vector_of(&self.lock(), queue)
    }

    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        let vector = self.granted(vector);
        if let Some(slot) = self.lock().queue_vectors.get_mut(usize::from(queue)) {
            *slot = vector;
        }
    }

    pub(super) fn reset(&self) {
        let mut state = self.lock();
        *state = State::new(self.queues);
        self.interrupts.set_level(false);
    }

    pub(super) fn save(&self) -> State {
        self.lock().clone()
    }

    /// Puts back a state that [`State::can_be`] accepted; the line is the function's to restore.
    pub(super) fn load(&self, state: State) {
        *self.lock() = state;
    }
}
