//! Drives through the guest's door.

mod discs;
mod dma;
mod hostile;

use super::rig::{
    Asked, Faulty, MASTER, PRIMARY, PRIMARY_CONTROL, Rig, SECONDARY, bare, disc, disk, pattern, rig,
};
use super::{DriveKind, Medium};
use crate::bus::{Device, Width};
use crate::chipset::DriveMedium;
use crate::pci::CONFIG_WINDOW;

const READY: u8 = 0x50;
const DATA: u8 = 0x58;

fn text(words: &[u8]) -> String {
    let pairs = words.chunks(2).flat_map(|pair| [pair[1], pair[0]]);
    String::from_utf8(pairs.collect()).unwrap()
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]])
}

fn identify(rig: &mut Rig) -> Vec<u8> {
    rig.command(0xec, 0, 0);
    assert_eq!(rig.inb(PRIMARY, 7), DATA);
    rig.take(PRIMARY, 512)
}

#[test]
fn identify_tells_what_the_disk_can_do() {
    let (mut rig, _) = disk(40_000);
    let bytes = identify(&mut rig);
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    assert!(text(&bytes[54..94]).starts_with("TRAPLINE DISK "));
    assert_eq!(word(&bytes, 1), 39, "cylinders of 16 * 63");
    assert_eq!((word(&bytes, 60), word(&bytes, 100)), (40_000, 40_000));
    assert_eq!(word(&bytes, 49) & 0x0300, 0x0300, "LBA and DMA");
    assert_eq!(word(&bytes, 63), 0x0407, "multiword DMA 2");
    assert_eq!(word(&bytes, 83) & 0xf400, 0x7400, "LBA48, FLUSH (EXT)");
    assert_eq!(word(&bytes, 85), 0x0068, "the write cache is on");
}

#[test]
fn a_reset_leaves_the_signature_of_each_drive() {
    let (mut rig, _) = disk(100);
    rig.command(0xec, 5, 7);
    rig.outb(PRIMARY_CONTROL, 0, 4);
    assert_eq!(rig.inb(PRIMARY_CONTROL, 0), 0x80, "busy while SRST is set");
    rig.outb(PRIMARY_CONTROL, 0, 0);
    let registers: Vec<u8> = (1..8).map(|at| rig.inb(PRIMARY, at)).collect();
    assert_eq!(registers, [1, 1, 1, 0, 0, 0xa0, READY]);
    let (mut rig, _) = disc(100);
    let registers: Vec<u8> = (1..8).map(|at| rig.inb(SECONDARY, at)).collect();
    assert_eq!(registers, [1, 1, 1, 0x14, 0xeb, 0xa0, 0]);
}

#[test]
fn an_absent_drive_reads_zero_and_an_absent_channel_floats() {
    let (mut rig, _) = disk(100);
    rig.outb(PRIMARY, 6, 0xb0);
    assert_eq!(rig.inb(PRIMARY, 7), 0);
    rig.outb(PRIMARY, 2, 0x55);
    assert_eq!(rig.inb(PRIMARY, 2), 0, "nobody keeps it");
    rig.outb(PRIMARY, 6, 0xa0);
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    assert_eq!(rig.inb(SECONDARY, 7), 0xff);
}

#[test]
fn a_channel_answers_only_while_it_decodes() {
    let medium: DriveMedium = (DriveKind::Disk, Box::new(Faulty::new(pattern(10))));
    let mut rig = bare([Some(medium), None, None, None]);
    assert_eq!(rig.inb(PRIMARY, 7), 0xff);
    rig.access(CONFIG_WINDOW, 4, Width::Word, Some(1));
    assert_eq!(rig.inb(PRIMARY, 7), 0xff, "IDETIM is off");
    rig.access(CONFIG_WINDOW, 0x40, Width::Word, Some(0x8000));
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    rig.access(CONFIG_WINDOW, 4, Width::Word, Some(0));
    assert_eq!(rig.inb(PRIMARY, 7), 0xff, "no I/O");
}

