//! What all drives have in common: phases, the data port, and how commands end.

use serde::{Deserialize, Serialize};

use crate::bus::{StateError, state};

use super::command::Command;
use super::medium::MediumFault;
use super::packet::Sense;
use super::regs;
use super::task_file::{Address, Geometry, TaskFile};

/// Bytes that go between a medium and the data port at a time.
const BATCH: u64 = 64 << 10;
/// The most that a buffer can hold: a batch, or a packet command's reply.
const BUFFER_MAX: usize = 1 << 16;

/// What kind of drive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveKind {
    /// A hard disk.
    Disk,
    /// A CD-ROM drive with a disc in it.
    CdRom,
}

impl DriveKind {
    const fn sector(self) -> u64 {
        match self {
            Self::Disk => regs::SECTOR,
            Self::CdRom => regs::CD_SECTOR,
        }
    }
}

/// What a drive wants of its medium; [`Drive::complete`] tells it how that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Read {
        at: u64,
        len: u64,
    },
    /// `durable`: before it is done the bytes are to be safe, for there is no write cache.
    Write {
        at: u64,
        bytes: Vec<u8>,
        durable: bool,
    },
    Verify {
        at: u64,
        len: u64,
    },
    Flush,
    Move(Plan),
}

/// What the bus master is to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    FromMedium { at: u64, len: u64 },
    FromBuffer(Vec<u8>),
    ToMedium { at: u64, len: u64, durable: bool },
}

/// How a request went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// What was read, up to a fault.
    pub(super) bytes: Vec<u8>,
    /// How many bytes were read, written, verified or moved before a fault; whole sectors.
    pub(super) good: u64,
    pub(super) fault: Option<Fault>,
}

/// What stopped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fault {
    Unreadable,
    Unwritable,
    /// Memory could not be reached.
    Bus,
}

impl From<MediumFault> for Fault {
    fn from(fault: MediumFault) -> Self {
        match fault {
            MediumFault::Unreadable => Self::Unreadable,
            MediumFault::Unwritable => Self::Unwritable,
        }
    }
}

/// What a drive is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    Idle,
    /// The guest takes bytes from the data port.
    DataIn,
    /// The guest gives sectors to the data port.
    DataOut,
    /// The guest gives a packet command to the data port.
    Packet,
    /// The bus master is to be started.
    DmaReady,
    /// A request is under way: sectors for the data port, sectors from it, no data, the bus master's.
    Filling,
    Draining,
    Checking,
    Moving,
}

impl Phase {
    const fn is_under_way(self) -> bool {
        matches!(
            self,
            Self::Filling | Self::Draining | Self::Checking | Self::Moving
        )
    }
}

/// The rest of a command's sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    pub(super) form: Address,
    pub(super) sector: u64,
    pub(super) left: u32,
    /// Bytes between two interrupts.
    pub(super) block: u32,
    /// Whether the bus master moves it towards memory.
    pub(super) to_memory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Power {
    Active,
    Idle,
    Standby,
    /// Answers nothing before a reset.
    Sleep,
}

/// The volatile state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DriveState {
    pub(super) task: TaskFile,
    /// INTRQ, as the drive wants it.
    pub(super) interrupt: bool,
    pub(super) phase: Phase,
    pub(super) transfer: Transfer,
    pub(super) buffer: Vec<u8>,
    /// What of the buffer has passed the data port, and where the next interrupt is due.
    at: usize,
    block_end: usize,
    /// Comes when the buffer is empty.
    fault: Option<Fault>,
    pub(super) geometry: Geometry,
    /// Sectors per block of READ and WRITE MULTIPLE; zero before they are set.
    pub(super) multiple: u8,
    /// The multiword DMA mode, as its bit in IDENTIFY; zero when a PIO mode was chosen.
    pub(super) dma_mode: u8,
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
    pub(super) power: Power,
    /// Whether the command is a PACKET, and whether its data goes by DMA.
    pub(super) in_packet: bool,
    pub(super) packet_dma: bool,
    pub(super) sense: Sense,
}

