//! One emulated device as the bus sees it: registers, and nothing about where they live.

use crate::trace::Space;

use super::clock::Ns;
use super::effect::Effects;

/// Width of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits; memory only.
    Qword,
}

impl Width {
    /// The width of `bytes` bytes; none for widths no instruction has.
    #[must_use]
    pub const fn of(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// All ones: what a floating bus reads as.
    #[must_use]
    pub const fn ones(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
            Self::Qword => u64::MAX,
        }
    }
}

/// One access, relative to a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Which of the device's windows.
    pub window: u8,
    /// Offset of the first byte in it. The access lies wholly inside the window.
    pub offset: u64,
    /// How many bytes.
    pub width: Width,
}

/// A range of addresses a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The device's own number for it.
    pub id: u8,
    /// Name for listings, from the data sheet.
    pub name: &'static str,
    /// Ports or memory.
    pub space: Space,
    /// Where it lies; none when an [`super::Effect::Place`] will say.
    pub base: Option<u64>,
    /// Length in bytes.
    pub len: u64,
}

/// Where a movable window lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The device's own number for it.
    pub window: u8,
    /// Ports or memory.
    pub space: Space,
    /// First address.
    pub base: u64,
}

/// A refusal is ordinary guest behaviour: the bus fills ones, counts and traces; the device does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing at that offset.
    NoSuchRegister,
    /// The register does not take this width.
    BadWidth,
    /// A bridge passes the cycle on: the bus runs it at that address, once.
    Forward {
        /// The space on the other side.
        space: Space,
        /// The address there.
        address: u64,
    },
}

/// What a device answers.
pub type Answer<T> = Result<T, Refusal>;

/// How hard a reset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetKind {
    /// Power on: everything, CMOS and latches included.
    Cold,
    /// PCI reset and CPU INIT, as 0xcf9 and 0xfe do.
    Warm,
}

/// A saved state that does not fit the device.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not the shape this device writes.
    #[error("the saved state of {device} cannot be read")]
    Shape {
        /// Which device.
        device: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The right shape with an impossible value.
    #[error("the saved state of {device} is impossible: {what}")]
    Impossible {
        /// Which device.
        device: String,
        /// What is wrong with it.
        what: String,
    },
}

/// An emulated device.
///
/// Volatile state is one serde struct of its own: building it fresh *is* the reset, cloning it is
/// the save, and loading one is checked like any other untrusted input.
pub trait Device: Send {
    /// Name for listings, traces and errors.
    fn label(&self) -> &'static str;

    /// Every window it will ever answer.
    fn windows(&self) -> Vec<Window>;

    /// A read. The value's bits above the width are ignored.
    ///
    /// # Errors
    /// [`Refusal`]: the bus then reads as ones.
    fn read(&mut self, at: Access, effects: &mut Effects) -> Answer<u64>;

    /// A write. The value's bits above the width are zero.
    ///
    /// # Errors
    /// [`Refusal`]: the bus then drops the write.
    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()>;

    /// Back to the state after reset, lines included.
    fn reset(&mut self, kind: ResetKind);

    /// The volatile state.
    fn save(&self) -> serde_json::Value;

    /// Puts a saved state back, without making edges on lines.
    ///
    /// # Errors
    /// [`StateError`]; the device is then unchanged.
    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError>;

    /// Where the windows without a fixed base lie, by the device's state. Asked after a reset and a
    /// load; accesses say what they move by an effect.
    fn places(&self) -> Vec<Place> {
        Vec::new()
    }

    /// When it next wants [`Device::wake`]; asked after every access and every wake.
    fn deadline(&self) -> Option<Ns> {
        None
    }

    /// Time has reached the deadline.
    fn wake(&mut self, _effects: &mut Effects) {}

    /// Stops background work; work already taken is finished first. Most devices have none.
    fn park(&mut self) {}

    /// Goes on after [`Device::park`].
    fn unpark(&mut self) {}
}