#[test]
fn reading_status_clears_intrq_and_the_alternate_does_not() {
    let (mut rig, _) = disk(100);
    rig.command(0xe3, 0, 0);
    assert!(rig.wires.level(14));
    rig.inb(PRIMARY_CONTROL, 0);
    assert!(rig.wires.level(14));
    assert_eq!(rig.inb(MASTER, 2) & 4, 4, "the bus master saw it");
    rig.inb(PRIMARY, 7);
    assert!(!rig.wires.level(14));
    rig.outb(PRIMARY_CONTROL, 0, 2);
    rig.command(0xe3, 0, 0);
    assert!(!rig.wires.level(14), "nIEN");
    rig.outb(PRIMARY_CONTROL, 0, 0);
    assert!(rig.wires.level(14), "it was pending");
}

#[test]
fn commands_that_are_not_there_are_aborted() {
    let (mut rig, _) = disk(100);
    let there = [
        0x10, 0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x40, 0x42, 0x90, 0x91, 0xc4, 0xc5,
        0xc6, 0xc8, 0xca, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef,
    ];
    for code in (0..=0xff).filter(|code| !there.contains(code)) {
        rig.command(code, 0, 1);
        assert_eq!(rig.inb(PRIMARY, 7), READY | 1, "{code:#x}");
        assert_eq!(rig.inb(PRIMARY, 1), 4, "{code:#x}");
    }
}

#[test]
fn pio_reads_a_sector_per_interrupt() {
    let (mut rig, medium) = disk(500);
    for (code, ext) in [(0x20, false), (0x24, true)] {
        match ext {
            true => rig.command_ext(code, 7, 300),
            false => rig.command(code, 7, 200),
        }
        let count = if ext { 300 } else { 200 };
        let mut bytes = Vec::new();
        for _ in 0..count {
            assert_eq!(rig.wait(PRIMARY_CONTROL), DATA);
            assert!(rig.wires.level(14));
            rig.inb(PRIMARY, 7);
            bytes.extend(rig.take(PRIMARY, 512));
        }
        assert_eq!(rig.inb(PRIMARY, 7), READY);
        assert!(!rig.wires.level(14), "none after the last sector");
        assert_eq!(bytes, medium.bytes()[7 * 512..(7 + count) * 512]);
    }
}

#[test]
fn multiple_takes_blocks_once_it_is_set() {
    let (mut rig, medium) = disk(500);
    rig.command(0xc4, 0, 8);
    assert_eq!(rig.inb(PRIMARY, 7), READY | 1, "not set");
    for (count, status) in [(3, READY | 1), (32, READY | 1), (8, READY)] {
        rig.command(0xc6, 0, count);
        assert_eq!(rig.inb(PRIMARY, 7), status, "{count}");
    }
    rig.command(0xc4, 100, 20);
    let mut bytes = Vec::new();
    for block in [8, 8, 4] {
        rig.wait(PRIMARY_CONTROL);
        assert!(rig.wires.level(14));
        rig.inb(PRIMARY, 7);
        bytes.extend(rig.take(PRIMARY, block * 512));
    }
    assert_eq!(bytes, medium.bytes()[100 * 512..120 * 512]);
    let new = vec![0xa5; 20 * 512];
    rig.command(0xc5, 200, 20);
    let mut rest = new.as_slice();
    for block in [8, 8, 4] {
        assert_eq!(rig.wait(PRIMARY_CONTROL), DATA);
        let (head, tail) = rest.split_at(block * 512);
        rig.give(PRIMARY, head);
        rest = tail;
    }
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY);
    assert!(rig.wires.level(14));
    assert_eq!(medium.bytes()[200 * 512..220 * 512], new);
}

#[test]
fn pio_writes_interrupt_after_each_sector_but_not_before_the_first() {
    let (mut rig, medium) = disk(100);
    rig.command(0x30, 9, 2);
    assert_eq!(rig.inb(PRIMARY_CONTROL, 0), DATA);
    assert!(!rig.wires.level(14));
    for fill in [1, 2] {
        rig.give(PRIMARY, &[fill; 512]);
        rig.wait(PRIMARY_CONTROL);
        assert!(rig.wires.level(14));
        rig.inb(PRIMARY, 7);
    }
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    let bytes = medium.bytes();
    assert_eq!((bytes[9 * 512], bytes[10 * 512]), (1, 2));
}

