//! The transport with a device that gives every buffer back with the number of bytes it read.

use std::sync::Arc;

use proptest::prelude::*;

use super::driver::{Descriptor, INDIRECT, NEXT, RAM, Rig, SIZE, WRITE, write_descriptor};
use super::regs::{
    self, ACCESS_PLATFORM, DRIVER_OK, EVENT_IDX, FEATURES_OK, INDIRECT_DESC, NEEDS_RESET,
    VERSION_1, common as register,
};
use super::*;
use crate::bus::{Device, Ns, ResetKind, StateError, Width};
use crate::dma::{DmaError, Iova, Lookup, Transfer, Translate};
use crate::mem::Gpa;
use crate::pci::CONFIG_WINDOW;
use crate::trace::Bdf;

/// Queue 0 is served whole; of queue 1 one buffer at a time.
struct Echo {
    config: [u8; 8],
    driver: Option<u64>,
}

impl VirtioDevice for Echo {
    fn label(&self) -> &'static str {
        "echo"
    }
    fn id(&self) -> u16 {
        0x3f
    }
    fn queues(&self) -> u16 {
        2
    }
    fn features(&self) -> u64 {
        1
    }
    fn config(&self) -> Vec<u8> {
        self.config.to_vec()
    }
    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.config[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    fn driver(&mut self, features: Option<u64>) {
        self.driver = features;
    }
    fn serve(&mut self, queue: u16, ring: &mut Ring<'_>) -> Result<Served, RingError> {
        while let Some(chain) = ring.take()? {
            let read = ring.read(&chain, 1 << 16)?;
            ring.give_back(chain.head, u32::try_from(read.len()).unwrap())?;
            if queue == 1 {
                return Ok(Served::More);
            }
        }
        Ok(Served::All)
    }
    fn broken(&mut self, error: &RingError) {
        assert!(!error.to_string().is_empty());
    }
    fn reset(&mut self) {
        self.config = [0; 8];
    }
    fn save(&self) -> serde_json::Value {
        serde_json::to_value(self.config).unwrap()
    }
    fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
        self.config = crate::bus::state::load("echo", state)?;
        Ok(())
    }
}

fn rig_behind(unit: Option<Arc<dyn Translate>>) -> Rig<VirtioPci<Echo>> {
    Rig::new(unit, |_, seat| {
        let echo = Echo {
            config: [0; 8],
            driver: None,
        };
        VirtioPci::new(echo, seat.dma(), Signals::new(seat.interrupts(), 2))
    })
}

fn rig() -> Rig<VirtioPci<Echo>> {
    rig_behind(None)
}

const BUFFER: u64 = 0x20_0000;

#[test]
fn a_driver_finds_every_structure_by_its_capability() {
    let mut rig = rig();
    let mut at = rig.read(CONFIG_WINDOW, 0x34, Width::Byte);
    let mut found = Vec::new();
    while at != 0 {
        if rig.read(CONFIG_WINDOW, at, Width::Byte) == 9 {
            let kind = rig.read(CONFIG_WINDOW, at + 3, Width::Byte);
            let [bar, offset, len] =
                [4, 8, 12].map(|o| rig.read(CONFIG_WINDOW, at + o, Width::Dword));
            found.push((kind, bar & 0xff, offset, len));
        }
        at = rig.read(CONFIG_WINDOW, at + 1, Width::Byte);
    }
    assert_eq!(
        found,
        [
            (1, 0, 0, 0x38),
            (2, 0, 0x3000, 8),
            (3, 0, 0x1000, 1),
            (4, 0, 0x2000, 8)
        ]
    );
    assert_eq!(
        rig.read(CONFIG_WINDOW, 0, Width::Dword),
        0x107f_1af4,
        "a modern device"
    );
}

#[test]
fn buffers_come_back_and_intx_says_so_until_the_isr_is_read() {
    let mut rig = rig();
    rig.start(VERSION_1, &[0, 1]);
    rig.send(0, BUFFER, 100, 0);
    assert_eq!(rig.used(0), [(0, 100)]);
    assert_eq!(rig.levels(), [true]);
    assert_eq!((rig.isr(), rig.isr()), (1, 0));
    assert_eq!(rig.levels(), [false]);
}

