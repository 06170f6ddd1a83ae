//! What the board gives a function: an address, and ways out.

use std::sync::Arc;

use crate::bus::{Line, MsiSink};
use crate::dma::{Dma, DmaWatch, Gate, Translate};
use crate::mem::GuestRam;
use crate::trace::Bdf;

use super::interrupts::Interrupts;

/// A place for one function. Its device clones [`Seat::dma`] and [`Seat::interrupts`] for itself and
/// its workers before [`super::Function::new`] takes the seat.
#[derive(Debug)]
pub struct Seat {
    bdf: Bdf,
    gate: Gate,
    dma: Dma,
    interrupts: Interrupts,
}

impl Seat {
    /// The seat at `bdf`. DMA goes through `translator`, when there is one, and both DMA and messages
    /// only while the function is bus master. `line` is its interrupt pin.
    #[must_use]
    pub fn new(
        bdf: Bdf,
        ram: GuestRam,
        translator: Option<Arc<dyn Translate>>,
        messages: Arc<dyn MsiSink>,
        line: Option<Line>,
    ) -> Self {
        let gate = Gate::new(false);
        Self {
            bdf,
            dma: Dma::new(ram, translator, bdf, gate.clone()),
            interrupts: Interrupts::new(bdf, gate.clone(), messages, line),
            gate,
        }
    }

    /// The same, and `watch` hears of its DMA that goes astray.
    #[must_use]
    pub fn watched(self, watch: Arc<dyn DmaWatch>) -> Self {
        Self {
            dma: self.dma.watched(watch),
            ..self
        }
    }

    /// The function's address, which is its requester id.
    #[must_use]
    pub const fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Its way to memory.
    #[must_use]
    pub fn dma(&self) -> Dma {
        self.dma.clone()
    }

    /// Its ways to interrupt.
    #[must_use]
    pub fn interrupts(&self) -> Interrupts {
        self.interrupts.clone()
    }

    pub(super) fn into_parts(self) -> (Bdf, Gate, Interrupts) {
        (self.bdf, self.gate, self.interrupts)
    }
}
