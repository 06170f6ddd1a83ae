//! The board's devices against a hostile guest, all of them on one bus; and every configuration
//! register against its table.

use std::io;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::bus::{
    BusPort, Effect, EffectSink, GsiSink, Msi, Ns, Placed, ResetKind, TestClock, Width,
};
use crate::mem::HugePages;
use crate::pci::{Field, config_address};
use crate::trace::{Probe, Space};

use super::super::disk::DriveUse;
use super::super::firmware;

#[derive(Debug, Default)]
struct Nowhere(Mutex<Vec<Effect>>);

impl GsiSink for Nowhere {
    fn set(&self, _: u32, _: bool) {}
}

impl MsiSink for Nowhere {
    fn send(&self, _: Msi) -> bool {
        true
    }
}

impl EffectSink for Nowhere {
    fn apply(&self, effect: Effect) {
        self.0.lock().unwrap().push(effect);
    }
}

impl ConsoleOut for Nowhere {
    fn put(&mut self, _: u8) {}
}

impl Parcels for Nowhere {
    fn deliver(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A small image.
fn image() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(64 << 10).unwrap();
    file
}

struct Rig {
    port: BusPort,
    functions: Vec<FunctionUse>,
    lines: Lines,
    clock: Arc<TestClock>,
}

/// A whole board with 2 MiB of RAM, as after power-on, before firmware.
fn rig() -> Rig {
    let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
    let clock = Arc::new(TestClock::default());
    let lines = Lines::new(Arc::new(Nowhere::default()));
    let ends = Ends {
        console: Box::new(Nowhere::default()),
        parcels: Box::new(Nowhere::default()),
        input: HostInput::default(),
        piped: HostInput::default(),
        clock: clock.clone(),
        lines: lines.clone(),
        messages: Arc::new(Nowhere::default()),
        tell: Arc::new(drop),
        phys_bits: 46,
    };
    let image = image();
    let drive = DriveSpec {
        path: image.path().into(),
        kind: DriveUse::Disk {
            read_only: false,
            overlay: true,
        },
    };
    let equipment = Equipment {
        devices: vec![
            Extra::Edu { dma_bits: 28 },
            Extra::TestDevice,
            Extra::PciTestDevice,
            Extra::Edu { dma_bits: 64 },
            Extra::Balloon,
        ],
        drives: vec![drive; 3],
        ..Equipment::default()
    };
    let devices = fit_out(&equipment, &facts(1, &ram), &ram, ends).unwrap();
    Rig {
        port: BusPort {
            bus: Arc::new(devices.bus),
            sink: Arc::new(Nowhere::default()),
        },
        functions: devices.functions,
        lines,
        clock,
    }
}

impl Rig {
    fn read(&self, space: Space, at: u64, width: Width) -> u64 {
        let sink = &*self.port.sink;
        self.port.bus.read(space, at, width, sink, &Probe::off())
    }

    fn write(&self, space: Space, at: u64, width: Width, value: u64) {
        let (bus, sink) = (&self.port.bus, &*self.port.sink);
        bus.write(space, at, width, value, sink, &Probe::off());
    }

    fn save(&self) -> Vec<(String, serde_json::Value)> {
        let states = self.port.bus.save().into_iter();
        states.map(|(label, state)| (label.into(), state)).collect()
    }

