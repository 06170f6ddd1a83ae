//! The CD-ROM drive.

use super::super::rig::{MASTER, SECONDARY, disc};
use super::{READY, text, word};
use crate::bus::{Device, Width};
use crate::mem::Gpa;

#[test]
fn a_disc_is_identified_as_one() {
    let (mut rig, _) = disc(100);
    rig.outb(SECONDARY, 7, 0xec);
    assert_eq!(rig.inb(SECONDARY, 7) & 1, 1, "no disk");
    assert_eq!([4, 5].map(|at| rig.inb(SECONDARY, at)), [0x14, 0xeb]);
    rig.outb(SECONDARY, 7, 0xa1);
    let bytes = rig.take(SECONDARY, 512);
    assert_eq!(word(&bytes, 0), 0x85c0);
    assert!(text(&bytes[54..94]).starts_with("TRAPLINE CD-ROM "));
    rig.inb(SECONDARY, 7);
    assert!(!rig.wires.level(15), "none after the data");
}

#[test]
fn packets_bring_data_in_blocks_of_the_size_asked_for() {
    let (mut rig, medium) = disc(100);
    let (inquiry, status) = rig.packet(&[0x12, 0, 0, 0, 36], 0xfffe);
    assert_eq!((inquiry.len(), status), (36, READY));
    assert_eq!(&inquiry[8..16], b"TRAPLINE");
    let (capacity, _) = rig.packet(&[0x25], 8);
    assert_eq!(capacity, [0, 0, 0, 99, 0, 0, 8, 0]);
    for limit in [2048, 0xfffe, 512] {
        let (bytes, status) = rig.packet(&[0x28, 0, 0, 0, 0, 10, 0, 0, 40], limit);
        assert_eq!(status, READY);
        assert_eq!(bytes, medium.bytes()[20_480..102_400], "{limit}");
    }
}

#[test]
fn a_packet_that_fails_leaves_sense() {
    let (mut rig, medium) = disc(100);
    let (_, status) = rig.packet(&[0x2a], 2048);
    assert_eq!((status, rig.inb(SECONDARY, 1)), (READY | 1, 0x50));
    let (sense, _) = rig.packet(&[3, 0, 0, 0, 18], 2048);
    assert_eq!((sense[2], sense[12]), (5, 0x20));
    let (sense, _) = rig.packet(&[3, 0, 0, 0, 18], 2048);
    assert_eq!((sense[2], sense[12]), (0, 0), "told once");
    medium.spoil(45);
    let (bytes, status) = rig.packet(&[0x28, 0, 0, 0, 0, 10, 0, 0, 4], 0xfffe);
    assert_eq!((bytes.len(), status), (2048, READY | 1));
    let (sense, _) = rig.packet(&[3, 0, 0, 0, 18], 2048);
    assert_eq!((sense[2], sense[12]), (3, 0x11));
}

#[test]
fn packets_bring_data_by_dma_too() {
    let (mut rig, medium) = disc(100);
    let entry = 1_u64 << 63 | 4096 << 32 | 0x1_0000;
    rig.ram.write(Gpa(0x1000), &entry.to_le_bytes()).unwrap();
    rig.access(MASTER, 12, Width::Dword, Some(0x1000));
    for (packet, len) in [
        ([0x28, 0, 0, 0, 0, 10, 0, 0, 2, 0, 0, 0], 4096),
        ([0x12, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0], 36),
    ] {
        rig.outb(MASTER, 8, 8);
        rig.outb(SECONDARY, 1, 1);
        rig.outb(SECONDARY, 7, 0xa0);
        rig.give(SECONDARY, &packet);
        rig.outb(MASTER, 8, 9);
        rig.ide.park();
        assert!(rig.wires.level(15));
        assert_eq!(rig.inb(SECONDARY, 7), READY);
        let bytes = rig.peek(0x1_0000, len);
        match len {
            36 => assert_eq!(&bytes[8..16], b"TRAPLINE"),
            _ => assert_eq!(bytes, medium.bytes()[20_480..24_576]),
        }
    }
}