impl DriveState {
    fn fresh(kind: DriveKind) -> Self {
        Self {
            task: TaskFile::signature(kind == DriveKind::CdRom),
            interrupt: false,
            phase: Phase::Idle,
            transfer: Transfer {
                form: Address::Short,
                sector: 0,
                left: 0,
                block: 0,
                to_memory: true,
            },
            buffer: Vec::new(),
            at: 0,
            block_end: 0,
            fault: None,
            geometry: Geometry::default(),
            multiple: 0,
            dma_mode: 1 << 2,
            write_cache: true,
            look_ahead: true,
            power: Power::Active,
            in_packet: false,
            packet_dma: false,
            sense: Sense::default(),
        }
    }
}

/// A drive.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) kind: DriveKind,
    /// Bytes of its medium in whole sectors.
    pub(super) sectors: u64,
    /// 0 to 3: which of the board's drives it is, for its serial number.
    pub(super) number: u8,
    /// The request whose end it waits for.
    pub(super) awaited: Option<u64>,

    pub(super) state: DriveState,
}

impl Drive {
    pub(super) fn new(kind: DriveKind, len: u64, number: u8) -> Self {
        Self {
            kind,
            sectors: len.checked_div(kind.sector()).unwrap_or(0),
            number,
            awaited: None,
            state: DriveState::fresh(kind),
        }
    }

    /// Power on.
    pub(super) fn reset(&mut self) {
        self.awaited = None;
        self.state = DriveState::fresh(self.kind);
    }

    /// SRST, DEVICE RESET and the diagnostic: settings stay, what was under way is forgotten.
    pub(super) fn soft_reset(&mut self) {
        let fresh = DriveState::fresh(self.kind);
        self.awaited = None;
        self.state = DriveState {
            geometry: self.state.geometry,
            multiple: self.state.multiple,
            dma_mode: self.state.dma_mode,
            write_cache: self.state.write_cache,
            look_ahead: self.state.look_ahead,
            ..fresh
        };
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.state.task.status & regs::BSY != 0
    }

    /// A write to the command block; data has a way of its own.
    pub(super) fn write(&mut self, offset: u64, value: u8) {
        if !self.is_busy() {
            self.state.task.write(offset, value);
        }
    }

    /// A command for this drive. One that comes in the middle of another is dropped, but for the
    /// DEVICE RESET of a packet drive.
    pub(super) fn command(&mut self, code: u8) -> Option<Request> {
        let command = Command::of(code);
        if command == Some(Command::DeviceReset) && self.kind == DriveKind::CdRom {
            let device = self.state.task.device;
            self.soft_reset();
            self.state.task.device = device;
            return None;
        }
        if self.state.phase != Phase::Idle || self.state.power == Power::Sleep {
            return None;
        }
        self.state.interrupt = false;
        self.state.task.error = 0;
        match self.kind {
            DriveKind::Disk => self.disk_command(command),
            DriveKind::CdRom => self.cd_command(command),
        }
    }

    fn set_status(&mut self, bits: u8) {
        self.state.task.status = regs::DRDY | regs::DSC | bits;
    }

    /// The command has done what it should.
    pub(super) fn succeed(&mut self) {
        self.set_status(0);
        self.state.phase = Phase::Idle;
        self.state.interrupt = true;
    }

    /// The command has failed with these bits of status and error.
    pub(super) fn fail(&mut self, status: u8, error: u8) {
        self.set_status(status);
        self.state.task.error = error;
        self.state.phase = Phase::Idle;
        self.state.interrupt = true;
    }

    pub(super) fn abort(&mut self) {
        self.fail(regs::ERR, regs::ABRT);
    }

