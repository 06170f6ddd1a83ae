//! Bus, device and function: the name of a PCI function, and of whoever sends DMA or an MSI.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A PCI address, which is also the requester id on the bus (PCI 3.0, 3.2.2.3.4): bus in bits 15:8,
/// device in 7:3, function in 2:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(pub u16);

impl Bdf {
    /// From its parts; none when device or function are out of range.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self(
            (bus as u16) << 8 | (device as u16) << 3 | function as u16,
        ))
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}:{:02x}.{:x}",
            self.0 >> 8,
            self.0 >> 3 & 31,
            self.0 & 7
        )
    }
}

impl Serialize for Bdf {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Text that is not `BB:DD.F`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a PCI address; write BB:DD.F in hexadecimal, for example 00:02.0")]
pub struct BadBdf(String);

impl FromStr for Bdf {
    type Err = BadBdf;

    fn from_str(text: &str) -> Result<Self, BadBdf> {
        let parts = || {
            let (bus, rest) = text.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let hex = |digits: &str| u8::from_str_radix(digits, 16).ok();
            Self::new(hex(bus)?, hex(device)?, hex(function)?)
        };
        parts().ok_or_else(|| BadBdf(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_agree() {
        let bdf: Bdf = "03:1f.7".parse().unwrap();
        assert_eq!((bdf.0, bdf.to_string()), (0x03ff, "03:1f.7".into()));
        for bad in [
            "",
            "00",
            "00:20.0",
            "00:1f.8",
            "0000:00:1f.0",
            "g0:00.0",
            "00:00",
        ] {
            assert!(bad.parse::<Bdf>().is_err(), "{bad}");
        }
    }
}