    /// Runs deadlines as the main thread does.
    fn advance(&self, by: u64) {
        self.clock.advance(Ns(by));
        self.port.bus.wake(self.clock.now(), &*self.port.sink);
    }
}

#[test]
fn every_configuration_register_is_what_its_table_says() {
    for function in rig().functions {
        let name = |field: &Field| format!("{} {} {:#x}", function.bdf, field.name, field.offset);
        let mut taken = [false; 256];
        for field in &function.fields {
            let first = usize::from(field.offset);
            let width = usize::from(field.width.bytes());
            for byte in &mut taken[first..first + width] {
                assert!(!std::mem::replace(byte, true), "{} overlaps", name(field));
            }
            let ones = u32::try_from(field.width.ones()).unwrap();
            assert_eq!(field.writable & field.clear, 0, "{}", name(field));
            assert_eq!(
                (field.reset | field.writable | field.clear) & !ones,
                0,
                "{}",
                name(field)
            );

            let rig = rig();
            let at = config_address(function.bdf, field.offset);
            let read = || u32::try_from(rig.read(Space::Config, at, field.width)).unwrap();
            let write = |value: u32| rig.write(Space::Config, at, field.width, value.into());
            assert_eq!(read(), field.reset, "{} after reset", name(field));
            write(u32::MAX);
            let set = (field.reset | field.writable) & !field.clear;
            assert_eq!(read(), set, "{} after ones", name(field));
            write(0);
            assert_eq!(
                read(),
                field.reset & !field.writable & !field.clear,
                "{}",
                name(field)
            );
            rig.port.bus.reset(ResetKind::Warm);
            assert_eq!(read(), field.reset, "{} after another reset", name(field));
        }
        let free = (0..=0xff_u8).filter(|at| !taken[usize::from(*at)]);
        for at in free {
            let rig = rig();
            let address = config_address(function.bdf, at);
            rig.write(Space::Config, address, Width::Byte, 0xff);
            assert_eq!(
                rig.read(Space::Config, address, Width::Byte),
                0,
                "{address:#x}"
            );
        }
    }
}

#[test]
fn firmware_leaves_the_bus_as_a_kernel_expects_it() {
    let rig = rig();
    firmware::set_up(&rig.port);
    let id = |bdf| rig.read(Space::Config, config_address(bdf, 0), Width::Dword);
    assert_eq!(id(functions::HOST_BRIDGE), 0x1237_8086);
    assert_eq!(id(functions::ISA_BRIDGE), 0x7000_8086);
    assert_eq!(id(functions::POWER), 0x7113_8086);
    let placed = rig.port.bus.listing();
    let pm = placed.iter().find(|p| p.window == "PM").unwrap();
    assert_eq!((pm.first, pm.last), (0x600, 0x63f));
    let routes = config_address(functions::ISA_BRIDGE, 0x60);
    assert_eq!(rig.read(Space::Config, routes, Width::Dword), 0x0b0b_0a0a);
    rig.port.bus.reset(ResetKind::Cold);
    assert!(rig.port.bus.listing().iter().all(|p| p.window != "PM"));
    firmware::set_up(&rig.port);
    assert_eq!(rig.port.bus.listing(), placed);
}

#[test]
fn configuration_space_is_reached_through_the_ports() {
    let rig = rig();
    rig.write(Space::Pio, 0xcf8, Width::Dword, 0x8000_0800);
    assert_eq!(rig.read(Space::Pio, 0xcfc, Width::Dword), 0x7000_8086);
    assert_eq!(rig.read(Space::Pio, 0xcfe, Width::Word), 0x7000);
    rig.write(Space::Pio, 0xcf8, Width::Dword, 0x8000_0803);
    assert_eq!(rig.read(Space::Pio, 0xcfc, Width::Byte), 0x70);
    rig.write(Space::Pio, 0xcf8, Width::Dword, 0x8000_f800);
    assert_eq!(
        rig.read(Space::Pio, 0xcfc, Width::Dword),
        0xffff_ffff,
        "nobody"
    );
    rig.write(Space::Pio, 0xcf8, Width::Dword, 0x0000_0800);
    assert_eq!(
        rig.read(Space::Pio, 0xcfc, Width::Dword),
        0xffff_ffff,
        "disabled"
    );
}

#[derive(Debug, Clone)]
struct Step {
    place: usize,
    offset: u64,
    width: Width,
    write: Option<u64>,
    advance: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let width = prop::sample::select(vec![Width::Byte, Width::Word, Width::Dword, Width::Qword]);
    let value = prop_oneof![any::<u64>(), 0_u64..256, Just(u64::MAX)];
    let advance = prop_oneof![Just(0), 0..500_000_000_u64];
    let step = (
        any::<usize>(),
        any::<u64>(),
        width,
        prop::option::of(value),
        advance,
    );
    let step = step.prop_map(|(place, offset, width, write, advance)| Step {
        place,
        offset,
        width,
        write,
        advance,
    });
    prop::collection::vec(step, 0..120)
}

/// Runs a hostile guest: anywhere in a window that lies somewhere now, a little before it, or past
/// its end.
fn run(rig: &Rig, steps: &[Step]) {
    for step in steps {
        rig.advance(step.advance);
        let placed = rig.port.bus.listing();
        let Placed {
            space, first, last, ..
        } = placed[step.place % placed.len()];
        let span = (last - first).saturating_add(9);
        let at = first.wrapping_sub(4).wrapping_add(step.offset % span);
        match step.write {
            Some(value) => rig.write(space, at, step.width, value),
            None => drop(rig.read(space, at, step.width)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_accesses_return_and_what_they_leave_saves_and_loads(steps in steps()) {
        let one = rig();
        firmware::set_up(&one.port);
        run(&one, &steps);
        one.port.bus.park();
        let (saved, placed) = (one.save(), one.port.bus.listing());
        let other = rig();
        other.port.bus.load(&saved).unwrap();
        prop_assert_eq!(other.save(), saved);
        let levels = |rig: &Rig| {
            rig.lines.listing().iter().map(|l| (l.gsi, l.level)).collect::<Vec<_>>()
        };
        prop_assert_eq!(levels(&other), levels(&one));
        // Windows that fight over a place may end the other way round.
        prop_assert_eq!(other.port.bus.listing().len(), placed.len());
    }

    #[test]
    fn a_reset_board_is_a_new_one(steps in steps()) {
        let one = rig();
        run(&one, &steps);
        one.port.bus.park();
        one.port.bus.reset(ResetKind::Cold);
        let fresh = rig();
        fresh.clock.advance(Ns(one.clock.now().0));
        fresh.port.bus.reset(ResetKind::Cold);
        prop_assert_eq!(one.save(), fresh.save());
        prop_assert_eq!(one.port.bus.listing(), fresh.port.bus.listing());
        prop_assert_eq!(one.lines.listing(), fresh.lines.listing());
    }

    #[test]
    fn reading_everything_twice_gives_the_same(steps in steps()) {
        // The serial port's RBR, IIR and LSR; the keyboard's data; RTC register C; fw_cfg's data; the
        // postbox's input; the disks' data.
        const READ_SENSITIVE: [u64; 9] =
            [0x3f8, 0x3fa, 0x3fd, 0x60, 0x71, 0x511, 0xe84, 0x1f0, 0x170];
        let rig = rig();
        firmware::set_up(&rig.port);
        run(&rig, &steps);
        rig.port.bus.park();
        for Placed { space, first, last, .. } in rig.port.bus.listing() {
            // Of a large BAR, the pages with registers.
            for at in (first..=last).filter(|at| at - first < 0x200 || last - at < 0x10) {
                if space == Space::Pio && READ_SENSITIVE.contains(&at) {
                    continue;
                }
                for width in [Width::Byte, Width::Dword] {
                    let wide = (at..=at + 3).any(|at| READ_SENSITIVE.contains(&at));
                    if width == Width::Dword && (wide || at % 4 != 0) {
                        continue;
                    }
                    let twice = [rig.read(space, at, width), rig.read(space, at, width)];
                    prop_assert_eq!(twice[0], twice[1], "{:?} {:#x}", space, at);
                }
            }
        }
    }
}

#[test]
fn labels_of_devices_that_are_there_once_are_unique() {
    let mut labels: Vec<_> = rig().port.bus.devices().iter().map(|d| d.0).collect();
    labels.retain(|label| *label != "edu");
    let count = labels.len();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), count);
}

#[test]
fn more_devices_than_slots_are_refused_with_both_numbers() {
    let equipment = Equipment {
        devices: vec![Extra::Edu { dma_bits: 28 }; 31],
        ..Equipment::default()
    };
    let error = super::super::listing::describe(2 << 20, &equipment).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("31") && text.contains("30"), "{text}");
}
