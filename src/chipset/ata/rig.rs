//! A function with drives, and a driver that uses it as a guest would.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};

use super::{DriveKind, Medium, MediumFault};
use crate::bus::{Access, Device, Effects, Width};
use crate::chipset::rig::Wires;
use crate::chipset::{DriveMedium, Piix3Ide};
use crate::mem::{Gpa, GuestRam, HugePages};
use crate::pci::{CONFIG_WINDOW, FIRST_OWN_WINDOW, Function, Seat};
use crate::trace::Bdf;

/// What a medium was asked, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    Write(u64),
    Flush,
}

#[derive(Debug, Default)]
struct Inside {
    bytes: Vec<u8>,
    log: Vec<Asked>,
    bad: BTreeSet<u64>,
    no_writes: bool,
    no_flush: bool,
    held: bool,
}

/// Bytes in memory that can be made to fail, and whose flushes can be held up.
#[derive(Debug, Clone, Default)]
pub(super) struct Faulty(Arc<(Mutex<Inside>, Condvar)>);

impl Faulty {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let faulty = Self::default();
        faulty.0.0.lock().unwrap().bytes = bytes;
        faulty
    }

    fn inside<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        let value = look(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        value
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.inside(|inside| inside.bytes.clone())
    }

    pub(super) fn log(&self) -> Vec<Asked> {
        self.inside(|inside| inside.log.clone())
    }

    /// Reads of this sector of 512 bytes fail.
    pub(super) fn spoil(&self, sector: u64) {
        self.inside(|inside| inside.bad.insert(sector));
    }

    pub(super) fn refuse_writes(&self) {
        self.inside(|inside| inside.no_writes = true);
    }

    pub(super) fn refuse_flushes(&self) {
        self.inside(|inside| inside.no_flush = true);
    }

    /// Holds everything that comes until it is let go.
    pub(super) fn hold(&self, held: bool) {
        self.inside(|inside| inside.held = held);
    }

    fn enter(&self) -> std::sync::MutexGuard<'_, Inside> {
        let mut inside = self.0.0.lock().unwrap();
        while inside.held {
            inside = self.0.1.wait(inside).unwrap();
        }
        inside
    }
}

fn range(at: u64, len: usize) -> std::ops::Range<usize> {
    let at = usize::try_from(at).unwrap();
    at..at + len
}

impl Medium for Faulty {
    fn len(&self) -> u64 {
        self.inside(|inside| inside.bytes.len() as u64)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), MediumFault> {
        let inside = self.enter();
        let sectors = at / 512..(at + bytes.len() as u64).div_ceil(512);
        if sectors
            .into_iter()
            .any(|sector| inside.bad.contains(&sector))
        {
            return Err(MediumFault::Unreadable);
        }
        bytes.copy_from_slice(&inside.bytes[range(at, bytes.len())]);
        Ok(())
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), MediumFault> {
        let mut inside = self.enter();
        if inside.no_writes {
            return Err(MediumFault::Unwritable);
        }
        inside.bytes[range(at, bytes.len())].copy_from_slice(bytes);
        inside.log.push(Asked::Write(at / 512));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MediumFault> {
        let mut inside = self.enter();
        if inside.no_flush {
            return Err(MediumFault::Unwritable);
        }
        inside.log.push(Asked::Flush);
        Ok(())
    }
}

/// Sectors whose bytes tell where they are.
pub(super) fn pattern(sectors: u64) -> Vec<u8> {
    let sector = |n: u64| (0..64).flat_map(move |word| (n << 8 | word).to_le_bytes());
    (0..sectors).flat_map(sector).collect()
}

/// Windows.
pub(super) const PRIMARY: u8 = FIRST_OWN_WINDOW;
pub(super) const PRIMARY_CONTROL: u8 = FIRST_OWN_WINDOW + 1;
pub(super) const SECONDARY: u8 = FIRST_OWN_WINDOW + 2;
pub(super) const MASTER: u8 = 4;

/// The most waits for the worker before a test gives up on it.
const PATIENCE: usize = 10_000;

pub(super) struct Rig {
    pub(super) wires: Wires,
    pub(super) ram: GuestRam,
    pub(super) ide: Function<Piix3Ide>,
}

/// A function without firmware's settings.
pub(super) fn bare(media: [Option<DriveMedium>; 4]) -> Rig {
    let wires = Wires::new();
    let ram = GuestRam::new(4 << 20, HugePages::None).unwrap();
    let sink = wires.messages();
    let seat = Seat::new(Bdf(9), ram.clone(), None, sink, None);
    let lines = [14, 15].map(|gsi| wires.line(gsi));
    let device = Piix3Ide::new(media, &seat.dma(), lines).unwrap();
    let ide = Function::new(seat, device);
    Rig { wires, ram, ide }
}

/// One with both channels on and bus mastering allowed.
pub(super) fn rig(media: [Option<DriveMedium>; 4]) -> Rig {
    let mut rig = bare(media);
    rig.access(CONFIG_WINDOW, 0x40, Width::Dword, Some(0x8000_8000));
    rig.access(CONFIG_WINDOW, 0x20, Width::Dword, Some(0xc000));
    rig.access(CONFIG_WINDOW, 0x04, Width::Word, Some(5));
    rig
}

/// One with a disk of that many sectors as primary device 0.
pub(super) fn disk(sectors: u64) -> (Rig, Faulty) {
    let medium = Faulty::new(pattern(sectors));
    let drive: DriveMedium = (DriveKind::Disk, Box::new(medium.clone()));
    (rig([Some(drive), None, None, None]), medium)
}

/// One with a disc of that many sectors of 2048 bytes as secondary device 0.
pub(super) fn disc(sectors: u64) -> (Rig, Faulty) {
    let medium = Faulty::new(pattern(sectors * 4));
    let drive: DriveMedium = (DriveKind::CdRom, Box::new(medium.clone()));
    (rig([None, None, Some(drive), None]), medium)
}

impl Rig {
    pub(super) fn access(
        &mut self,
        window: u8,
        offset: u64,
        width: Width,
        write: Option<u64>,
    ) -> u64 {
        let at = Access {
            window,
            offset,
            width,
        };
        let effects = &mut Effects::new();
        match write {
            Some(value) => {
                let _ = self.ide.write(at, value & width.ones(), effects);
                0
            }
            None => self.ide.read(at, effects).unwrap_or(u64::MAX) & width.ones(),
        }
    }

