//! The balloon through its queues, with a driver that also lies.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::driver::{NEXT, RAM, Rig, SIZE, WRITE};
use super::super::regs::{NEEDS_RESET, VERSION_1};
use super::super::{Signals, VirtioPci};
use super::*;
use crate::bus::{Device, Effects, Ns, ResetKind, TestClock};
use crate::mem::{Gpa, PAGE_SIZE};

const STATS_VQ: u64 = 1 << 1;
const PAGE_POISON: u64 = 1 << 4;
const REPORTING: u64 = 1 << 5;
const ALL: u64 = VERSION_1 | STATS_VQ | PAGE_POISON | REPORTING;
const BUFFER: u64 = 0x20_0000;
/// Pages the tests give up, and a mark in each.
const FIRST: u64 = 0x400;

fn rig() -> (Rig<VirtioPci<Balloon>>, BalloonHandle) {
    let mut handle = None;
    let rig = Rig::new(None, |ram, seat| {
        let signals = Signals::new(seat.interrupts(), BALLOON_QUEUES);
        let clock = Arc::new(TestClock::default());
        let (balloon, host) = Balloon::new(ram, clock, &signals);
        handle = Some(host);
        VirtioPci::new(balloon, seat.dma(), signals)
    });
    (rig, handle.unwrap())
}

/// Started, with a byte in each of the 1024 pages from `FIRST` on, and the page of buffers there.
fn at_work() -> (Rig<VirtioPci<Balloon>>, BalloonHandle) {
    let (mut rig, host) = rig();
    rig.start(ALL, &[0, 1, 2, 3, 4]);
    rig.ram.write(Gpa(BUFFER), &[0]).unwrap();
    for page in FIRST..FIRST + 1024 {
        rig.ram.write(Gpa(page * PAGE_SIZE), &[0xa5]).unwrap();
    }
    (rig, host)
}

fn frames(rig: &mut Rig<VirtioPci<Balloon>>, queue: u16, frames: &[u32]) {
    let bytes: Vec<u8> = frames.iter().flat_map(|f| f.to_le_bytes()).collect();
    rig.ram.write(Gpa(BUFFER), &bytes).unwrap();
    rig.send(queue, BUFFER, u32::try_from(bytes.len()).unwrap(), 0);
}

fn marked(rig: &Rig<VirtioPci<Balloon>>, page: u64) -> bool {
    let mut byte = [0];
    rig.ram.read(Gpa(page * PAGE_SIZE), &mut byte).unwrap();
    byte == [0xa5]
}

#[test]
fn the_host_asks_and_the_driver_is_told() {
    let (mut rig, host) = at_work();
    assert!(host.figures().driver);
    host.set_target((1 << 20) + 5).unwrap();
    assert_eq!((rig.isr(), rig.config(0)), (2, 256));
    rig.set_config(4, 200);
    let figures = host.figures();
    assert_eq!((figures.target, figures.actual), (1 << 20, 200 * PAGE_SIZE));
    let error = host.set_target(RAM + PAGE_SIZE).unwrap_err().to_string();
    assert!(error.contains("8 MiB"), "{error}");
    rig.function.reset(ResetKind::Cold);
    assert_eq!(host.figures().target, 1 << 20, "the host still wants it");
    assert_eq!((host.figures().actual, host.figures().driver), (0, false));
}

#[test]
fn inflated_pages_are_the_hosts_until_they_are_touched() {
    let (mut rig, host) = at_work();
    let before = rig.ram.held().unwrap();
    frames(&mut rig, 0, &[0x402, 0x400, 0x401, 0x500]);
    assert_eq!(rig.used(0), [(0, 0)]);
    assert_eq!(before - rig.ram.held().unwrap(), 4 * PAGE_SIZE);
    frames(&mut rig, 1, &[0x400, 0x401]);
    assert!(!marked(&rig, 0x401) && marked(&rig, 0x403));
    assert_eq!(before - rig.ram.held().unwrap(), 3 * PAGE_SIZE);
    let figures = host.figures();
    assert_eq!(
        (figures.inflated, figures.deflated, figures.returned),
        (4 * PAGE_SIZE, 2 * PAGE_SIZE, 4 * PAGE_SIZE)
    );
    assert_eq!((figures.kept, figures.nonsense), (0, 0));
}