#[test]
fn an_address_past_the_end_is_not_found() {
    let (mut rig, _) = disk(100);
    for (code, sector, count) in [(0x20, 99, 2), (0xc8, 100, 1), (0x30, 0x0fff_ffff, 0)] {
        rig.command(code, sector, count);
        assert_eq!(rig.inb(PRIMARY, 7), READY | 1);
        assert_eq!(rig.inb(PRIMARY, 1), 0x10);
    }
    rig.command_ext(0x25, 0xffff_ffff_ffff, 1);
    assert_eq!(rig.inb(PRIMARY, 1), 0x10);
}

#[test]
fn sectors_are_found_by_cylinder_head_and_sector_too() {
    let (mut rig, medium) = disk(3000);
    for (offset, value) in [(2, 1), (3, 5), (4, 2), (5, 0), (6, 0xa3), (7, 0x20)] {
        rig.outb(PRIMARY, offset, value);
    }
    rig.wait(PRIMARY_CONTROL);
    let at = ((2 * 16 + 3) * 63 + 4) * 512;
    assert_eq!(rig.take(PRIMARY, 512), medium.bytes()[at..at + 512]);
    for (offset, value) in [(2, 1), (3, 0), (7, 0x20)] {
        rig.outb(PRIMARY, offset, value);
    }
    assert_eq!(rig.inb(PRIMARY, 1), 0x10, "there is no sector 0");
}

#[test]
fn a_sector_that_cannot_be_read_is_told_after_those_before_it() {
    let (mut rig, medium) = disk(100);
    medium.spoil(12);
    rig.command(0x20, 10, 5);
    for _ in 0..2 {
        assert_eq!(rig.wait(PRIMARY_CONTROL), DATA);
        rig.take(PRIMARY, 512);
    }
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY | 1);
    assert!(rig.wires.level(14));
    assert_eq!((rig.inb(PRIMARY, 1), rig.inb(PRIMARY, 3)), (0x40, 12));

    rig.table(0x1000, &[(0x1_0000, 5 * 512, true)]);
    rig.command_ext(0x25, 10, 5);
    rig.outb(MASTER, 0, 9);
    assert_eq!(rig.settled() & 6, 4, "no fault of the bus master");
    assert_eq!(rig.inb(PRIMARY, 7), READY | 1);
    assert_eq!((rig.inb(PRIMARY, 1), rig.inb(PRIMARY, 3)), (0x40, 12));
    assert_eq!(rig.peek(0x1_0000, 1024), pattern(12)[5120..]);

    rig.command(0x40, 10, 5);
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY | 1);
    assert_eq!((rig.inb(PRIMARY, 1), rig.inb(PRIMARY, 3)), (0x40, 12));
    rig.command(0x40, 20, 50);
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY);
}

#[test]
fn what_cannot_be_written_is_a_device_fault() {
    let (mut rig, medium) = disk(100);
    medium.refuse_writes();
    rig.command(0x30, 10, 1);
    rig.give(PRIMARY, &[1; 512]);
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY | 0x20);
    rig.table(0x1000, &[(0x1_0000, 512, true)]);
    rig.command(0xca, 10, 1);
    rig.outb(MASTER, 0, 1);
    rig.settled();
    assert_eq!(rig.inb(PRIMARY, 7), READY | 0x20);
    medium.refuse_flushes();
    rig.command(0xe7, 0, 0);
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY | 0x20);
}