#[test]
fn with_msix_each_queue_has_its_vector_and_no_line() {
    let mut rig = rig();
    rig.use_msix(&[0, 1]);
    assert!(rig.negotiate(VERSION_1));
    rig.enable(0);
    rig.use_msix(&[0, 1]);
    rig.set_status(DRIVER_OK);
    rig.send(0, BUFFER, 8, 0);
    assert_eq!((rig.messages(), rig.levels()), (vec![1], vec![]));
    assert_eq!(rig.isr(), 0);
    rig.set(register::QUEUE_SELECT, Width::Word, 0);
    rig.set(register::QUEUE_MSIX_VECTOR, Width::Word, 3);
    let granted = rig.common(register::QUEUE_MSIX_VECTOR, Width::Word);
    assert_eq!(granted, 0xffff, "there are three");
    rig.send(0, BUFFER, 8, 0);
    assert!(rig.messages().is_empty());
}

#[test]
fn what_was_notified_before_the_driver_was_ready_is_served_then() {
    let mut rig = rig();
    assert!(rig.negotiate(VERSION_1));
    rig.enable(0);
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.used(0), []);
    rig.set_status(DRIVER_OK);
    assert_eq!(rig.used(0), [(0, 8)]);
}

#[test]
fn work_left_over_is_done_when_the_device_is_woken() {
    let mut rig = rig();
    rig.start(VERSION_1, &[1]);
    rig.describe(1, 3, (BUFFER, 16, 0, 0));
    (0..3).for_each(|_| rig.offer(1, 3));
    rig.notify(1);
    assert_eq!(rig.used(1), [(3, 16)]);
    let mut wakes = 0;
    while rig.function.deadline() == Some(Ns(0)) {
        rig.function.wake(&mut crate::bus::Effects::new());
        wakes += 1;
    }
    assert_eq!((rig.used(1).len(), wakes), (2, 3));
}

#[test]
fn a_driver_that_asks_for_few_interrupts_gets_few() {
    let mut rig = rig();
    rig.start(VERSION_1 | EVENT_IDX, &[0]);
    // used_event: after the third buffer.
    let used_event = Rig::<VirtioPci<Echo>>::rings(0) + 0x400 + 4 + u64::from(SIZE) * 2;
    rig.ram.write(Gpa(used_event), &[2, 0]).unwrap();
    rig.send(0, BUFFER, 8, 0);
    rig.send(0, BUFFER, 8, 0);
    assert!(rig.levels().is_empty());
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.levels(), [true]);
}

#[test]
fn indirect_descriptors_are_followed() {
    let mut rig = rig();
    rig.start(VERSION_1 | INDIRECT_DESC, &[0]);
    let table = 0x30_0000;
    write_descriptor(&rig.ram, table, (BUFFER, 10, NEXT, 1));
    write_descriptor(&rig.ram, table + 16, (BUFFER, 20, NEXT, 2));
    write_descriptor(&rig.ram, table + 32, (BUFFER, 40, WRITE, 0));
    rig.send(0, table, 48, INDIRECT);
    assert_eq!(rig.used(0), [(0, 30)]);
}

#[test]
fn configuration_and_registers_of_no_queue_read_as_specified() {
    let mut rig = rig();
    rig.set_config(4, 0x1234_5678);
    assert_eq!((rig.config(4), rig.config(0)), (0x1234_5678, 0));
    assert_eq!(rig.config(8), u32::MAX, "past its end");
    rig.set(register::QUEUE_SELECT, Width::Word, 2);
    assert_eq!(rig.common(register::QUEUE_SIZE, Width::Word), 0);
    rig.set(register::QUEUE_SELECT, Width::Word, 1);
    assert_eq!(rig.common(register::QUEUE_SIZE, Width::Word), 128);
    for size in [0, 3, 129, 256, 0xffff] {
        rig.set(register::QUEUE_SIZE, Width::Word, size);
        let kept = rig.common(register::QUEUE_SIZE, Width::Word);
        assert_eq!(kept, 128, "{size} is no size");
    }
    assert_eq!(rig.common(register::NUM_QUEUES, Width::Word), 2);
}