    /// The command has failed at the transfer's next sector.
    fn fail_at_sector(&mut self, fault: Fault) {
        let Transfer { form, sector, .. } = self.state.transfer;
        if self.kind == DriveKind::CdRom {
            return self.fail_packet(match fault {
                Fault::Bus => Sense::ABORTED,
                Fault::Unreadable | Fault::Unwritable => Sense::UNREADABLE,
            });
        }
        let geometry = self.state.geometry;
        self.state.task.set_sector(sector, form, geometry);
        match fault {
            Fault::Unreadable => self.fail(regs::ERR, regs::UNC),
            // A write fault: DF, and nothing in the error register.
            Fault::Unwritable => self.fail(regs::DF, 0),
            Fault::Bus => self.abort(),
        }
    }

    /// Goes on in the background.
    pub(super) fn begin(&mut self, phase: Phase) {
        self.set_status(regs::BSY);
        self.state.phase = phase;
    }

    /// Has the guest take `bytes` from the data port, with an interrupt for every `block` of them.
    pub(super) fn offer(&mut self, bytes: Vec<u8>, block: u32) {
        self.state.transfer.block = block.max(1);
        self.state.buffer = bytes;
        self.state.at = 0;
        self.state.phase = Phase::DataIn;
        self.next_block();
    }

    fn next_block(&mut self) {
        let block = usize::try_from(self.state.transfer.block).unwrap_or(usize::MAX);
        let end = self.state.at.saturating_add(block);
        self.state.block_end = end.min(self.state.buffer.len());
        if self.state.in_packet {
            self.announce(self.state.block_end.saturating_sub(self.state.at));
        }
        self.set_status(regs::DRQ);
        self.state.interrupt = true;
    }

    /// Has the guest give `len` bytes to the data port.
    pub(super) fn accept(&mut self, len: usize, phase: Phase) {
        self.state.buffer = vec![0; len.min(BUFFER_MAX)];
        self.state.at = 0;
        self.state.block_end = self.state.buffer.len();
        self.state.phase = phase;
        self.set_status(regs::DRQ);
    }

    /// The next block of a WRITE through the data port.
    pub(super) fn accept_sectors(&mut self) {
        let rest = u64::from(self.state.transfer.left).saturating_mul(self.kind.sector());
        let block = rest.min(self.state.transfer.block.into());
        self.accept(usize::try_from(block).unwrap_or(BUFFER_MAX), Phase::DataOut);
    }

    /// The next sectors of a READ through the data port.
    pub(super) fn fetch(&mut self) -> Request {
        self.begin(Phase::Filling);
        let at = self.offset();
        let rest = u64::from(self.state.transfer.left).saturating_mul(self.kind.sector());
        Request::Read {
            at,
            len: rest.min(BATCH),
        }
    }

    /// Where on the medium the transfer's next sector lies.
    pub(super) const fn offset(&self) -> u64 {
        self.state
            .transfer
            .sector
            .saturating_mul(self.kind.sector())
    }

    /// A read of the data port: `out` bytes of it, zeros when there is nothing to take.
    pub(super) fn read_data(&mut self, out: &mut [u8]) -> Option<Request> {
        if self.state.phase != Phase::DataIn {
            return None;
        }
        let (at, end) = (self.state.at, self.state.block_end);
        let rest = self.state.buffer.get(at..end).unwrap_or_default();
        for (to, from) in out.iter_mut().zip(rest) {
            *to = *from;
        }
        self.state.at = at.saturating_add(out.len()).min(end);
        if self.state.at < end {
            return None;
        }
        if self.state.at < self.state.buffer.len() {
            self.next_block();
        } else if let Some(fault) = self.state.fault.take() {
            self.fail_at_sector(fault);
        } else if self.state.transfer.left > 0 {
            return Some(self.fetch());
        } else if self.state.in_packet {
            self.finish_packet();
        } else {
            // The guest has seen the interrupt of the last block.
            self.set_status(0);
            self.state.phase = Phase::Idle;
        }
        None
    }