#[test]
fn free_pages_are_reported_through_the_queue_of_either_number() {
    for queue in [3, 4] {
        let (mut rig, host) = at_work();
        let before = rig.ram.held().unwrap();
        rig.describe(queue, 0, (FIRST * PAGE_SIZE, 0x20_0000, WRITE | NEXT, 1));
        rig.describe(queue, 1, ((FIRST + 768) * PAGE_SIZE, 0x1000, WRITE, 0));
        rig.offer(queue, 0);
        rig.notify(queue);
        assert_eq!(rig.used(queue), [(0, 0)]);
        assert_eq!(before - rig.ram.held().unwrap(), 513 * PAGE_SIZE);
        assert_eq!(host.figures().reported, 513 * PAGE_SIZE);
        assert!(marked(&rig, FIRST + 512));
    }
}

#[test]
fn free_pages_that_are_to_be_poisoned_stay() {
    let (mut rig, host) = at_work();
    rig.set_config(12, 0xaaaa_aaaa);
    rig.send(4, FIRST * PAGE_SIZE, 0x1000, WRITE);
    assert!(marked(&rig, FIRST));
    assert_eq!((host.figures().kept, host.figures().returned), (0x1000, 0));
}

#[test]
fn while_memory_is_pinned_nothing_is_given_back_and_the_host_is_told_why() {
    let (mut rig, host) = at_work();
    host.set_target(1 << 20).unwrap();
    let pin = rig.ram.pin("vfio 0000:00:03.0");
    let error = host.set_target(2 << 20).unwrap_err().to_string();
    assert!(error.contains("pinned by vfio 0000:00:03.0"), "{error}");
    frames(&mut rig, 0, &[0x400]);
    rig.send(4, (FIRST + 1) * PAGE_SIZE, 0x1000, WRITE);
    assert_eq!(rig.used(0).len() + rig.used(4).len(), 2);
    assert!(marked(&rig, FIRST) && marked(&rig, FIRST + 1));
    assert_eq!(host.figures().kept, 2 * PAGE_SIZE);
    host.set_target(0).unwrap();
    drop(pin);
    host.set_target(2 << 20).unwrap();
}

#[test]
fn the_guests_figures_come_when_they_are_asked_for() {
    let (mut rig, host) = at_work();
    let record = |value: u64| [&[4, 0], &value.to_le_bytes()[..]].concat();
    rig.ram.write(Gpa(BUFFER), &record(111)).unwrap();
    rig.send(2, BUFFER, 10, 0);
    assert_eq!(host.figures().statistics.unwrap().0["free"], 111);
    assert_eq!(rig.used(2), [], "kept until new ones are wanted");
    assert_eq!(rig.function.deadline(), None);
    host.ask_statistics();
    assert_eq!(rig.function.deadline(), Some(Ns(0)));
    rig.function.wake(&mut Effects::new());
    assert_eq!((rig.used(2), rig.function.deadline()), (vec![(0, 0)], None));
    rig.ram.write(Gpa(BUFFER), &record(222)).unwrap();
    rig.send(2, BUFFER, 10, 0);
    assert_eq!(host.figures().statistics.unwrap().0["free"], 222);
}

#[test]
fn frames_that_are_no_ram_touch_nothing() {
    let (mut rig, host) = at_work();
    let before = rig.ram.held().unwrap();
    let last = u32::try_from(RAM / PAGE_SIZE).unwrap();
    frames(&mut rig, 0, &[last, last + 1, 0xf_ee00, u32::MAX]);
    assert_eq!(rig.ram.held().unwrap(), before);
    assert_eq!(host.figures().nonsense, 4);
    // A run that leaves RAM: what is RAM goes.
    frames(&mut rig, 0, &[last - 1, last]);
    assert_eq!(
        (host.figures().nonsense, host.figures().returned),
        (5, PAGE_SIZE)
    );
    for (at, len) in [(RAM - 0x1000, 0x2000), (u64::MAX, 1), (0, u32::MAX), (0, 0)] {
        rig.send(4, at, len, WRITE);
    }
    assert_eq!(rig.ram.held().unwrap(), before - PAGE_SIZE);
    assert_eq!(rig.status() & NEEDS_RESET, 0, "nonsense, but not of a ring");
}