#[test]
fn a_device_that_gives_up_says_so_and_starts_over_after_a_reset() {
    let mut rig = rig();
    rig.start(VERSION_1, &[0]);
    rig.send(0, RAM, 8, 0);
    assert_ne!(rig.status() & NEEDS_RESET, 0, "no RAM there");
    assert_eq!(rig.isr(), 2, "a change of configuration");
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.used(0), []);
    rig.start(VERSION_1, &[0]);
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.used(0), [(0, 8)]);
}

#[test]
fn rings_that_cannot_be_stop_the_device_and_nothing_else() {
    let base = Rig::<VirtioPci<Echo>>::rings(0);
    let good = [base, base + 0x400, base + 0x800];
    let with = |index: usize, address| {
        let mut all = good;
        all[index] = address;
        all
    };
    for addresses in [
        with(0, base + 8),
        with(1, base + 0x401),
        with(2, base + 0x802),
        with(0, RAM),
        with(0, u64::MAX - 15),
        with(1, RAM),
        with(1, u64::MAX - 1),
        with(2, RAM),
        with(2, u64::MAX - 3),
    ] {
        let mut rig = rig();
        assert!(rig.negotiate(VERSION_1 | EVENT_IDX));
        rig.ram.write(Gpa(base), &[0; 0x1000]).unwrap();
        rig.place(0, SIZE, addresses);
        rig.set_status(DRIVER_OK);
        rig.send(0, BUFFER, 8, 0);
        assert_ne!(rig.status() & NEEDS_RESET, 0, "{addresses:#x?}");
    }
}

#[test]
fn chains_that_cannot_be_stop_the_device() {
    let loops: &[Descriptor] = &[(BUFFER, 8, NEXT, 1), (BUFFER, 8, NEXT, 0)];
    let nowhere: &[Descriptor] = &[(BUFFER, 8, NEXT, SIZE)];
    let far: &[Descriptor] = &[(BUFFER, 8, NEXT, 0xffff)];
    let odd_table: &[Descriptor] = &[(BUFFER, 17, INDIRECT, 0)];
    let no_table: &[Descriptor] = &[(RAM, 16, INDIRECT, 0)];
    let empty_table: &[Descriptor] = &[(BUFFER, 0, INDIRECT, 0)];
    let table_in_itself: &[Descriptor] = &[(Rig::<VirtioPci<Echo>>::rings(0), 16, INDIRECT, 0)];
    let huge: &[Descriptor] = &[
        (BUFFER, u32::MAX, NEXT | WRITE, 1),
        (BUFFER, u32::MAX, WRITE, 0),
    ];
    for chain in [
        loops,
        nowhere,
        far,
        odd_table,
        no_table,
        empty_table,
        table_in_itself,
        huge,
    ] {
        let mut rig = rig();
        rig.start(VERSION_1 | INDIRECT_DESC, &[0]);
        for (index, descriptor) in (0..).zip(chain) {
            rig.describe(0, index, *descriptor);
        }
        rig.offer(0, 0);
        rig.notify(0);
        assert_ne!(rig.status() & NEEDS_RESET, 0, "{chain:x?}");
        assert_eq!(rig.used(0), [], "{chain:x?}");
    }
}

#[test]
fn a_table_longer_than_the_queue_is_refused() {
    let mut rig = rig();
    rig.start(VERSION_1 | INDIRECT_DESC, &[0]);
    let table = 0x30_0000;
    for index in 0..u16::MAX {
        write_descriptor(
            &rig.ram,
            table + u64::from(index) * 16,
            (BUFFER, 1, NEXT, index + 1),
        );
    }
    rig.send(0, table, u32::from(u16::MAX) * 16, INDIRECT);
    assert_ne!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn an_available_index_out_of_reach_stops_the_device() {
    let mut rig = rig();
    rig.start(VERSION_1, &[0]);
    let index = Rig::<VirtioPci<Echo>>::rings(0) + 0x402;
    rig.ram
        .write(Gpa(index), &(SIZE + 1).to_le_bytes())
        .unwrap();
    rig.notify(0);
    assert_ne!(rig.status() & NEEDS_RESET, 0);
    rig.start(VERSION_1, &[0]);
    rig.offer(0, SIZE);
    rig.notify(0);
    assert_ne!(rig.status() & NEEDS_RESET, 0, "a head that is not there");
}

#[test]
fn without_bus_mastering_the_rings_are_out_of_reach() {
    let mut rig = rig();
    rig.start(VERSION_1, &[0]);
    rig.write(CONFIG_WINDOW, 4, Width::Word, 2);
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.used(0), []);
    assert_ne!(rig.status() & NEEDS_RESET, 0);
}

