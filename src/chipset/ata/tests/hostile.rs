//! Guests that want to do harm, and state files that were changed.

use proptest::prelude::*;

use super::super::DriveKind;
use super::super::rig::{Faulty, MASTER, PRIMARY, PRIMARY_CONTROL, Rig, SECONDARY, pattern, rig};
use crate::bus::{Device, ResetKind, Width};
use crate::chipset::DriveMedium;
use crate::mem::Gpa;
use crate::pci::CONFIG_WINDOW;

#[derive(Debug, Clone)]
enum Step {
    Access(u8, u64, Width, Option<u64>),
    Command(u8, u32, u8),
    Start(u8),
    Entry(u8, u64),
    Take(usize),
    Reset(u8),
    Park,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let window = prop::sample::select(vec![
        PRIMARY,
        PRIMARY_CONTROL,
        SECONDARY,
        SECONDARY + 1,
        MASTER,
        CONFIG_WINDOW,
    ]);
    let width = prop::sample::select(vec![Width::Byte, Width::Word, Width::Dword]);
    let value = prop_oneof![any::<u64>(), 0_u64..256];
    let code = prop::sample::select(vec![
        0x20, 0x25, 0x30, 0x35, 0x40, 0x90, 0x91, 0xa0, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe7, 0xec,
        0xef, 0xa1, 0x08,
    ]);
    let entry = prop_oneof![any::<u64>(), (0_u64..0x40_0000).prop_map(|at| at | 1 << 41)];
    let step = prop_oneof![
        4 => (window, 0_u64..16, width, prop::option::of(value))
            .prop_map(|(window, offset, width, value)| Step::Access(window, offset, width, value)),
        4 => (code, 0_u32..120, any::<u8>()).prop_map(|(c, s, n)| Step::Command(c, s, n)),
        2 => any::<u8>().prop_map(Step::Start),
        2 => (0_u8..4, entry).prop_map(|(n, entry)| Step::Entry(n, entry)),
        2 => (0_usize..600).prop_map(Step::Take),
        1 => any::<u8>().prop_map(Step::Reset),
        1 => Just(Step::Park),
    ];
    prop::collection::vec(step, 0..60)
}

/// A disk and a disc on each channel.
fn crowd() -> Rig {
    let drive = |kind, sectors| -> Option<DriveMedium> {
        Some((kind, Box::new(Faulty::new(pattern(sectors)))))
    };
    rig([
        drive(DriveKind::Disk, 100),
        drive(DriveKind::CdRom, 100),
        drive(DriveKind::CdRom, 100),
        drive(DriveKind::Disk, 3),
    ])
}

fn run(rig: &mut Rig, steps: &[Step]) {
    rig.access(MASTER, 4, Width::Dword, Some(0x1000));
    for step in steps {
        match *step {
            Step::Access(window, offset, width, value) => {
                let len = match window {
                    PRIMARY | SECONDARY => 8,
                    MASTER => 16,
                    CONFIG_WINDOW => 0x100,
                    _ => 1,
                };
                // Firmware's settings stay, or nothing answers any more.
                let offset = if window == CONFIG_WINDOW {
                    offset + 0x50
                } else {
                    offset
                };
                if offset + u64::from(width.bytes()) <= len {
                    rig.access(window, offset, width, value);
                }
            }
            Step::Command(code, sector, count) => rig.command(code, sector, count),
            Step::Start(command) => rig.outb(MASTER, 0, command),
            Step::Entry(at, entry) => {
                let place = Gpa(0x1000 + u64::from(at) * 8);
                rig.ram.write(place, &entry.to_le_bytes()).unwrap();
            }
            Step::Take(len) => drop(rig.take(PRIMARY, len)),
            Step::Reset(control) => rig.outb(PRIMARY_CONTROL, 0, control),
            Step::Park => rig.ide.park(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No guest, and no table it writes, keeps a worker busy for ever or leaves a state that cannot be
    /// saved; a reset makes a new function of any.
    #[test]
    fn a_hostile_guest_gets_answers_and_harms_nobody(steps in steps()) {
        let mut one = crowd();
        run(&mut one, &steps);
        one.ide.park();
        let saved = one.ide.save();
        let mut other = crowd();
        prop_assert!(other.ide.load(&saved).is_ok(), "{}", saved);
        prop_assert_eq!(other.ide.save(), saved);
        run(&mut other, &steps);
        one.ide.reset(ResetKind::Cold);
        let mut fresh = crowd();
        fresh.ide.reset(ResetKind::Cold);
        prop_assert_eq!(one.ide.save(), fresh.ide.save());
        prop_assert_eq!(one.wires.level(14), false);
    }

    /// Any part of a saved drive may be changed in the file: loading it is refused or harmless.
    #[test]
    fn a_tampered_drive_is_refused_or_harmless(
        before in steps(),
        field in any::<usize>(),
        value in prop_oneof![
            any::<u64>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Bool(true)),
            Just(serde_json::Value::from("Moving")),
            Just(serde_json::Value::from("DataIn")),
            Just(serde_json::Value::from("Packet")),
        ],
        after in steps(),
    ) {
        let mut one = crowd();
        run(&mut one, &before);
        one.ide.park();
        let mut saved = one.ide.save();
        let drive = &mut saved["device"]["channels"][field % 2]["drives"][field / 2 % 2];
        let fields = drive.as_object_mut().unwrap();
        let names: Vec<String> = fields.keys().cloned().collect();
        fields.insert(names[field / 4 % names.len()].clone(), value);
        let was = one.ide.save();
        if one.ide.load(&saved).is_err() {
            prop_assert_eq!(one.ide.save(), was);
        }
        run(&mut one, &after);
        one.ide.park();
    }
}