    pub(super) fn inb(&mut self, window: u8, offset: u64) -> u8 {
        u8::try_from(self.access(window, offset, Width::Byte, None)).unwrap()
    }

    pub(super) fn outb(&mut self, window: u8, offset: u64, value: u8) {
        self.access(window, offset, Width::Byte, Some(value.into()));
    }

    /// Status without clearing INTRQ, when the drive is no longer busy.
    pub(super) fn wait(&mut self, control: u8) -> u8 {
        for _ in 0..PATIENCE {
            let status = self.inb(control, 0);
            if status & 0x80 == 0 {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        panic!("the drive stays busy");
    }

    /// Issues a command with a 28-bit address.
    pub(super) fn command(&mut self, code: u8, sector: u32, count: u8) {
        let [a, b, c, d] = sector.to_le_bytes();
        for (offset, value) in (2..).zip([count, a, b, c, 0xe0 | d]) {
            self.outb(PRIMARY, offset, value);
        }
        self.outb(PRIMARY, 7, code);
    }

    /// Issues a command with a 48-bit address.
    pub(super) fn command_ext(&mut self, code: u8, sector: u64, count: u16) {
        let [a, b, c, d, e, f, ..] = sector.to_le_bytes();
        let [low, high] = count.to_le_bytes();
        for values in [[high, d, e, f], [low, a, b, c]] {
            for (offset, value) in (2..).zip(values) {
                self.outb(PRIMARY, offset, value);
            }
        }
        self.outb(PRIMARY, 6, 0xe0);
        self.outb(PRIMARY, 7, code);
    }

    /// Takes `len` bytes from a data port.
    pub(super) fn take(&mut self, window: u8, len: usize) -> Vec<u8> {
        let word = |_| {
            let word = self.access(window, 0, Width::Word, None);
            u16::try_from(word).unwrap().to_le_bytes()
        };
        (0..len / 2).flat_map(word).collect()
    }

    /// Gives bytes to a data port.
    pub(super) fn give(&mut self, window: u8, bytes: &[u8]) {
        for pair in bytes.chunks(2) {
            let word = u16::from_le_bytes([pair[0], pair[1]]);
            self.access(window, 0, Width::Word, Some(word.into()));
        }
    }

    /// Writes a table of (address, count, last) at `at` and points the primary's bus master at it.
    pub(super) fn table(&mut self, at: u32, entries: &[(u32, u16, bool)]) {
        for (n, (address, count, last)) in (0..).zip(entries) {
            let flags = u64::from(*last) << 63;
            let entry = flags | u64::from(*count) << 32 | u64::from(*address);
            let place = Gpa(u64::from(at) + n * 8);
            self.ram.write(place, &entry.to_le_bytes()).unwrap();
        }
        self.access(MASTER, 4, Width::Dword, Some(at.into()));
    }

    /// Status of the primary's bus master when the channel's worker has nothing left to do.
    pub(super) fn settled(&mut self) -> u8 {
        self.ide.park();
        self.inb(MASTER, 2)
    }

    pub(super) fn peek(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(Gpa(at), &mut bytes).unwrap();
        bytes
    }

    /// Sends a packet to secondary device 0, with `limit` bytes per interrupt, and takes what comes.
    pub(super) fn packet(&mut self, packet: &[u8], limit: u16) -> (Vec<u8>, u8) {
        const CONTROL: u8 = SECONDARY + 1;
        let [low, high] = limit.to_le_bytes();
        for (offset, value) in [(6, 0xa0), (1, 0), (4, low), (5, high), (7, 0xa0)] {
            self.outb(SECONDARY, offset, value);
        }
        assert_eq!(self.wait(CONTROL) & 0x08, 0x08, "DRQ for the packet");
        assert_eq!(self.inb(SECONDARY, 2), 1, "command, to the drive");
        let mut whole = [0; 12];
        whole[..packet.len()].copy_from_slice(packet);
        self.give(SECONDARY, &whole);
        let mut data = Vec::new();
        loop {
            let status = self.wait(CONTROL);
            assert!(self.wires.level(15), "each step interrupts");
            self.inb(SECONDARY, 7);
            if status & 0x08 == 0 {
                assert_eq!(self.inb(SECONDARY, 2), 3, "status, to the host");
                return (data, status);
            }
            assert_eq!(self.inb(SECONDARY, 2), 2, "data, to the host");
            let count = [4, 5].map(|offset| self.inb(SECONDARY, offset));
            let count = u16::from_le_bytes(count);
            assert!(count > 0 && count <= limit.max(2), "{count} of {limit}");
            data.extend(self.take(SECONDARY, usize::from(count)));
        }
    }
}
