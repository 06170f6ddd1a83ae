//! A driver for tests: it finds the structures by their capabilities, negotiates, and puts buffers into
//! queues whose rings lie in guest RAM; and it can be told to do all of it wrong.

use std::sync::{Arc, Mutex};

use crate::bus::{Access, Device, Effects, GsiSink, Lines, Msi, MsiSink, Width};
use crate::dma::Translate;
use crate::mem::{Gpa, GuestRam, HugePages};
use crate::pci::{CONFIG_WINDOW, Function, PciDevice, Seat};
use crate::trace::Bdf;

use super::regs::{
    self, ACKNOWLEDGE, BAR, DRIVER, DRIVER_OK, FEATURES_OK, NO_VECTOR, common as register,
};

/// Descriptor flags (VIRTIO 1.2, 2.7.5).
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) const RAM: u64 = 8 << 20;
pub(crate) const SIZE: u16 = 16;
/// Queue n's rings lie in the page n after this; its buffers are the test's to place.
const RINGS: u64 = 0x10_0000;

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) levels: Mutex<Vec<bool>>,
    pub(crate) messages: Mutex<Vec<u32>>,
}

impl GsiSink for Log {
    fn set(&self, _: u32, level: bool) {
        self.levels.lock().unwrap().push(level);
    }
}

impl MsiSink for Log {
    fn send(&self, msi: Msi) -> bool {
        self.messages.lock().unwrap().push(msi.data);
        true
    }
}

/// A device with its function, its RAM and its driver.
pub(crate) struct Rig<D> {
    pub(crate) log: Arc<Log>,
    pub(crate) ram: GuestRam,
    pub(crate) function: Function<D>,
    /// Available and used indices by queue.
    avail: [u16; 8],
    used: [u16; 8],
}

/// One descriptor: address, length, flags, next.
pub(crate) type Descriptor = (u64, u32, u16, u16);

impl<D: PciDevice> Rig<D> {
    pub(crate) fn new(
        unit: Option<Arc<dyn Translate>>,
        make: impl FnOnce(&GuestRam, &Seat) -> D,
    ) -> Self {
        let log = Arc::new(Log::default());
        let ram = GuestRam::new(RAM, HugePages::None).unwrap();
        let line = Lines::new(log.clone()).line("virtio", Some(10));
        let seat = Seat::new(Bdf(0x10), ram.clone(), unit, log.clone(), Some(line));
        let device = make(&ram, &seat);
        let mut rig = Self {
            log,
            ram,
            function: Function::new(seat, device),
            avail: [0; 8],
            used: [0; 8],
        };
        // Memory and bus mastering.
        rig.write(CONFIG_WINDOW, 4, Width::Word, 6);
        rig
    }

    pub(crate) fn read(&mut self, window: u8, offset: u64, width: Width) -> u64 {
        let at = Access {
            window,
            offset,
            width,
        };
        let value = self.function.read(at, &mut Effects::new());
        value.unwrap_or(u64::MAX) & width.ones()
    }

    pub(crate) fn write(&mut self, window: u8, offset: u64, width: Width, value: u64) {
        let at = Access {
            window,
            offset,
            width,
        };
        let _ = self.function.write(at, value, &mut Effects::new());
    }

    pub(crate) fn common(&mut self, offset: u64, width: Width) -> u64 {
        self.read(BAR.index, u64::from(regs::COMMON) + offset, width)
    }

    pub(crate) fn set(&mut self, offset: u64, width: Width, value: u64) {
        self.write(BAR.index, u64::from(regs::COMMON) + offset, width, value);
    }

    pub(crate) fn status(&mut self) -> u8 {
        u8::try_from(self.common(register::DEVICE_STATUS, Width::Byte)).unwrap()
    }

    pub(crate) fn isr(&mut self) -> u8 {
        u8::try_from(self.read(BAR.index, regs::ISR.into(), Width::Byte)).unwrap()
    }

    pub(crate) fn config(&mut self, offset: u64) -> u32 {
        let value = self.read(BAR.index, u64::from(regs::DEVICE) + offset, Width::Dword);
        u32::try_from(value).unwrap()
    }

    pub(crate) fn set_config(&mut self, offset: u64, value: u32) {
        let offset = u64::from(regs::DEVICE) + offset;
        self.write(BAR.index, offset, Width::Dword, value.into());
    }

    pub(crate) fn offered(&mut self) -> u64 {
        let mut half = |select| {
            self.set(register::DEVICE_FEATURE_SELECT, Width::Dword, select);
            self.common(register::DEVICE_FEATURE, Width::Dword)
        };
        half(0) | half(1) << 32
    }

