//! How a function interrupts: INTx, MSI or MSI-X, whichever its configuration space chooses.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Line, Msi, MsiSink};
use crate::dma::Gate;
use crate::trace::Bdf;

use super::msi::{MsiSetup, MsiShape};
use super::msix::{Msix, MsixShape, Part};
use super::regs;
use super::space::ConfigSpace;

/// Capabilities and where they lie in configuration space.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Offers {
    pub(super) msi: Option<(u8, MsiShape)>,
    pub(super) msix: Option<(u8, MsixShape)>,
}

/// What a saved state holds of a function's interrupts; the rest follows from configuration space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// What the device wants of its INTx.
    level: bool,
    msi_pending: u32,
    msix: Msix,
}

struct State {
    saved: Saved,
    intx_off: bool,
    msi: Option<MsiSetup>,
}

impl State {
    fn uses_messages(&self) -> bool {
        self.saved.msix.enabled || self.msi.is_some_and(|msi| msi.enabled)
    }

    /// What INTx is driven to: a function that sends messages, or must not, leaves it alone
    /// (6.8.3.3, 6.2.2).
    fn drives(&self) -> bool {
        self.saved.level && !self.intx_off && !self.uses_messages()
    }

    /// Messages that were pending and can go now.
    fn released(&mut self) -> Vec<(u64, u32)> {
        if self.saved.msix.enabled {
            return self.saved.msix.released();
        }
        let Some(msi) = self.msi.filter(|msi| msi.enabled) else {
            return Vec::new();
        };
        let pending = self.saved.msi_pending;
        let ready = (0..32_u32).filter(|&v| pending.wrapping_shr(v) & 1 != 0 && !msi.is_masked(v));
        let mut messages = Vec::new();
        for vector in ready {
            self.saved.msi_pending &= !1_u32.wrapping_shl(vector);
            messages.push(msi.message(vector));
        }
        messages
    }
}

struct Inner {
    requester: Bdf,
    gate: Gate,
    sink: Arc<dyn MsiSink>,
    line: Option<Line>,
    state: Mutex<State>,
}

/// A function's interrupts: what its device and the device's workers hold. A leaf in the lock order:
/// messages are sent with its lock dropped, for an IOMMU may stand in their way.
#[derive(Clone)]
pub struct Interrupts(Arc<Inner>);

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupts")
            .field(&self.0.requester)
            .finish()
    }
}

impl Interrupts {
    pub(super) fn new(
        requester: Bdf,
        gate: Gate,
        sink: Arc<dyn MsiSink>,
        line: Option<Line>,
    ) -> Self {
        let state = State {
            saved: Saved::default(),
            intx_off: false,
            msi: None,
        };
        Self(Arc::new(Inner {
            requester,
            gate,
            sink,
            line,
            state: Mutex::new(state),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what the device wants of its INTx, which is driven while no messages are used.
    pub fn set_level(&self, level: bool) {
        let mut state = self.lock();
        state.saved.level = level;
        self.drive(&state);
    }

    /// Whether MSI or MSI-X is on: an event then is a [`Interrupts::message`].
    #[must_use]
    pub fn uses_messages(&self) -> bool {
        self.lock().uses_messages()
    }

    /// Sends the message of `vector` by MSI-X or MSI, whichever is on; a masked one stays pending.
    pub fn message(&self, vector: u16) {
        let message = {
            let mut state = self.lock();
            if state.saved.msix.enabled {
                state.saved.msix.signal(vector)
            } else {
                let msi = state.msi.filter(|msi| msi.enabled);
                msi.and_then(|msi| {
                    let vector = msi.granted(vector);
                    if msi.is_masked(vector) {
                        state.saved.msi_pending |= 1_u32.wrapping_shl(vector);
                        return None;
                    }
                    Some(msi.message(vector))
                })
            }
        };
        self.send(message);
    }

    /// A message is a memory write, and a function that is not bus master makes none (6.8.3).
    fn send(&self, messages: impl IntoIterator<Item = (u64, u32)>) {
        for (address, data) in messages {
            if self.0.gate.is_open() {
                self.0.sink.send(Msi {
                    requester: self.0.requester,
                    address,
                    data,
                });
            }
        }
    }

    /// Drives INTx under the lock, so that two threads cannot leave the wrong level behind.
    fn drive(&self, state: &State) {
        if let Some(line) = &self.0.line
            && line.level() != state.drives()
        {
            line.set(state.drives());
        }
    }

    /// What the device wants of its INTx: STATUS shows it whatever becomes of it.
    pub(super) fn level(&self) -> bool {
        self.lock().saved.level
    }

    pub(super) fn msi_pending(&self) -> u32 {
        self.lock().saved.msi_pending
    }

    fn configure(state: &mut State, config: &ConfigSpace, offers: &Offers) {
        let command = config.word(regs::COMMAND);
        state.intx_off = command & regs::COMMAND_INTX_DISABLE != 0;
        state.msi = offers
            .msi
            .map(|(at, shape)| MsiSetup::of(config, at, shape));
        if let Some((at, shape)) = offers.msix {
            if state.saved.msix.len() != usize::from(shape.vectors) {
                state.saved.msix = Msix::new(shape.vectors);
            }
            state.saved.msix.configure(config, at);
        }
    }

    /// The guest may have changed configuration space.
    pub(super) fn configured(&self, config: &ConfigSpace, offers: &Offers) {
        let released = {
            let mut state = self.lock();
            Self::configure(&mut state, config, offers);
            self.drive(&state);
            state.released()
        };
        self.send(released);
    }

    pub(super) fn read_msix(&self, part: Part, at: Access) -> Answer<u64> {
        self.lock().saved.msix.read(part, at.width)
    }

    pub(super) fn write_msix(&self, part: Part, at: Access, value: u64) -> Answer<()> {
        let released = {
            let mut state = self.lock();
            state.saved.msix.write(part, at.width, value)?;
            state.released()
        };
        self.send(released);
        Ok(())
    }

    pub(super) fn reset(&self, config: &ConfigSpace, offers: &Offers) {
        let mut state = self.lock();
        state.saved = Saved::default();
        Self::configure(&mut state, config, offers);
        self.drive(&state);
    }

    pub(super) fn save(&self) -> Saved {
        self.lock().saved.clone()
    }

    /// Whether `saved` fits a function with these capabilities.
    pub(super) fn can_be(saved: &Saved, offers: &Offers) -> bool {
        let vectors = offers
            .msix
            .map_or(0, |(_, shape)| usize::from(shape.vectors));
        let masks = offers.msi.is_some_and(|(_, shape)| shape.masks);
        saved.msix.len() == vectors && (masks || saved.msi_pending == 0)
    }

    /// Puts a state back, without edges or messages.
    pub(super) fn load(&self, saved: Saved, config: &ConfigSpace, offers: &Offers) {
        let mut state = self.lock();
        state.saved = saved;
        Self::configure(&mut state, config, offers);
        if let Some(line) = &self.0.line {
            line.restore(state.drives());
        }
    }
}
