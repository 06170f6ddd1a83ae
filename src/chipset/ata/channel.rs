//! Two drives on a cable, their bus master, and their worker.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Line, Refusal, StateError, Width, Worker, state};
use crate::chipset::lanes;
use crate::dma::Dma;

use super::bus_master::BusMaster;
use super::drive::{Drive, DriveKind, DriveState, Request};
use super::medium::Medium;
use super::prd::Permit;
use super::regs;
use super::work::{End, Hands, Job};

/// EXECUTE DEVICE DIAGNOSTIC, which both drives take.
const DIAGNOSTIC: u8 = 0x90;

/// What is under the channel's lock, which the worker takes too: a leaf in the lock order, before the
/// line router.
#[derive(Debug)]
struct Cable {
    drives: [Option<Drive>; 2],
    second: bool,
    control: u8,
    master: BusMaster,
    /// The request the bus master works on.
    moving: Option<u64>,
    /// The number of the next request.
    next: u64,
}

#[derive(Debug)]
struct Shared {
    cable: Mutex<Cable>,
    permit: Arc<Permit>,
    line: Line,
}

/// The saved state of a channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::chipset) struct ChannelState {
    drives: [Option<DriveState>; 2],
    second: bool,
    control: u8,
    master: BusMaster,
}

/// A channel.
#[derive(Debug)]
pub(in crate::chipset) struct Channel {
    shared: Arc<Shared>,
    /// None when there is no drive.
    worker: Option<Worker<Job>>,
}

impl Cable {
    const fn selected(&self) -> usize {
        if self.second { 1 } else { 0 }
    }