#[test]
fn no_flush_completes_before_the_medium_has_flushed() {
    for code in [0xe7, 0xea] {
        let (mut rig, medium) = disk(100);
        medium.hold(true);
        rig.command(code, 0, 0);
        for _ in 0..20 {
            assert_eq!(rig.inb(PRIMARY_CONTROL, 0) & 0x80, 0x80);
            assert!(!rig.wires.level(14));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        medium.hold(false);
        assert_eq!(rig.wait(PRIMARY_CONTROL), READY);
        assert!(rig.wires.level(14));
        assert_eq!(medium.log(), [Asked::Flush]);
    }
}

#[test]
fn without_a_write_cache_every_write_is_flushed_before_it_completes() {
    let (mut rig, medium) = disk(100);
    rig.outb(PRIMARY, 1, 0x82);
    rig.command(0xef, 0, 0);
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    rig.command(0x30, 10, 1);
    rig.give(PRIMARY, &[1; 512]);
    assert_eq!(rig.wait(PRIMARY_CONTROL), READY);
    assert_eq!(medium.log(), [Asked::Write(10), Asked::Flush]);
    rig.table(0x1000, &[(0x1_0000, 512, true)]);
    rig.command(0xca, 11, 1);
    rig.outb(MASTER, 0, 1);
    rig.settled();
    assert_eq!(medium.log()[2..], [Asked::Write(11), Asked::Flush]);
    let bytes = identify(&mut rig);
    assert_eq!(word(&bytes, 85) & 0x20, 0);
}

#[test]
fn transfer_modes_are_those_of_the_chip() {
    let (mut rig, _) = disk(100);
    for (mode, status, word_63) in [
        (0x0c, READY, 0x0007),
        (0x21, READY, 0x0207),
        (0x45, READY | 1, 0x0207),
        (0x23, READY | 1, 0x0207),
    ] {
        rig.outb(PRIMARY, 1, 3);
        rig.command(0xef, 0, mode);
        assert_eq!(rig.inb(PRIMARY, 7), status, "{mode:#x}");
        let bytes = identify(&mut rig);
        assert_eq!(word(&bytes, 63), word_63, "{mode:#x}");
    }
}

#[test]
fn the_diagnostic_answers_for_both_drives_and_selects_the_first() {
    let drive =
        || -> Option<DriveMedium> { Some((DriveKind::Disk, Box::new(Faulty::new(pattern(50))))) };
    let mut rig = rig([drive(), drive(), None, None]);
    rig.outb(PRIMARY, 6, 0xb0);
    rig.outb(PRIMARY, 7, 0x90);
    assert!(rig.wires.level(14));
    let registers: Vec<u8> = (1..8).map(|at| rig.inb(PRIMARY, at)).collect();
    assert_eq!(registers, [1, 1, 1, 0, 0, 0xa0, READY]);
    rig.outb(PRIMARY, 6, 0xb0);
    assert_eq!((rig.inb(PRIMARY, 1), rig.inb(PRIMARY, 7)), (1, READY));
}

#[test]
fn a_sleeping_drive_wakes_by_a_reset_alone() {
    let (mut rig, _) = disk(100);
    for (code, count) in [(0xe1, 0x80), (0xe0, 0)] {
        rig.command(code, 0, 0);
        rig.command(0xe5, 0, 0);
        assert_eq!(rig.inb(PRIMARY, 2), count, "{code:#x}");
    }
    rig.command(0xe6, 0, 0);
    rig.inb(PRIMARY, 7);
    rig.command(0xec, 0, 0);
    assert!(!rig.wires.level(14));
    rig.outb(PRIMARY_CONTROL, 0, 4);
    rig.outb(PRIMARY_CONTROL, 0, 0);
    assert_eq!(identify(&mut rig).len(), 512);
}

#[test]
fn a_state_in_the_middle_of_a_transfer_is_taken_up_by_another() {
    let (mut one, _) = disk(500);
    one.command(0x20, 7, 200);
    one.wait(PRIMARY_CONTROL);
    let first = one.take(PRIMARY, 700);
    one.ide.park();
    let saved = one.ide.save();
    let (mut other, _) = disk(500);
    other.ide.load(&saved).unwrap();
    assert!(other.wires.take().is_empty(), "no edges");
    let mut bytes = first;
    while bytes.len() < 200 * 512 {
        other.wait(PRIMARY_CONTROL);
        bytes.extend(other.take(PRIMARY, 2));
    }
    assert_eq!(bytes, pattern(207)[7 * 512..]);
    assert_eq!(other.inb(PRIMARY, 7), READY);
    let (mut disc, _) = disc(10);
    assert!(disc.ide.load(&saved).is_err(), "other drives");
}

#[test]
fn a_medium_of_no_sectors_is_a_drive_without_any() {
    let empty = Faulty::new(Vec::new());
    assert!(empty.is_empty());
    let mut rig = rig([Some((DriveKind::Disk, Box::new(empty))), None, None, None]);
    rig.command(0x20, 0, 1);
    assert_eq!(rig.inb(PRIMARY, 1), 0x10);
    assert_eq!(word(&identify(&mut rig), 60), 0);
}
