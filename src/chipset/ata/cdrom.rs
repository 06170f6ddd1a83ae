//! Commands of a CD-ROM drive, and the packet protocol (ATA/ATAPI-7 volume 2, 11.8 and 11.9).

use super::command::Command;
use super::drive::{Drive, Phase, Power, Request, Transfer};
use super::identify;
use super::packet::{Reply, Sense, reply};
use super::regs;
use super::task_file::{Address, TaskFile};

/// Bytes of a packet.
const PACKET_LEN: usize = 12;
/// PACKET's features register: the data goes by DMA; overlapped operation is not there.
const BY_DMA: u8 = 1 << 0;
const OVERLAPPED: u8 = 1 << 1;

impl Drive {
    pub(super) fn cd_command(&mut self, command: Option<Command>) -> Option<Request> {
        self.state.in_packet = false;
        match command {
            Some(Command::Packet) => {
                let features = self.state.task.features();
                if features & OVERLAPPED != 0 {
                    self.abort();
                    return None;
                }
                self.state.power = Power::Active;
                self.state.in_packet = true;
                self.state.packet_dma = features & BY_DMA != 0;
                self.state.task.set_count(regs::COD);
                self.accept(PACKET_LEN, Phase::Packet);
            }
            Some(Command::IdentifyPacket) => {
                let words = identify::cd_rom(self);
                self.state.transfer.left = 0;
                self.offer(words, 512);
            }
            // Disk commands tell a driver what it has in front of it: they leave the signature.
            Some(Command::Identify | Command::Read(..)) => {
                let device = self.state.task.device;
                self.state.task = TaskFile::signature(true);
                self.state.task.device = device;
                self.abort();
            }
            Some(
                command @ (Command::SetFeatures
                | Command::Idle
                | Command::Standby
                | Command::Sleep
                | Command::CheckPower),
            ) => self.common_command(command),
            _ => self.abort(),
        }
        None
    }

    /// A packet has come.
    pub(super) fn packet(&mut self, bytes: &[u8]) -> Option<Request> {
        let mut packet = [0; PACKET_LEN];
        for (to, from) in packet.iter_mut().zip(bytes) {
            *to = *from;
        }
        let answer = reply(packet, self.sectors, self.state.sense);
        self.state.sense = Sense::default();
        let none = Transfer {
            form: Address::Long,
            sector: 0,
            left: 0,
            block: self.byte_limit().into(),
            to_memory: true,
        };
        self.state.transfer = none;
        match answer {
            Reply::Done => self.finish_packet(),
            Reply::Refused(sense) => self.fail_packet(sense),
            Reply::Data(data) if data.is_empty() => self.finish_packet(),
            Reply::Data(data) if self.state.packet_dma => {
                self.state.buffer = data;
                self.begin(Phase::DmaReady);
            }
            Reply::Data(data) => self.offer(data, none.block),
            Reply::Sectors { first, count } => {
                self.state.transfer = Transfer {
                    sector: first,
                    left: count,
                    ..none
                };
                if !self.state.packet_dma {
                    return Some(self.fetch());
                }
                self.begin(Phase::DmaReady);
            }
        }
        None
    }

    /// The most bytes between two interrupts: even, and never none.
    fn byte_limit(&self) -> u16 {
        match self.state.task.byte_count() & !1 {
            0 => 0xfffe,
            limit => limit,
        }
    }

    /// Tells the guest how many bytes it is to take now.
    pub(super) fn announce(&mut self, bytes: usize) {
        self.state.task.set_count(regs::IO);
        self.state
            .task
            .set_byte_count(u16::try_from(bytes).unwrap_or(u16::MAX));
    }

    pub(super) fn finish_packet(&mut self) {
        self.state.task.set_count(regs::IO | regs::COD);
        self.succeed();
    }

    pub(super) fn fail_packet(&mut self, sense: Sense) {
        self.state.sense = sense;
        self.state.task.set_count(regs::IO | regs::COD);
        // The sense key is in the high half of the error register.
        let key = sense.key.wrapping_shl(4);
        self.fail(
            regs::ERR,
            key | if sense == Sense::ABORTED {
                regs::ABRT
            } else {
                0
            },
        );
    }
}