    /// Up to FEATURES_OK; whether the device agreed.
    pub(crate) fn negotiate(&mut self, features: u64) -> bool {
        self.set(register::DEVICE_STATUS, Width::Byte, 0);
        (self.avail, self.used) = ([0; 8], [0; 8]);
        self.set_status(ACKNOWLEDGE | DRIVER);
        for (select, half) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.set(register::DRIVER_FEATURE_SELECT, Width::Dword, select);
            self.set(register::DRIVER_FEATURE, Width::Dword, half);
        }
        self.set_status(FEATURES_OK);
        self.status() & FEATURES_OK != 0
    }

    pub(crate) fn set_status(&mut self, added: u8) {
        let status = self.status() | added;
        self.set(register::DEVICE_STATUS, Width::Byte, status.into());
    }

    /// Enables a queue with its rings in a page of their own, fresh.
    pub(crate) fn enable(&mut self, queue: u16) {
        let base = Self::rings(queue);
        self.ram.write(Gpa(base), &[0; 0x1000]).unwrap();
        self.place(queue, SIZE, [base, base + 0x400, base + 0x800]);
    }

    pub(crate) fn place(&mut self, queue: u16, size: u16, addresses: [u64; 3]) {
        self.set(register::QUEUE_SELECT, Width::Word, queue.into());
        self.set(register::QUEUE_SIZE, Width::Word, size.into());
        for (offset, address) in (register::QUEUE_DESC..).step_by(8).zip(addresses) {
            self.set(offset, Width::Dword, address & 0xffff_ffff);
            self.set(offset + 4, Width::Dword, address >> 32);
        }
        self.set(register::QUEUE_ENABLE, Width::Word, 1);
    }

    /// All of it: these features, these queues, ready.
    pub(crate) fn start(&mut self, features: u64, queues: &[u16]) {
        assert!(self.negotiate(features), "{features:#x}");
        queues.iter().for_each(|queue| self.enable(*queue));
        self.set_status(DRIVER_OK);
    }

    /// MSI-X with vector n's data n, the configuration's 0 and queue n's n + 1.
    pub(crate) fn use_msix(&mut self, queues: &[u16]) {
        self.write(CONFIG_WINDOW, 0x42, Width::Word, 0x8000);
        for vector in 0..=queues.len() as u64 {
            let entry = 0x4000 + vector * 16;
            self.write(BAR.index, entry, Width::Dword, 0xfee0_0000);
            self.write(BAR.index, entry + 8, Width::Dword, vector);
            self.write(BAR.index, entry + 12, Width::Dword, 0);
        }
        self.set(register::CONFIG_MSIX_VECTOR, Width::Word, 0);
        for (vector, queue) in (1..).zip(queues) {
            self.set(register::QUEUE_SELECT, Width::Word, (*queue).into());
            self.set(register::QUEUE_MSIX_VECTOR, Width::Word, vector);
            let granted = self.common(register::QUEUE_MSIX_VECTOR, Width::Word);
            assert_ne!(granted, u64::from(NO_VECTOR));
        }
    }

    pub(crate) const fn rings(queue: u16) -> u64 {
        RINGS + queue as u64 * 0x1000
    }

    pub(crate) fn describe(&self, queue: u16, index: u16, descriptor: Descriptor) {
        let at = Self::rings(queue) + u64::from(index) * 16;
        write_descriptor(&self.ram, at, descriptor);
    }

    /// Makes the chain from `head` available, without notifying.
    pub(crate) fn offer(&mut self, queue: u16, head: u16) {
        let base = Self::rings(queue) + 0x400;
        let index = &mut self.avail[usize::from(queue)];
        let entry = base + 4 + u64::from(*index % SIZE) * 2;
        self.ram.write(Gpa(entry), &head.to_le_bytes()).unwrap();
        *index = index.wrapping_add(1);
        self.ram.write(Gpa(base + 2), &index.to_le_bytes()).unwrap();
    }

    pub(crate) fn notify(&mut self, queue: u16) {
        let offset = u64::from(regs::NOTIFY) + u64::from(queue) * 4;
        self.write(BAR.index, offset, Width::Word, queue.into());
    }

    /// One buffer of one part.
    pub(crate) fn send(&mut self, queue: u16, at: u64, len: u32, flags: u16) {
        self.describe(queue, 0, (at, len, flags, 0));
        self.offer(queue, 0);
        self.notify(queue);
    }

    /// Buffers that came back since the last look, as (head, written).
    pub(crate) fn used(&mut self, queue: u16) -> Vec<(u32, u32)> {
        let base = Self::rings(queue) + 0x800;
        let word = |at: u64| {
            let mut bytes = [0; 4];
            self.ram.read(Gpa(at), &mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        };
        let index = u16::try_from(word(base) >> 16).unwrap();
        let seen = &mut self.used[usize::from(queue)];
        let mut back = Vec::new();
        while *seen != index {
            let entry = base + 4 + u64::from(*seen % SIZE) * 8;
            back.push((word(entry), word(entry + 4)));
            *seen = seen.wrapping_add(1);
        }
        back
    }

    pub(crate) fn levels(&self) -> Vec<bool> {
        std::mem::take(&mut self.log.levels.lock().unwrap())
    }

    pub(crate) fn messages(&self) -> Vec<u32> {
        std::mem::take(&mut self.log.messages.lock().unwrap())
    }
}

pub(crate) fn write_descriptor(ram: &GuestRam, at: u64, descriptor: Descriptor) {
    let (address, len, flags, next) = descriptor;
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    ram.write(Gpa(at), &bytes).unwrap();
}
