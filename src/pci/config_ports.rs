//! Configuration mechanism 1: CONFIG_ADDRESS at 0xcf8 and CONFIG_DATA at 0xcfc (PCI 3.0, 3.2.2.3.2).

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Refusal, Width};
use crate::trace::{Bdf, Space};

/// CONFIG_ADDRESS: data accesses become configuration cycles.
const ENABLE: u32 = 1 << 31;
/// Bus, device, function, register. The low two bits are kept, as QEMU does: kvm-unit-tests selects
/// bytes with them.
const TARGET: u32 = 0x00ff_ffff;
/// Offset of CONFIG_DATA.
const DATA: u64 = 4;

/// The address of a function's register in [`Space::Config`].
#[must_use]
pub const fn config_address(function: Bdf, register: u8) -> u64 {
    // `From` is not const.
    (function.0 as u64) << 8 | register as u64
}

/// The two registers. Only dword accesses to CONFIG_ADDRESS are for it; narrower ones are ordinary
/// I/O, and so reach the reset control register that lies under it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigPorts {
    address: u32,
}

impl ConfigPorts {
    /// A read at an offset from 0xcf8.
    ///
    /// # Errors
    /// [`Refusal::Forward`] to configuration space.
    pub const fn read(&self, at: Access) -> Answer<u64> {
        match (at.offset, at.width) {
            (0, Width::Dword) => Ok(self.address as u64),
            _ => Err(self.forward(at.offset)),
        }
    }

    /// A write at an offset from 0xcf8.
    ///
    /// # Errors
    /// [`Refusal::Forward`] to configuration space.
    pub fn write(&mut self, at: Access, value: u64) -> Answer<()> {
        match (at.offset, at.width, u32::try_from(value)) {
            (0, Width::Dword, Ok(value)) => {
                self.address = value & (ENABLE | TARGET);
                Ok(())
            }
            _ => Err(self.forward(at.offset)),
        }
    }

    const fn forward(&self, offset: u64) -> Refusal {
        if offset < DATA || self.address & ENABLE == 0 {
            return Refusal::NoSuchRegister;
        }
        Refusal::Forward {
            space: Space::Config,
            address: (self.address & TARGET) as u64 | offset & 3,
        }
    }

    /// Whether a guest can have written this.
    #[must_use]
    pub const fn can_be(&self) -> bool {
        self.address & !(ENABLE | TARGET) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, width: Width) -> Access {
        Access {
            window: 0,
            offset,
            width,
        }
    }

    fn forwarded(ports: &ConfigPorts, offset: u64, width: Width) -> Option<u64> {
        match ports.read(at(offset, width)) {
            Err(Refusal::Forward { address, .. }) => Some(address),
            _ => None,
        }
    }

    #[test]
    fn only_a_dword_reaches_the_address_register() {
        let mut ports = ConfigPorts::default();
        ports.write(at(0, Width::Dword), 0x8000_1004).unwrap();
        assert!(ports.write(at(0, Width::Word), 0).is_err());
        assert!(ports.write(at(1, Width::Byte), 0).is_err());
        assert!(ports.read(at(3, Width::Byte)).is_err());
        assert_eq!(ports.read(at(0, Width::Dword)), Ok(0x8000_1004));
    }

    #[test]
    fn low_bits_of_port_and_address_select_the_byte() {
        let mut ports = ConfigPorts::default();
        assert_eq!(forwarded(&ports, 4, Width::Dword), None, "not enabled");
        ports.write(at(0, Width::Dword), 0x8000_1004).unwrap();
        assert_eq!(forwarded(&ports, 4, Width::Dword), Some(0x1004));
        assert_eq!(forwarded(&ports, 6, Width::Word), Some(0x1006));
        ports.write(at(0, Width::Dword), 0x8000_103e).unwrap();
        assert_eq!(forwarded(&ports, 4, Width::Byte), Some(0x103e));
        assert_eq!(forwarded(&ports, 5, Width::Byte), Some(0x103f));
    }

    #[test]
    fn the_address_of_a_function_is_what_the_register_holds() {
        let function = Bdf::new(1, 2, 3).unwrap();
        assert_eq!(config_address(function, 0x40), 0x1_1340);
    }
}
