//! The device through its registers, and through its function.

use super::*;
use crate::bus::{Device, GsiSink, Lines, Msi, MsiSink, TestClock};
use crate::mem::{Gpa, GuestRam, HugePages};
use crate::pci::{CONFIG_WINDOW, Function, Seat};
use crate::trace::Bdf;

#[derive(Debug, Default)]
struct Log {
    levels: Mutex<Vec<bool>>,
    messages: Mutex<Vec<(u64, u32)>>,
}

impl GsiSink for Log {
    fn set(&self, _: u32, level: bool) {
        self.levels.lock().unwrap().push(level);
    }
}

impl MsiSink for Log {
    fn send(&self, msi: Msi) -> bool {
        self.messages.lock().unwrap().push((msi.address, msi.data));
        true
    }
}

struct Rig {
    log: Arc<Log>,
    clock: Arc<TestClock>,
    ram: GuestRam,
    edu: Function<Edu>,
}

/// A device with bus mastering on.
fn rig(bits: u8) -> Rig {
    let (log, clock) = (Arc::new(Log::default()), Arc::new(TestClock::default()));
    let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
    let line = Lines::new(log.clone()).line("edu", Some(10));
    let seat = Seat::new(Bdf(0x10), ram.clone(), None, log.clone(), Some(line));
    let device = Edu::new(seat.dma(), seat.interrupts(), clock.clone(), bits).unwrap();
    let mut rig = Rig {
        edu: Function::new(seat, device),
        log,
        clock,
        ram,
    };
    rig.access(CONFIG_WINDOW, 4, Width::Word, Some(6));
    rig
}

impl Rig {
    fn access(&mut self, window: u8, offset: u64, width: Width, write: Option<u64>) -> u64 {
        let at = Access {
            window,
            offset,
            width,
        };
        match write {
            Some(value) => {
                let _ = self.edu.write(at, value, &mut Effects::new());
                0
            }
            None => {
                self.edu
                    .read(at, &mut Effects::new())
                    .unwrap_or(width.ones())
                    & width.ones()
            }
        }
    }

    fn read(&mut self, offset: u64) -> u64 {
        self.access(0, offset, Width::Dword, None)
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.access(0, offset, Width::Dword, Some(value));
    }

    fn dma(&mut self, source: u64, destination: u64, count: u64, command: u64) {
        self.write(DMA_SOURCE, source);
        self.write(DMA_DESTINATION, destination);
        self.write(DMA_COUNT, count);
        self.write(DMA_COMMAND, command);
    }

    /// Lets the transfer's time come.
    fn pass(&mut self) {
        self.clock.advance(Ns(DMA_DELAY));
        self.edu.wake(&mut Effects::new());
    }

    fn levels(&self) -> Vec<bool> {
        std::mem::take(&mut self.log.levels.lock().unwrap())
    }

    fn messages(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.log.messages.lock().unwrap())
    }
}

#[test]
fn it_says_who_it_is_and_that_it_lives() {
    let mut rig = rig(28);
    assert_eq!(rig.read(ID), 0x0100_00ed);
    rig.write(LIVENESS, 0x1234_5678);
    assert_eq!(rig.read(LIVENESS), 0xedcb_a987);
    assert_eq!(rig.access(0, ID, Width::Byte, None), 0xff, "32 bits only");
    assert_eq!(rig.access(0, ID, Width::Qword, None), u64::MAX);
    assert_eq!(rig.access(0, DMA_SOURCE, Width::Qword, None), 0);
    assert_eq!(
        rig.access(CONFIG_WINDOW, 0, Width::Dword, None),
        0x11e8_1234
    );
}

#[test]
fn a_factorial_is_modulo_2_to_the_32() {
    assert_eq!([0, 1, 5, 12].map(factorial), [1, 1, 120, 479_001_600]);
    assert_eq!(factorial(13), 1_932_053_504);
    assert_eq!([factorial(33), factorial(34)], [2_147_483_648, 0]);
    assert_eq!(factorial(u32::MAX), 0);
}

#[test]
fn a_factorial_is_computed_aside_and_interrupts_when_asked() {
    let mut rig = rig(28);
    rig.write(STATUS, 0x81);
    assert_eq!(rig.read(STATUS), 0x80, "busy is read-only");
    rig.write(FACTORIAL, 10);
    rig.edu.park();
    assert_eq!((rig.read(FACTORIAL), rig.read(STATUS)), (3_628_800, 0x80));
    assert_eq!((rig.levels(), rig.read(IRQ_STATUS)), (vec![true], 1));
    rig.write(IRQ_ACKNOWLEDGE, 1);
    assert_eq!((rig.levels(), rig.read(IRQ_STATUS)), (vec![false], 0));
}

#[test]
fn the_level_stays_until_every_cause_is_acknowledged() {
    let mut rig = rig(28);
    rig.write(IRQ_RAISE, 0x6);
    rig.write(IRQ_ACKNOWLEDGE, 0x2);
    assert_eq!((rig.levels(), rig.read(IRQ_STATUS)), (vec![true], 4));
    rig.write(IRQ_ACKNOWLEDGE, 0x4);
    assert_eq!(rig.levels(), [false]);
}

