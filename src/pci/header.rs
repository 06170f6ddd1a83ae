//! The standard header as data.

use crate::bus::Width;

use super::field::Field;
use super::regs;

/// An interrupt pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// INTA#
    A = 1,
    /// INTB#
    B,
    /// INTC#
    C,
    /// INTD#
    D,
}

/// What tells one function from another.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Revision ID.
    pub revision: u8,
    /// Class code: base class in bits 23:16, sub-class, programming interface.
    pub class: u32,
    /// Whether other functions of the device follow.
    pub multifunction: bool,
    /// Subsystem vendor and subsystem.
    pub subsystem: (u16, u16),
    /// Its interrupt pin.
    pub pin: Option<Pin>,
    /// COMMAND after reset.
    pub command: u16,
    /// What can be written of COMMAND.
    pub command_writable: u16,
    /// STATUS after reset.
    pub status: u16,
}

impl Header {
    /// A function that answers and masters the bus when told, with one interrupt pin or none.
    #[must_use]
    pub const fn new(vendor: u16, device: u16, class: u32) -> Self {
        Self {
            vendor,
            device,
            revision: 0,
            class,
            multifunction: false,
            subsystem: (0, 0),
            pin: None,
            command: 0,
            command_writable: regs::COMMAND_IO
                | regs::COMMAND_MEMORY
                | regs::COMMAND_MASTER
                | regs::COMMAND_PARITY
                | regs::COMMAND_SERR
                | regs::COMMAND_INTX_DISABLE,
            status: 0,
        }
    }

    /// Its registers; `capabilities` is where the list of them begins.
    pub(super) fn fields(&self, capabilities: Option<u8>) -> Vec<Field> {
        let class = self.class.to_le_bytes();
        let list = match capabilities {
            Some(_) => regs::STATUS_CAPABILITIES,
            None => 0,
        };
        let word = |name, offset, value: u16| Field::fixed(name, offset, Width::Word, value.into());
        let byte = |name, offset, value: u8| Field::fixed(name, offset, Width::Byte, value.into());
        let mut fields = vec![
            word("VID", regs::VENDOR_ID, self.vendor),
            word("DID", regs::DEVICE_ID, self.device),
            Field {
                writable: self.command_writable.into(),
                ..word("PCICMD", regs::COMMAND, self.command)
            },
            word("PCISTS", regs::STATUS, self.status | list).clearing(regs::STATUS_ERRORS.into()),
            byte("RID", regs::REVISION, self.revision),
            byte("PI", regs::CLASS, class[0]),
            word("CLASSC", 0x0a, u16::from_le_bytes([class[1], class[2]])),
            Field::plain("CLS", regs::CACHE_LINE_SIZE, Width::Byte, 0, 0xff),
            Field::plain("MLT", regs::LATENCY_TIMER, Width::Byte, 0, 0xf8),
            byte(
                "HEDT",
                regs::HEADER_TYPE,
                if self.multifunction {
                    regs::MULTIFUNCTION
                } else {
                    0
                },
            ),
            word("SVID", regs::SUBSYSTEM_VENDOR_ID, self.subsystem.0),
            word("SID", regs::SUBSYSTEM_ID, self.subsystem.1),
            byte("CAPPTR", regs::CAPABILITIES, capabilities.unwrap_or(0)),
        ];
        if let Some(pin) = self.pin {
            fields.push(Field::plain(
                "INTLN",
                regs::INTERRUPT_LINE,
                Width::Byte,
                0,
                0xff,
            ));
            fields.push(byte("INTPN", regs::INTERRUPT_PIN, pin as u8));
        }
        fields
    }
}
