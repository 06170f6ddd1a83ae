//! Commands of a hard disk.

use super::command::{Command, Travel};
use super::drive::{Drive, Phase, Power, Request, Transfer};
use super::identify;
use super::regs;
use super::task_file::{Address, Geometry};

/// SET FEATURES subcommands (ATA/ATAPI-7, 6.49).
const ENABLE_WRITE_CACHE: u8 = 0x02;
const SET_TRANSFER_MODE: u8 = 0x03;
const DISABLE_LOOK_AHEAD: u8 = 0x55;
const KEEP_SETTINGS: u8 = 0x66;
const DISABLE_WRITE_CACHE: u8 = 0x82;
const ENABLE_LOOK_AHEAD: u8 = 0xaa;

impl Drive {
    pub(super) fn disk_command(&mut self, command: Option<Command>) -> Option<Request> {
        match command {
            Some(Command::Read(travel, form)) => return self.read_sectors(travel, form),
            Some(Command::Write(travel, form)) => return self.write_sectors(travel, form),
            Some(Command::Verify(form)) => return self.verify(form),
            Some(Command::Flush) => {
                self.begin(Phase::Checking);
                return Some(Request::Flush);
            }
            Some(Command::Identify) => {
                let words = identify::disk(self);
                self.state.transfer.left = 0;
                self.offer(words, 512);
            }
            Some(Command::InitializeParameters) => {
                let heads = self.state.task.device & 0x0f;
                self.state.geometry = Geometry {
                    heads: heads.wrapping_add(1),
                    sectors: self.state.task.count(),
                };
                self.succeed();
            }
            Some(Command::SetMultiple) => match self.state.task.count() {
                // A power of two; zero switches READ and WRITE MULTIPLE off.
                count if count <= identify::MULTIPLE_MAX && count & count.wrapping_sub(1) == 0 => {
                    self.state.multiple = count;
                    self.succeed();
                }
                _ => self.abort(),
            },
            Some(Command::Recalibrate) => self.succeed(),
            Some(command) => self.common_command(command),
            None => self.abort(),
        }
        None
    }

    /// What disks and packet drives have in common.
    pub(super) fn common_command(&mut self, command: Command) {
        match command {
            Command::SetFeatures => self.set_features(),
            Command::Idle => self.rest(Power::Idle),
            Command::Standby => self.rest(Power::Standby),
            Command::Sleep => self.rest(Power::Sleep),
            Command::CheckPower => {
                self.state.task.set_count(match self.state.power {
                    Power::Active => 0xff,
                    Power::Idle => 0x80,
                    Power::Standby | Power::Sleep => 0,
                });
                self.succeed();
            }
            _ => self.abort(),
        }
    }

    fn rest(&mut self, power: Power) {
        self.state.power = power;
        self.succeed();
    }

    fn set_features(&mut self) {
        let mode = self.state.task.count();
        match self.state.task.features() {
            SET_TRANSFER_MODE => match mode {
                // PIO by default, without IORDY, modes 0 to 4 with it; multiword DMA modes 0 to 2.
                0 | 1 | 0x08..=0x0c => self.state.dma_mode = 0,
                0x20..=0x22 => self.state.dma_mode = 1_u8.wrapping_shl((mode & 7).into()),
                _ => return self.abort(),
            },
            ENABLE_WRITE_CACHE => self.state.write_cache = true,
            DISABLE_WRITE_CACHE => self.state.write_cache = false,
            ENABLE_LOOK_AHEAD => self.state.look_ahead = true,
            DISABLE_LOOK_AHEAD => self.state.look_ahead = false,
            // What a reset does not revert stays, as it always does here.
            KEEP_SETTINGS => {}
            _ => return self.abort(),
        }
        self.succeed();
    }

    /// Takes the command's sectors out of the registers; whether they are there.
    fn aim(&mut self, form: Address) -> bool {
        let count = self.state.task.sectors(form);
        let first = self.state.task.sector(form, self.state.geometry);
        let end = first.and_then(|first| first.checked_add(count.into()));
        let Some(first) = first.filter(|_| end.is_some_and(|end| end <= self.sectors)) else {
            self.fail(regs::ERR, regs::IDNF);
            return false;
        };
        self.state.power = Power::Active;
        self.state.transfer = Transfer {
            form,
            sector: first,
            left: count,
            ..self.state.transfer
        };
        true
    }

    /// Sets up the way sectors travel; whether there is that way.
    fn travel(&mut self, travel: Travel, to_memory: bool) -> bool {
        let sectors = match travel {
            Travel::Pio | Travel::Dma => 1,
            Travel::Multiple => self.state.multiple,
        };
        if sectors == 0 {
            self.abort();
            return false;
        }
        self.state.transfer.to_memory = to_memory;
        self.state.transfer.block = u32::from(sectors).saturating_mul(512);
        true
    }

    fn read_sectors(&mut self, travel: Travel, form: Address) -> Option<Request> {
        if !self.travel(travel, true) || !self.aim(form) {
            return None;
        }
        if travel == Travel::Dma {
            self.begin(Phase::DmaReady);
            return None;
        }
        Some(self.fetch())
    }

    fn write_sectors(&mut self, travel: Travel, form: Address) -> Option<Request> {
        if self.travel(travel, false) && self.aim(form) {
            match travel {
                Travel::Dma => self.begin(Phase::DmaReady),
                // The first block comes without an interrupt.
                Travel::Pio | Travel::Multiple => self.accept_sectors(),
            }
        }
        None
    }

    fn verify(&mut self, form: Address) -> Option<Request> {
        if !self.aim(form) {
            return None;
        }
        self.begin(Phase::Checking);
        Some(Request::Verify {
            at: self.offset(),
            len: u64::from(self.state.transfer.left).saturating_mul(512),
        })
    }
}