#[test]
fn with_msi_each_cause_is_a_message() {
    let mut rig = rig(28);
    for (register, value) in [(0x44, 0xfee0_0000), (0x4c, 0x41), (0x40, 1 << 16)] {
        rig.access(CONFIG_WINDOW, register, Width::Dword, Some(value));
    }
    rig.write(IRQ_RAISE, 1);
    rig.write(IRQ_RAISE, 1);
    assert_eq!(rig.messages(), [(0xfee0_0000, 0x41); 2]);
    assert!(rig.levels().is_empty());
}

#[test]
fn dma_goes_both_ways_after_its_delay_and_then_interrupts() {
    let mut rig = rig(28);
    rig.ram.write(Gpa(0x1ffe), b"abcd").unwrap();
    rig.dma(0x1ffe, BUFFER, 4, RUN | DMA_IRQ);
    rig.write(DMA_SOURCE, 0x9999);
    assert_eq!(rig.read(DMA_SOURCE), 0x1ffe, "not while it runs");
    assert_eq!(rig.edu.deadline(), Some(Ns(DMA_DELAY)));
    rig.clock.advance(Ns(DMA_DELAY - 1));
    rig.edu.wake(&mut Effects::new());
    assert_eq!(rig.read(DMA_COMMAND), RUN | DMA_IRQ);
    rig.clock.advance(Ns(1));
    rig.edu.wake(&mut Effects::new());
    assert_eq!(
        (rig.read(DMA_COMMAND), rig.read(IRQ_STATUS)),
        (DMA_IRQ, 0x100)
    );
    rig.dma(BUFFER, 0x8000, 4, RUN | TO_MEMORY);
    rig.pass();
    let mut back = [0; 4];
    rig.ram.read(Gpa(0x8000), &mut back).unwrap();
    assert_eq!(&back, b"abcd");
}

#[test]
fn addresses_are_cut_to_the_mask() {
    let mut narrow = rig(16);
    narrow.ram.write(Gpa(0x2000), b"low!").unwrap();
    narrow.dma(0x1_2000, BUFFER, 4, RUN);
    narrow.pass();
    narrow.dma(BUFFER, 0x3000, 4, RUN | TO_MEMORY);
    narrow.pass();
    let mut got = [0; 4];
    narrow.ram.read(Gpa(0x3000), &mut got).unwrap();
    assert_eq!(&got, b"low!");
}

#[test]
fn a_transfer_that_leaves_the_buffer_does_nothing_and_ends() {
    let mut rig = rig(64);
    rig.ram.write(Gpa(0), &[0x55; 8192]).unwrap();
    for (source, destination, count, command) in [
        (0, BUFFER, 4097, RUN),
        (0, BUFFER - 1, 2, RUN),
        (0, BUFFER + 4096, 1, RUN),
        (0, BUFFER, u64::MAX, RUN),
        (u64::MAX, 0, 1, RUN | TO_MEMORY),
        (BUFFER + 4000, 0, 97, RUN | TO_MEMORY),
    ] {
        rig.dma(source, destination, count, command | DMA_IRQ);
        rig.pass();
        assert_eq!(rig.read(DMA_COMMAND) & RUN, 0);
        assert_eq!(rig.read(IRQ_STATUS), 0x100);
        rig.write(IRQ_ACKNOWLEDGE, 0x100);
    }
    let mut ram = [0; 8192];
    rig.ram.read(Gpa(0), &mut ram).unwrap();
    assert!(ram.iter().all(|byte| *byte == 0x55), "memory was touched");
    rig.dma(BUFFER, 0, 4096, RUN | TO_MEMORY);
    rig.pass();
    rig.ram.read(Gpa(0), &mut ram[..4096]).unwrap();
    assert!(
        ram[..4096].iter().all(|byte| *byte == 0),
        "the buffer was touched"
    );
}

#[test]
fn without_bus_mastering_nothing_moves_and_the_transfer_ends() {
    let mut rig = rig(28);
    rig.access(CONFIG_WINDOW, 4, Width::Word, Some(2));
    rig.ram.write(Gpa(0x1000), b"x").unwrap();
    rig.dma(BUFFER, 0x1000, 1, RUN | TO_MEMORY);
    rig.pass();
    let mut byte = [0];
    rig.ram.read(Gpa(0x1000), &mut byte).unwrap();
    assert_eq!((&byte, rig.read(DMA_COMMAND)), (b"x", TO_MEMORY));
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    let mut rig = rig(28);
    rig.write(FACTORIAL, 30);
    let saved = rig.edu.save();
    for (pointer, value) in [
        ("/device/buffer", serde_json::json!([0])),
        ("/device/work/status", serde_json::json!(1)),
        ("/device/dma", serde_json::json!({})),
    ] {
        let mut broken = saved.clone();
        *broken.pointer_mut(pointer).unwrap() = value;
        assert!(rig.edu.load(&broken).is_err(), "{pointer}");
        assert_eq!(rig.edu.save(), saved);
    }
    rig.edu.load(&saved).unwrap();
}