    fn drive(&mut self) -> Option<&mut Drive> {
        let at = self.selected();
        self.drives.get_mut(at)?.as_mut()
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Drive> {
        self.drives.iter_mut().flatten()
    }

    fn is_empty(&self) -> bool {
        self.drives.iter().all(Option::is_none)
    }

    const fn in_reset(&self) -> bool {
        self.control & regs::SRST != 0
    }

    /// INTRQ: only the selected drive drives it, and nIEN lets go of it.
    fn wants_line(&self) -> bool {
        let drive = self.drives.get(self.selected()).and_then(Option::as_ref);
        let interrupt = drive.is_some_and(|drive| drive.state.interrupt);
        interrupt && self.control & (regs::NIEN | regs::SRST) == 0
    }

    fn read(&mut self, offset: u64, look: bool) -> u8 {
        if self.is_empty() {
            return 0xff;
        }
        if self.in_reset() {
            return regs::BSY;
        }
        let before = self.control & regs::HOB != 0;
        let Some(drive) = self.drive() else {
            return 0;
        };
        if offset == regs::STATUS && !look {
            drive.state.interrupt = false;
        }
        drive.state.task.read(offset, before)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cable> {
        self.cable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the line, under the lock, so that two threads cannot leave the wrong level behind.
    fn settle(&self, cable: &mut Cable) {
        let wanted = cable.wants_line();
        if self.line.level() != wanted {
            self.line.set(wanted);
            if wanted {
                cable.master.interrupted();
            }
        }
    }

    /// A job has ended: on the worker.
    fn complete(&self, id: u64, drive: usize, end: End) {
        let mut cable = self.lock();
        let cable = &mut *cable;
        let moving = cable.moving == Some(id);
        if moving {
            cable.moving = None;
        }
        let drive = cable.drives.get_mut(drive).and_then(Option::as_mut);
        let Some(drive) = drive.filter(|drive| drive.awaited == Some(id)) else {
            return;
        };
        match end {
            End::Done(done) => drive.complete(done),
            End::Moved { done, exhausted } => {
                match done.fault {
                    Some(super::drive::Fault::Bus) => cable.master.failed(),
                    _ if exhausted => cable.master.exhausted(),
                    // The drive is done before the table: ACTIVE stays until the guest stops it.
                    _ => {}
                }
                drive.complete(done);
            }
            // The drive waits on, and nobody interrupts.
            End::Starved => {
                cable.master.exhausted();
                drive.stop_dma();
            }
            End::Revoked => drive.stop_dma(),
        }
        self.settle(cable);
    }
}

impl Channel {
    /// A channel with up to two drives; `first` is the board's number of its device 0.
    pub(in crate::chipset) fn new(
        name: &'static str,
        first: u8,
        media: [Option<(DriveKind, Box<dyn Medium>)>; 2],
        dma: Dma,
        line: Line,
    ) -> io::Result<Self> {
        let mut numbers = first..;
        let drives = media.each_ref().map(|medium| {
            let number = numbers.next().unwrap_or_default();
            let (kind, medium) = medium.as_ref()?;
            Some(Drive::new(*kind, medium.len(), number))
        });
        let permit = Arc::new(Permit::default());
        let cable = Cable {
            drives,
            second: false,
            control: 0,
            master: BusMaster::default(),
            moving: None,
            next: 0,
        };
        let empty = cable.is_empty();
        let shared = Arc::new(Shared {
            cable: Mutex::new(cable),
            permit: Arc::clone(&permit),
            line,
        });
        let mut hands = Hands {
            media,
            dma,
            permit,
            chunk: Vec::new(),
        };
        let theirs = Arc::clone(&shared);
        let work = move |job: Job| {
            let (id, drive) = (job.id, job.drive);
            let end = hands.work(job);
            theirs.complete(id, drive, end);
        };
        let worker = match empty {
            true => None,
            false => Some(Worker::start(name, work)?),
        };
        Ok(Self { shared, worker })
    }

    /// Gives the selected drive's request to the worker.
    fn issue(&self, cable: &mut Cable, request: Request) {
        let (id, index, table) = (cable.next, cable.selected(), cable.master.table());
        cable.next = id.wrapping_add(1);
        if matches!(request, Request::Move(_)) {
            cable.moving = Some(id);
            // Nobody copies for a request that has no permit, so this waits for nothing.
            self.shared.permit.grant(id);
        }
        if let (Some(drive), Some(worker)) = (cable.drive(), &self.worker) {
            drive.awaited = Some(id);
            worker.give(Job {
                id,
                drive: index,
                request,
                table,
            });
        }
    }

    /// Starts the bus master when it is on and the selected drive waits for it.
    fn try_move(&self, cable: &mut Cable) {
        if !cable.master.is_active() || cable.moving.is_some() {
            return;
        }
        let to_memory = cable.master.goes_to_memory();
        let plan = cable.drive().and_then(|drive| drive.start_dma(to_memory));
        if let Some(plan) = plan {
            self.issue(cable, Request::Move(plan));
        }
    }

    /// A read of the command block. The data port has 16 bits, or two times 16.
    pub(in crate::chipset) fn read(&self, at: Access) -> Answer<u64> {
        let mut cable = self.shared.lock();
        let value = if at.offset == regs::DATA {
            self.read_data(&mut cable, at.width)?
        } else {
            lanes::read(at, |offset| cable.read(offset, false))
        };
        self.shared.settle(&mut cable);
        Ok(value)
    }

    fn read_data(&self, cable: &mut Cable, width: Width) -> Answer<u64> {
        let mut bytes = if cable.is_empty() { [0xff; 8] } else { [0; 8] };
        let out = match width {
            Width::Word => bytes.get_mut(..2),
            Width::Dword => bytes.get_mut(..4),
            Width::Byte | Width::Qword => None,
        };
        let out = out.ok_or(Refusal::BadWidth)?;
        let request = cable.drive().and_then(|drive| drive.read_data(out));
        if let Some(request) = request {
            self.issue(cable, request);
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// A write to the command block.
    pub(in crate::chipset) fn write(&self, at: Access, value: u64) -> Answer<()> {
        if at.offset == regs::DATA {
            let bytes = value.to_le_bytes();
            let bytes = match at.width {
                Width::Word => bytes.get(..2),
                Width::Dword => bytes.get(..4),
                Width::Byte | Width::Qword => None,
            };
            let bytes = bytes.ok_or(Refusal::BadWidth)?;
            let mut cable = self.shared.lock();
            let request = cable.drive().and_then(|drive| drive.write_data(bytes));
            if let Some(request) = request {
                self.issue(&mut cable, request);
            }
            self.try_move(&mut cable);
            self.shared.settle(&mut cable);
        } else {
            lanes::write(at, value, |offset, byte| self.write_register(offset, byte));
        }
        Ok(())
    }

    fn write_register(&self, offset: u64, value: u8) {
        let mut cable = self.shared.lock();
        if cable.in_reset() {
            return;
        }
        cable.control &= !regs::HOB;
        match offset {
            regs::COMMAND if value == DIAGNOSTIC => {
                if !cable.drive().is_some_and(|drive| drive.is_busy()) {
                    drop(cable);
                    self.soft_reset();
                    cable = self.shared.lock();
                    if let Some(drive) = cable.each().next() {
                        drive.state.interrupt = true;
                    }
                }
            }
            regs::COMMAND => {
                let request = cable.drive().and_then(|drive| drive.command(value));
                if let Some(request) = request {
                    self.issue(&mut cable, request);
                }
                self.try_move(&mut cable);
            }
            _ => {
                // Both drives hear what is written for either.
                cable.each().for_each(|drive| drive.write(offset, value));
                if offset == regs::DEVICE {
                    cable.second = value & regs::DEV != 0;
                }
            }
        }
        self.shared.settle(&mut cable);
    }

    /// Puts both drives back to where a soft reset does; device 0 is selected.
    fn soft_reset(&self) {
        self.shared.permit.revoke();
        let mut cable = self.shared.lock();
        cable.moving = None;
        cable.second = false;
        cable.each().for_each(Drive::soft_reset);
    }

    /// The alternate status register.
    pub(in crate::chipset) fn read_alternate(&self) -> u64 {
        self.shared.lock().read(regs::STATUS, true).into()
    }

    /// The device control register.
    pub(in crate::chipset) fn write_control(&self, value: u64) {
        let [value, ..] = value.to_le_bytes();
        let value = value & (regs::HOB | regs::SRST | regs::NIEN);
        let resets = value & regs::SRST != 0 && !self.shared.lock().in_reset();
        if resets {
            self.soft_reset();
        }
        let mut cable = self.shared.lock();
        cable.control = value;
        self.shared.settle(&mut cable);
    }

    /// A read of the bus master's registers; `at` is relative to this channel's.
    pub(in crate::chipset) fn read_master(&self, at: Access) -> u64 {
        let cable = self.shared.lock();
        lanes::read(at, |offset| cable.master.read(offset))
    }

    /// A write to them.
    pub(in crate::chipset) fn write_master(&self, at: Access, value: u64) {
        lanes::write(at, value, |offset, byte| {
            let stops = BusMaster::is_stop(offset, byte);
            if stops && self.shared.lock().moving.is_some() {
                self.shared.permit.revoke();
            }
            let mut cable = self.shared.lock();
            cable.master.write(offset, byte);
            if stops && cable.moving.take().is_some() {
                cable.each().for_each(Drive::stop_dma);
            }
            self.try_move(&mut cable);
        });
    }

    /// Power on.
    pub(in crate::chipset) fn reset(&self) {
        self.shared.permit.revoke();
        self.park();
        let mut cable = self.shared.lock();
        cable.each().for_each(Drive::reset);
        cable.second = false;
        cable.control = 0;
        cable.master = BusMaster::default();
        cable.moving = None;
        self.shared.settle(&mut cable);
    }

    /// Waits until nothing is under way.
    pub(in crate::chipset) fn park(&self) {
        if let Some(worker) = &self.worker {
            worker.drain();
        }
    }

    /// The state, with nothing under way.
    pub(in crate::chipset) fn save(&self) -> ChannelState {
        self.park();
        let cable = self.shared.lock();
        let drives = cable.drives.each_ref();
        ChannelState {
            drives: drives.map(|drive| drive.as_ref().map(|drive| drive.state.clone())),
            second: cable.second,
            control: cable.control,
            master: cable.master,
        }
    }

    /// Whether `saved` can be this channel's.
    pub(in crate::chipset) fn can_be(&self, saved: &ChannelState) -> Result<(), StateError> {
        let cable = self.shared.lock();
        let pairs = cable.drives.iter().zip(&saved.drives);
        let same = pairs
            .clone()
            .all(|(ours, theirs)| ours.is_some() == theirs.is_some());
        state::check("piix3-ide", same, "other drives")?;
        BusMaster::can_be(&saved.master)?;
        saved.drives.iter().flatten().try_for_each(Drive::can_be)
    }

    /// Puts back what [`Channel::can_be`] found possible.
    pub(in crate::chipset) fn load(&self, saved: ChannelState) {
        self.shared.permit.revoke();
        self.park();
        let mut cable = self.shared.lock();
        for (drive, saved) in cable.drives.iter_mut().zip(saved.drives) {
            if let (Some(drive), Some(saved)) = (drive, saved) {
                drive.awaited = None;
                drive.state = saved;
            }
        }
        cable.second = saved.second;
        cable.control = saved.control;
        cable.master = saved.master;
        cable.moving = None;
        self.shared.line.restore(cable.wants_line());
    }
}