/// Shows the device its memory a page further down.
#[derive(Debug)]
struct Shift;

impl Lookup for Shift {
    fn translate(&self, _: Bdf, iova: Iova, _: Transfer) -> Result<Gpa, DmaError> {
        match iova.0.checked_sub(1 << 32) {
            Some(at) => Ok(Gpa(at)),
            None => Err(DmaError::Blocked(iova)),
        }
    }
}

impl Translate for Shift {
    fn hold(&self, work: &mut dyn FnMut(&dyn Lookup)) {
        work(self);
    }
}

#[test]
fn behind_an_iommu_rings_and_buffers_are_translated() {
    let mut rig = rig_behind(Some(Arc::new(Shift)));
    assert_ne!(rig.offered() & ACCESS_PLATFORM, 0);
    assert!(!rig.negotiate(VERSION_1), "the driver ignores the IOMMU");
    let base = Rig::<VirtioPci<Echo>>::rings(0);
    let up = 1_u64 << 32;
    assert!(rig.negotiate(VERSION_1 | ACCESS_PLATFORM));
    rig.place(0, SIZE, [base + up, base + up + 0x400, base + up + 0x800]);
    rig.set_status(DRIVER_OK);
    rig.send(0, BUFFER + up, 8, 0);
    assert_eq!(rig.used(0), [(0, 8)]);
    rig.send(0, BUFFER, 8, 0);
    assert_eq!(rig.used(0), [], "not mapped");
    assert_ne!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn a_saved_device_goes_on_where_it_was() {
    let mut one = rig();
    one.start(VERSION_1 | EVENT_IDX, &[0, 1]);
    one.set_config(0, 7);
    one.send(0, BUFFER, 8, 0);
    let saved = one.function.save();
    let mut other = rig();
    other.function.load(&saved).unwrap();
    assert_eq!(other.function.save(), saved);
    // The same rings in the other one's memory.
    let base = Rig::<VirtioPci<Echo>>::rings(0);
    let mut page = vec![0; 0x1000];
    one.ram.read(Gpa(base), &mut page).unwrap();
    other.ram.write(Gpa(base), &page).unwrap();
    other.offer(0, 0);
    other.offer(0, 0);
    other.notify(0);
    assert_eq!(other.used(0), [(0, 8), (0, 8)]);
    assert_eq!(other.config(0), 7);
}

#[test]
fn impossible_states_are_refused() {
    let mut rig = rig();
    rig.start(VERSION_1, &[0]);
    let saved = rig.function.save();
    let with = |path: &str, value: serde_json::Value| {
        let mut state = saved.clone();
        *state.pointer_mut(path).expect(path) = value;
        state
    };
    for (path, value) in [
        ("/device/common/status", 0x10_u64.into()),
        ("/device/common/status", u64::from(DRIVER_OK).into()),
        ("/device/common/driver_features", 0_u64.into()),
        (
            "/device/common/driver_features",
            (VERSION_1 | 1 << 40).into(),
        ),
        ("/device/queues", serde_json::json!([])),
        ("/device/queues/0/size", 3_u64.into()),
        ("/device/queues/0/size", 0_u64.into()),
        ("/device/queues/0/size", 256_u64.into()),
        ("/device/queues/0/descriptors", 1_u64.into()),
        ("/device/queues/1/next_avail", 1_u64.into()),
        ("/device/signals/isr", 4_u64.into()),
        ("/device/signals/live", false.into()),
        ("/device/signals/config_vector", 3_u64.into()),
        ("/device/signals/queue_vectors", serde_json::json!([0])),
    ] {
        let refused = rig.function.load(&with(path, value.clone()));
        assert!(refused.is_err(), "{path} {value}");
        assert_eq!(rig.function.save(), saved, "{path} {value}");
    }
}

#[test]
fn a_reset_device_is_a_new_one() {
    let mut one = rig();
    one.start(VERSION_1 | EVENT_IDX, &[0, 1]);
    one.send(0, BUFFER, 8, 0);
    one.set_config(0, 7);
    one.function.reset(ResetKind::Warm);
    let mut fresh = rig();
    fresh.function.reset(ResetKind::Warm);
    assert_eq!(one.function.save(), fresh.function.save());
    assert_eq!(one.levels(), [true, false]);
}

/// One step of a hostile driver.
#[derive(Debug, Clone)]
enum Step {
    Register(u64, Width, u64),
    Memory(u64, u64),
    Notify(u16),
    Start(u64),
    Wake,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let width = prop::sample::select(vec![Width::Byte, Width::Word, Width::Dword, Width::Qword]);
    let base = Rig::<VirtioPci<Echo>>::rings(0);
    let address = prop_oneof![
        Just(base),
        Just(base + 0x400),
        Just(RAM - 16),
        any::<u64>(),
        0..RAM + 0x1000
    ];
    let value = prop_oneof![any::<u64>(), 0_u64..16, address];
    let registers = prop_oneof![
        0_u64..0x40,
        0x1000..0x1004_u64,
        0x2000..0x2010_u64,
        0..0x8000_u64
    ];
    let register = (registers, width, value.clone()).prop_map(|(o, w, v)| Step::Register(o, w, v));
    // The rings of both queues are where most hits land.
    let places = prop_oneof![base..base + 0xc00, base..base + 0x1c00, 0..RAM - 8];
    let memory = (places, value).prop_map(|(at, value)| Step::Memory(at & !1, value));
    let features = prop_oneof![Just(VERSION_1), Just(VERSION_1 | EVENT_IDX | INDIRECT_DESC)];
    let step = prop_oneof![
        4 => register,
        6 => memory,
        4 => (0_u16..3).prop_map(Step::Notify),
        1 => features.prop_map(Step::Start),
        1 => Just(Step::Wake),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    #[test]
    fn a_hostile_driver_is_answered_and_its_device_saves_loads_and_resets(steps in steps()) {
        let mut rig = rig();
        rig.start(VERSION_1 | EVENT_IDX, &[0, 1]);
        for step in steps {
            match step {
                Step::Register(at, width, value) => rig.write(0, at, width, value),
                Step::Memory(at, value) => {
                    let _ = rig.ram.write(Gpa(at), &value.to_le_bytes());
                }
                Step::Notify(queue) => rig.notify(queue),
                Step::Start(features) => {
                    rig.negotiate(features);
                    rig.enable(0);
                    rig.enable(1);
                    rig.set_status(DRIVER_OK);
                }
                Step::Wake => rig.function.wake(&mut crate::bus::Effects::new()),
            }
        }
        let saved = rig.function.save();
        let mut other = rig_behind(None);
        other.function.load(&saved).unwrap();
        prop_assert_eq!(other.function.save(), saved);
        // Whatever happened, a reset and a good driver get it to work again.
        rig.function.reset(ResetKind::Warm);
        rig.write(CONFIG_WINDOW, 4, Width::Word, 6);
        rig.start(VERSION_1, &[0]);
        rig.send(0, BUFFER, 8, 0);
        prop_assert_eq!(rig.used(0), vec![(0, 8)]);
        prop_assert_eq!(rig.status() & (FEATURES_OK | NEEDS_RESET), FEATURES_OK);
    }
}

#[test]
fn registers_have_one_width() {
    let mut rig = rig();
    rig.set(register::QUEUE_SELECT, Width::Dword, 1);
    assert_eq!(rig.common(register::QUEUE_SELECT, Width::Word), 0);
    rig.set(register::QUEUE_DESC, Width::Qword, 0x1000);
    assert_eq!(rig.common(register::QUEUE_DESC, Width::Dword), 0);
    rig.set(register::QUEUE_DESC + 4, Width::Dword, 0x12);
    assert_eq!(rig.common(register::QUEUE_DESC, Width::Qword), 0x12 << 32);
    assert_eq!(regs::common::LEN, 0x38);
}
