//! Command codes (ATA/ATAPI-7, clause 6). What is not here is aborted.

use super::task_file::Address;

/// How the data of a command travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Travel {
    /// Through the data port, an interrupt for each sector.
    Pio,
    /// Through the data port, an interrupt for as many sectors as SET MULTIPLE MODE says.
    Multiple,
    /// By the bus master.
    Dma,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Read(Travel, Address),
    Write(Travel, Address),
    Verify(Address),
    Flush,
    Identify,
    IdentifyPacket,
    Packet,
    DeviceReset,
    Diagnostic,
    Recalibrate,
    InitializeParameters,
    SetMultiple,
    SetFeatures,
    Idle,
    Standby,
    Sleep,
    CheckPower,
}

impl Command {
    /// The command of a code; none for those that are aborted, NOP and SMART among them.
    pub(super) const fn of(code: u8) -> Option<Self> {
        use Address::{Long, Short};
        Some(match code {
            0x08 => Self::DeviceReset,
            0x10 => Self::Recalibrate,
            0x20 => Self::Read(Travel::Pio, Short),
            0x24 => Self::Read(Travel::Pio, Long),
            0x25 => Self::Read(Travel::Dma, Long),
            0x29 => Self::Read(Travel::Multiple, Long),
            0x30 => Self::Write(Travel::Pio, Short),
            0x34 => Self::Write(Travel::Pio, Long),
            0x35 => Self::Write(Travel::Dma, Long),
            0x39 => Self::Write(Travel::Multiple, Long),
            0x40 => Self::Verify(Short),
            0x42 => Self::Verify(Long),
            0x90 => Self::Diagnostic,
            0x91 => Self::InitializeParameters,
            0xa0 => Self::Packet,
            0xa1 => Self::IdentifyPacket,
            0xc4 => Self::Read(Travel::Multiple, Short),
            0xc5 => Self::Write(Travel::Multiple, Short),
            0xc6 => Self::SetMultiple,
            0xc8 => Self::Read(Travel::Dma, Short),
            0xca => Self::Write(Travel::Dma, Short),
            0xe0 | 0xe2 => Self::Standby,
            0xe1 | 0xe3 => Self::Idle,
            0xe5 => Self::CheckPower,
            0xe6 => Self::Sleep,
            0xe7 | 0xea => Self::Flush,
            0xec => Self::Identify,
            0xef => Self::SetFeatures,
            _ => return None,
        })
    }
}
