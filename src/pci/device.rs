//! What a device has to say to be a PCI function.

use crate::bus::{Access, Answer, Effects, Ns, Place, ResetKind, StateError, Window};

use super::bar::Bar;
use super::capability::Capability;
use super::field::Field;
use super::header::Header;
use super::space::ConfigSpace;

/// The first number for windows other than BARs, which have their index.
pub const FIRST_OWN_WINDOW: u8 = 0x10;

/// What a function looks like in configuration space.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The standard header.
    pub header: Header,
    /// Its base address registers.
    pub bars: Vec<Bar>,
    /// Its capabilities, in the order of the list.
    pub capabilities: Vec<Capability>,
    /// Where the first capability lies; from 0x40 on, clear of `registers`.
    pub first_capability: u8,
    /// Configuration registers of its own.
    pub registers: Vec<Field>,
}

impl Shape {
    /// Just a header.
    #[must_use]
    pub const fn new(header: Header) -> Self {
        Self {
            header,
            bars: Vec::new(),
            capabilities: Vec::new(),
            first_capability: super::regs::FIRST_OWN,
            registers: Vec::new(),
        }
    }
}

/// A device that is a PCI function: what is behind the BARs. [`super::Function`] makes a
/// [`crate::bus::Device`] of it; methods of the same name mean the same here.
pub trait PciDevice: Send {
    /// Name for listings, traces and errors.
    fn label(&self) -> &'static str;

    /// What it looks like; the same every time.
    fn shape(&self) -> Shape;

    /// Windows that are not BARs: fixed ports, or ones a register of its own places. Numbers from
    /// [`FIRST_OWN_WINDOW`] on.
    fn windows(&self) -> Vec<Window> {
        Vec::new()
    }

    /// Where those of its windows without a fixed base lie by its configuration registers.
    fn places(&self, _config: &ConfigSpace) -> Vec<Place> {
        Vec::new()
    }

    /// Configuration space may have changed: a write, a reset, a load. Takes over what it says; doing
    /// it twice is doing it once.
    fn configured(&mut self, _config: &ConfigSpace) {}

    /// A read of a BAR, whose index is the window, or of a window of its own.
    ///
    /// # Errors
    /// [`crate::bus::Refusal`].
    fn read(&mut self, at: Access, effects: &mut Effects) -> Answer<u64>;

    /// A write to a BAR or a window of its own.
    ///
    /// # Errors
    /// [`crate::bus::Refusal`].
    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()>;

    /// Back to the state after reset; INTx is lowered and configuration space reset already.
    fn reset(&mut self, kind: ResetKind);

    /// The volatile state, without configuration space and interrupts.
    fn save(&self) -> serde_json::Value;

    /// Puts a saved state back, without making edges on lines.
    ///
    /// # Errors
    /// [`StateError`]; the device is then unchanged.
    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError>;

    /// When it next wants [`PciDevice::wake`].
    fn deadline(&self) -> Option<Ns> {
        None
    }

    /// Time has reached the deadline.
    fn wake(&mut self, _effects: &mut Effects) {}

    /// Stops background work; work already taken is finished first.
    fn park(&mut self) {}

    /// Goes on after [`PciDevice::park`].
    fn unpark(&mut self) {}
}