    /// A write to the data port.
    pub(super) fn write_data(&mut self, bytes: &[u8]) -> Option<Request> {
        if !matches!(self.state.phase, Phase::DataOut | Phase::Packet) {
            return None;
        }
        let (at, end) = (self.state.at, self.state.block_end);
        if let Some(room) = self.state.buffer.get_mut(at..end) {
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        self.state.at = at.saturating_add(bytes.len()).min(end);
        if self.state.at < end {
            return None;
        }
        let bytes = std::mem::take(&mut self.state.buffer);
        self.state.at = 0;
        self.state.block_end = 0;
        if self.state.phase == Phase::Packet {
            return self.packet(&bytes);
        }
        self.begin(Phase::Draining);
        Some(Request::Write {
            at: self.offset(),
            bytes,
            durable: !self.state.write_cache,
        })
    }

    /// What the bus master is to move, once: none when the drive waits for no bus master.
    pub(super) fn start_dma(&mut self, to_memory: bool) -> Option<Plan> {
        let Transfer {
            left,
            to_memory: way,
            ..
        } = self.state.transfer;
        if self.state.phase != Phase::DmaReady || way != to_memory {
            return None;
        }
        self.begin(Phase::Moving);
        let (at, len) = (
            self.offset(),
            u64::from(left).saturating_mul(self.kind.sector()),
        );
        Some(match (left, to_memory) {
            (0, _) => Plan::FromBuffer(self.state.buffer.clone()),
            (_, true) => Plan::FromMedium { at, len },
            (_, false) => Plan::ToMedium {
                at,
                len,
                durable: !self.state.write_cache,
            },
        })
    }

    /// The bus master stopped before the end: the drive waits for it to be started again, and begins
    /// anew then.
    pub(super) fn stop_dma(&mut self) {
        if self.state.phase == Phase::Moving {
            self.awaited = None;
            self.state.phase = Phase::DmaReady;
        }
    }

    /// A request is done.
    pub(super) fn complete(&mut self, done: Done) {
        self.awaited = None;
        let sectors = done.good.checked_div(self.kind.sector()).unwrap_or(0);
        let transfer = &mut self.state.transfer;
        transfer.sector = transfer.sector.saturating_add(sectors);
        let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
        transfer.left = transfer.left.saturating_sub(sectors);
        match (self.state.phase, done.fault) {
            (Phase::Filling, fault) if !done.bytes.is_empty() => {
                self.state.fault = fault;
                let block = self.state.transfer.block;
                self.offer(done.bytes, block);
            }
            (_, Some(fault)) => self.fail_at_sector(fault),
            (Phase::Draining, None) if self.state.transfer.left > 0 => {
                self.accept_sectors();
                self.state.interrupt = true;
            }
            (Phase::Moving, None) if self.state.in_packet => {
                self.state.buffer = Vec::new();
                self.finish_packet();
            }
            _ => self.succeed(),
        }
    }

    /// Whether a saved state can be this drive's: nothing is under way, and the buffer is in order.
    pub(super) fn can_be(saved: &DriveState) -> Result<(), StateError> {
        let check = |possible, what| state::check("piix3-ide", possible, what);
        check(
            !saved.phase.is_under_way(),
            "a drive with a request under way",
        )?;
        let (at, end, len) = (saved.at, saved.block_end, saved.buffer.len());
        check(
            at <= end && end <= len && len <= BUFFER_MAX,
            "a drive's buffer",
        )?;
        let waits = matches!(saved.phase, Phase::DataIn | Phase::DataOut | Phase::Packet);
        check(!waits || at < end, "a drive that waits for nothing")?;
        check(
            saved.multiple <= super::identify::MULTIPLE_MAX,
            "a drive's block of sectors",
        )?;
        let transfer = saved.transfer;
        check(
            transfer.left <= 1 << 16
                && usize::try_from(transfer.block).is_ok_and(|b| b <= BUFFER_MAX),
            "a drive's transfer",
        )
    }
}
