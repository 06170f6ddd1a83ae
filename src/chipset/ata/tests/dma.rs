//! The bus master: tables good and bad, and its end.

use super::super::rig::{Asked, MASTER, PRIMARY, PRIMARY_CONTROL, disk, pattern};
use super::READY;
use crate::bus::{Device, Width};
use crate::mem::Gpa;
use crate::pci::CONFIG_WINDOW;

#[test]
fn dma_moves_sectors_both_ways() {
    let (mut rig, medium) = disk(2000);
    rig.table(0x1000, &[(0x1_0000, 1024, false), (0x2_0000, 512, true)]);
    rig.outb(MASTER, 0, 8);
    rig.command(0xc8, 3, 3);
    rig.outb(MASTER, 0, 9);
    assert_eq!(rig.settled() & 7, 4, "interrupt, no longer active");
    assert!(rig.wires.level(14));
    assert_eq!(rig.inb(PRIMARY, 7), READY);
    let bytes = medium.bytes();
    assert_eq!(rig.peek(0x1_0000, 1024), bytes[1536..2560]);
    assert_eq!(rig.peek(0x2_0000, 512), bytes[2560..3072]);

    rig.outb(MASTER, 0, 0);
    rig.outb(MASTER, 2, 4);
    let new: Vec<u8> = (0..600 * 512_u32).map(|n| n.to_le_bytes()[1]).collect();
    rig.ram.write(Gpa(0x10_0000), &new).unwrap();
    let counts = [0, 0, 0, 0, 45_056];
    let entry = |(n, count): (u32, u16)| (0x10_0000 + n * 65536, count, n == 4);
    let entries: Vec<_> = (0..).zip(counts).map(entry).collect();
    rig.table(0x1000, &entries);
    rig.command_ext(0x35, 1000, 600);
    rig.outb(MASTER, 0, 1);
    assert_eq!(rig.settled() & 7, 4);
    assert_eq!(medium.bytes()[1000 * 512..1600 * 512], new);
}

#[test]
fn a_table_longer_than_the_transfer_leaves_the_bus_master_active() {
    let (mut rig, _) = disk(100);
    rig.table(0x1000, &[(0x1_0000, 4096, true)]);
    rig.command(0xc8, 0, 1);
    rig.outb(MASTER, 0, 9);
    assert_eq!(rig.settled() & 7, 5, "active, and an interrupt");
    rig.outb(MASTER, 0, 8);
    assert_eq!(rig.inb(MASTER, 2) & 1, 0);
}

#[test]
fn a_table_too_short_ends_without_an_interrupt_and_a_reset_helps() {
    let (mut rig, medium) = disk(100);
    rig.table(0x1000, &[(0x1_0000, 700, true)]);
    for code in [0xc8, 0xca] {
        rig.outb(MASTER, 0, 0);
        rig.command(code, 10, 2);
        rig.outb(MASTER, 0, if code == 0xc8 { 9 } else { 1 });
        assert_eq!(rig.settled() & 7, 0);
        assert!(!rig.wires.level(14));
        rig.outb(PRIMARY_CONTROL, 0, 4);
        rig.outb(PRIMARY_CONTROL, 0, 0);
        assert_eq!(rig.inb(PRIMARY, 7), READY);
    }
    assert_eq!(rig.peek(0x1_0000, 700), pattern(100)[5120..5820]);
    assert_eq!(medium.log(), [Asked::Write(10)], "the one whole sector");
    assert_eq!(medium.bytes(), pattern(100), "what was read came back");
}

#[test]
fn memory_that_is_not_there_ends_a_transfer_with_an_error_and_an_interrupt() {
    for (table, entry) in [
        (0xf000_0000, None),
        (0x1000, Some((0xf000_0000, 512, true))),
        (0x1000, Some((0x3f_ff00, 512, true))),
    ] {
        let (mut rig, medium) = disk(100);
        if let Some(entry) = entry {
            rig.table(table, &[entry]);
        }
        rig.access(MASTER, 4, Width::Dword, Some(table.into()));
        for code in [0xc8, 0xca] {
            rig.outb(MASTER, 0, 0);
            rig.outb(MASTER, 2, 6);
            rig.command(code, 10, 1);
            rig.outb(MASTER, 0, if code == 0xc8 { 9 } else { 1 });
            assert_eq!(rig.settled() & 7, 6, "error and interrupt, not active");
            assert!(rig.wires.level(14));
            assert_eq!(rig.inb(PRIMARY, 7), READY | 1);
            assert_eq!(rig.inb(PRIMARY, 1), 4);
        }
        assert!(medium.log().is_empty());
        // The channel goes on.
        rig.table(0x1000, &[(0x1_0000, 512, true)]);
        rig.outb(MASTER, 0, 0);
        rig.outb(MASTER, 2, 6);
        rig.command(0xc8, 10, 1);
        rig.outb(MASTER, 0, 9);
        assert_eq!(rig.settled() & 7, 4);
    }
}

#[test]
fn without_bus_mastering_a_transfer_ends_with_an_error() {
    let (mut rig, _) = disk(100);
    rig.access(CONFIG_WINDOW, 4, Width::Word, Some(1));
    rig.table(0x1000, &[(0x1_0000, 512, true)]);
    rig.command(0xc8, 10, 1);
    rig.outb(MASTER, 0, 9);
    assert_eq!(rig.settled() & 7, 6);
}

#[test]
fn a_stopped_transfer_touches_memory_no_more_and_can_be_started_anew() {
    let (mut rig, medium) = disk(100);
    rig.table(0x1000, &[(0x1_0000, 512, true)]);
    medium.hold(true);
    rig.command(0xc8, 10, 1);
    rig.outb(MASTER, 0, 9);
    rig.outb(MASTER, 0, 8);
    medium.hold(false);
    assert_eq!(rig.settled() & 7, 0);
    assert_eq!(rig.peek(0x1_0000, 512), [0; 512]);
    rig.outb(MASTER, 0, 9);
    assert_eq!(rig.settled() & 7, 4);
    assert_eq!(rig.peek(0x1_0000, 512), pattern(11)[5120..]);
}

#[test]
fn a_reset_in_the_middle_of_a_transfer_forgets_it() {
    let (mut rig, medium) = disk(100);
    rig.table(0x1000, &[(0x1_0000, 512, true)]);
    for code in [0xc8, 0x20] {
        medium.hold(true);
        rig.command(code, 10, 1);
        rig.outb(MASTER, 0, 9);
        rig.outb(PRIMARY_CONTROL, 0, 4);
        rig.outb(PRIMARY_CONTROL, 0, 0);
        medium.hold(false);
        rig.ide.park();
        assert_eq!(rig.inb(PRIMARY, 7), READY);
        assert!(!rig.wires.level(14));
        assert_eq!(rig.peek(0x1_0000, 512), [0; 512]);
        rig.outb(MASTER, 0, 0);
    }
}