#[test]
fn a_buffer_of_frames_without_end_is_read_in_part() {
    let (mut rig, host) = at_work();
    for index in 0..SIZE - 1 {
        rig.describe(0, index, (0x40_0000, 1 << 18, NEXT, index + 1));
    }
    rig.describe(0, SIZE - 1, (0x40_0000, 1 << 18, 0, 0));
    rig.offer(0, 0);
    rig.notify(0);
    assert_eq!(rig.used(0), [(0, 0)]);
    assert_eq!(host.figures().nonsense, 1);
}

#[test]
fn what_stopped_the_device_is_told_until_it_starts_over() {
    let (mut rig, host) = at_work();
    rig.describe(0, 0, (BUFFER, 4, NEXT, 0));
    rig.offer(0, 0);
    rig.notify(0);
    let why = host.figures().broken.unwrap();
    assert!(why.contains("chain from 0 is torn"), "{why}");
    rig.start(ALL, &[0]);
    assert_eq!(host.figures().broken, None);
}

#[test]
fn a_flood_of_frames_does_not_hold_up_the_vcpu() {
    let (mut rig, host) = at_work();
    let every_other: Vec<u32> = (0x400..0x800).step_by(2).collect();
    let bytes: Vec<u8> = every_other.iter().flat_map(|f| f.to_le_bytes()).collect();
    rig.ram.write(Gpa(BUFFER), &bytes).unwrap();
    rig.describe(0, 0, (BUFFER, 2048, 0, 0));
    (0..SIZE).for_each(|_| rig.offer(0, 0));
    rig.notify(0);
    let at_once = rig.used(0).len();
    assert!((1..usize::from(SIZE)).contains(&at_once), "{at_once}");
    while rig.function.deadline().is_some() {
        rig.function.wake(&mut Effects::new());
    }
    assert_eq!(at_once + rig.used(0).len(), usize::from(SIZE));
    assert_eq!(host.figures().inflated, 512 * u64::from(SIZE) * PAGE_SIZE);
}

#[test]
fn a_saved_balloon_keeps_its_target_and_its_buffer() {
    let (mut one, host) = at_work();
    host.set_target(1 << 20).unwrap();
    one.set_config(4, 17);
    one.send(2, BUFFER, 10, 0);
    let saved = one.function.save();
    let (mut other, again) = rig();
    other.function.load(&saved).unwrap();
    assert_eq!(other.function.save(), saved);
    let figures = again.figures();
    assert_eq!((figures.target, figures.actual), (1 << 20, 17 * PAGE_SIZE));
    assert!(figures.driver);
    let mut large = saved;
    *large.pointer_mut("/device/device/target").unwrap() = 0x801_u64.into();
    assert!(other.function.load(&large).is_err());
}

proptest! {
    #[test]
    fn a_lying_driver_reaches_guest_ram_and_nothing_else(
        buffers in prop::collection::vec(
            (0_u16..5, any::<u64>(), any::<u32>(), 0_u16..8, prop::collection::vec(any::<u32>(), 0..40)),
            0..30,
        ),
        near in prop::collection::vec(0_u32..0x900, 0..40),
    ) {
        let (mut other, _) = rig();
        let (mut rig, _) = at_work();
        let mut rings = 0;
        for (queue, at, len, flags, any) in buffers {
            frames(&mut rig, 0, &any);
            frames(&mut rig, 1, &any);
            // Rings and buffers of its own it may lose too.
            frames(&mut rig, 0, &near);
            rig.send(queue, at % (RAM * 2), len, flags);
            if rig.status() & NEEDS_RESET != 0 {
                rig.start(ALL, &[0, 1, 2, 3, 4]);
                rings += 1;
            }
        }
        prop_assert!(rings <= 30);
        prop_assert!(rig.ram.held().unwrap() <= RAM);
        let saved = rig.function.save();
        other.function.load(&saved).unwrap();
        prop_assert_eq!(other.function.save(), saved);
    }
}
