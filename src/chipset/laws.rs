//! The laws that every device of this room obeys, from its first day.

use std::sync::Arc;

use proptest::prelude::*;

use crate::bus::{Access, Clock, Device, Effects, Ns, ResetKind, TestClock, Width, Window};

use crate::dma::Dma;
use crate::mem::{GuestRam, HugePages};
use crate::pci::{Function, Pirqs};
use crate::trace::Space;

use super::rig::{Printed, Wires, seat};
use super::{
    CmosMemory, DebugExit, DebugExitMode, FwCfg, FwCfgFacts, HostBridge, HostInput, I8042,
    IsaBridge, Parcels, Piix3Ide, PmBlock, Port92, PostCode, Postbox, Pvpanic, Rtc, Serial,
};

/// A device, what it needs to live, and the ports whose reads change what the next read gives.
struct Case {
    device: Box<dyn Device>,
    clock: Arc<TestClock>,
    read_sensitive: &'static [u64],
    _wires: Wires,
}

struct Dropped;

impl Parcels for Dropped {
    fn deliver(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
}

type Build = fn() -> Case;

fn case(
    read_sensitive: &'static [u64],
    build: impl FnOnce(&Wires, Arc<TestClock>) -> Box<dyn Device>,
) -> Case {
    let (wires, clock) = (Wires::new(), Arc::new(TestClock::default()));
    clock.advance(Ns(12_345_678_901));
    Case {
        device: build(&wires, clock.clone()),
        clock,
        read_sensitive,
        _wires: wires,
    }
}

/// Every device of the room.
const ALL: &[Build] = &[
    || case(&[], |_, _| Box::new(DebugExit::new(DebugExitMode::Exit))),
    || case(&[], |_, _| Box::new(Pvpanic)),
    || {
        case(&[], |wires, _| {
            Box::new(Function::new(seat(wires, None), HostBridge::new()))
        })
    },
    || {
        case(&[], |wires, _| {
            let bridge = IsaBridge::new(Pirqs::new());
            Box::new(Function::new(seat(wires, None), bridge))
        })
    },
    || case(&[], |_, _| Box::new(Port92::new())),
    || case(&[], |_, _| Box::new(PostCode::new(None))),
    || {
        case(&[], |wires, clock| {
            let pm = PmBlock::new(wires.line(9), clock);
            Box::new(Function::new(seat(wires, None), pm))
        })
    },
    || {
        case(&[], |_, _| {
            let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
            let input = HostInput::default();
            assert_eq!(input.push(b"piped in"), 8);
            Box::new(Postbox::new(Dma::platform(ram), Box::new(Dropped), input))
        })
    },
    // The data ports: channels that do not decode, for firmware is not in here.
    || {
        case(&[0x1f0, 0x170], |wires, _| {
            let seat = seat(wires, None);
            let lines = [14, 15].map(|gsi| wires.line(gsi));
            let ide = Piix3Ide::new([const { None }; 4], &seat.dma(), lines).unwrap();
            Box::new(Function::new(seat, ide))
        })
    },
    // The data port.
    || {
        case(&[0x511], |_, _| {
            let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
            let facts = FwCfgFacts::default();
            Box::new(FwCfg::new(&facts, Dma::platform(ram)))
        })
    },
    // The data port; the status follows it.
    || {
        case(&[0x60], |wires, _| {
            Box::new(I8042::new(wires.line(1), wires.line(12)))
        })
    },
    // The data port: register C.
    || {
        case(&[0x71], |wires, clock| {
            let memory = CmosMemory {
                below_4g: 1 << 30,
                above_4g: 0,
            };
            Box::new(Rtc::new(wires.line(8), clock, memory))
        })
    },
    // RBR, IIR; LSR follows RBR.
    || {
        case(&[0x3f8, 0x3fa, 0x3fd], |wires, clock| {
            let input = HostInput::default();
            assert_eq!(input.push(b"typed before anything else"), 26);
            Box::new(Serial::new(
                wires.line(4),
                Box::new(Printed::default()),
                input,
                clock,
            ))
        })
    },
];

#[derive(Debug, Clone)]
struct Step {
    window: usize,
    offset: u64,
    width: Width,
    write: Option<u64>,
    advance: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let width = prop::sample::select(vec![Width::Byte, Width::Word, Width::Dword, Width::Qword]);
    let value = prop_oneof![any::<u64>(), 0_u64..256, Just(u64::MAX)];
    let advance = prop_oneof![Just(0), 0..5_000_000_000_u64, Just(1 << 60)];
    let step = (
        any::<usize>(),
        any::<u64>(),
        width,
        prop::option::of(value),
        advance,
    )
        .prop_map(|(window, offset, width, write, advance)| Step {
            window,
            offset,
            width,
            write,
            advance,
        });
    prop::collection::vec(step, 0..80)
}

/// Runs a hostile guest on the device. Accesses lie inside their window, as the bus guarantees.
fn run(case: &mut Case, steps: &[Step]) {
    let windows = case.device.windows();
    for step in steps {
        case.clock.advance(Ns(step.advance));
        let mut effects = Effects::new();
        if case
            .device
            .deadline()
            .is_some_and(|at| at <= case.clock.now())
        {
            case.device.wake(&mut effects);
        }
        let window: &Window = &windows[step.window % windows.len()];
        let Some(room) = window.len.checked_sub(u64::from(step.width.bytes())) else {
            continue;
        };
        let at = Access {
            window: window.id,
            offset: step.offset % (room + 1),
            width: step.width,
        };
        // Refusals are ordinary answers.
        let _ = match step.write {
            Some(value) => case
                .device
                .write(at, value & step.width.ones(), &mut effects),
            None => case.device.read(at, &mut effects).map(drop),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_accesses_return_and_what_they_leave_saves_and_loads(steps in steps()) {
        for build in ALL {
            let mut one = build();
            run(&mut one, &steps);
            let saved = one.device.save();
            let mut other = build();
            prop_assert!(other.device.load(&saved).is_ok(), "{saved}");
            prop_assert_eq!(other.device.save(), saved, "{}", one.device.label());
        }
    }

    #[test]
    fn a_cold_reset_is_a_new_device(steps in steps()) {
        for build in ALL {
            let mut one = build();
            run(&mut one, &steps);
            one.device.reset(ResetKind::Cold);
            let fresh = build();
            let gone = one.clock.now().0.wrapping_sub(fresh.clock.now().0);
            fresh.clock.advance(Ns(gone));
            let mut fresh_device = fresh.device;
            fresh_device.reset(ResetKind::Cold);
            prop_assert_eq!(one.device.save(), fresh_device.save(), "{}", one.device.label());
        }
    }

    #[test]
    fn reading_everything_twice_gives_the_same(steps in steps()) {
        for build in ALL {
            let mut one = build();
            run(&mut one, &steps);
            for window in one.device.windows() {
                for offset in 0..window.len {
                    let port = window.base.unwrap_or_default() + offset;
                    if window.space == Space::Pio && one.read_sensitive.contains(&port) {
                        continue;
                    }
                    let at = Access { window: window.id, offset, width: Width::Byte };
                    let first = one.device.read(at, &mut Effects::new());
                    let second = one.device.read(at, &mut Effects::new());
                    prop_assert_eq!(first, second, "{} {:#x}", one.device.label(), port);
                }
            }
        }
    }

    /// Whatever a state file holds, loading it is refused or leaves a device that works.
    #[test]
    fn a_tampered_state_is_refused_or_harmless(
        steps in steps(),
        field in any::<usize>(),
        value in prop_oneof![any::<u64>().prop_map(serde_json::Value::from), Just(serde_json::Value::Null)],
    ) {
        for build in ALL {
            let mut one = build();
            run(&mut one, &steps);
            let mut saved = one.device.save();
            if let Some(fields) = saved.as_object_mut() {
                let names: Vec<String> = fields.keys().cloned().collect();
                fields.insert(names[field % names.len()].clone(), value.clone());
            }
            let before = one.device.save();
            if one.device.load(&saved).is_err() {
                prop_assert_eq!(one.device.save(), before, "a refused load changes nothing");
            }
            run(&mut one, &steps);
        }
    }
}

#[test]
fn a_new_device_is_as_after_a_cold_reset() {
    for build in ALL {
        let mut one = build();
        let new = one.device.save();
        one.device.reset(ResetKind::Cold);
        assert_eq!(one.device.save(), new, "{}", one.device.label());
    }
}

#[test]
fn labels_are_unique_and_windows_do_not_overlap() {
    let mut bus = crate::bus::Bus::new();
    let mut labels = std::collections::BTreeSet::new();
    for build in ALL {
        let case = build();
        assert!(labels.insert(case.device.label()));
        // All functions sit at one address here; the board's own test is `machine`'s.
        if case.device.windows().iter().all(|w| w.space == Space::Pio) {
            bus.attach(case.device).unwrap();
        }
    }
}
