//! The packet commands of a CD-ROM drive (MMC-3; SPC-2 for what all devices have).

use serde::{Deserialize, Serialize};

use super::packet_data as data;

/// Operation codes.
const TEST_UNIT_READY: u8 = 0x00;
const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const START_STOP_UNIT: u8 = 0x1b;
const PREVENT_ALLOW_REMOVAL: u8 = 0x1e;
const READ_CAPACITY: u8 = 0x25;
const READ_10: u8 = 0x28;
const SEEK: u8 = 0x2b;
const READ_TOC: u8 = 0x43;
const GET_CONFIGURATION: u8 = 0x46;
const GET_EVENT_STATUS: u8 = 0x4a;
const MODE_SENSE_10: u8 = 0x5a;
const READ_12: u8 = 0xa8;
const SET_CD_SPEED: u8 = 0xbb;
const MECHANISM_STATUS: u8 = 0xbd;

/// Why the last command failed: sense key, additional sense code and its qualifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sense {
    pub(super) key: u8,
    pub(super) code: u8,
    pub(super) qualifier: u8,
}

impl Sense {
    const fn new(key: u8, code: u8, qualifier: u8) -> Self {
        Self {
            key,
            code,
            qualifier,
        }
    }

    /// Medium error: unrecovered read error.
    pub(super) const UNREADABLE: Self = Self::new(3, 0x11, 0);
    /// Aborted command: the data did not get through.
    pub(super) const ABORTED: Self = Self::new(0xb, 0x4b, 0);
    const INVALID_OPCODE: Self = Self::new(5, 0x20, 0);
    const OUT_OF_RANGE: Self = Self::new(5, 0x21, 0);
    const INVALID_FIELD: Self = Self::new(5, 0x24, 0);
    const CANNOT_SAVE: Self = Self::new(5, 0x39, 0);

    /// The 18 bytes of REQUEST SENSE, fixed format, current error.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0x70, 0, self.key & 0xf, 0, 0, 0, 0, 10];
        bytes.extend([0, 0, 0, 0, self.code, self.qualifier, 0, 0, 0, 0]);
        bytes
    }
}

/// What a packet brings about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Done,
    Data(Vec<u8>),
    /// Sectors of the disc.
    Sectors {
        first: u64,
        count: u32,
    },
    Refused(Sense),
}

/// The packet's bytes `at..at + N` as a number, the highest first.
fn field<const N: usize>(packet: [u8; 12], at: usize) -> u32 {
    let bytes = packet.iter().skip(at).take(N);
    bytes.fold(0, |value, byte| value.wrapping_shl(8) | u32::from(*byte))
}

/// What a drive with a disc of `sectors` sectors answers; `sense` is what the last command left.
pub(super) fn reply(packet: [u8; 12], sectors: u64, sense: Sense) -> Reply {
    let cut = |mut bytes: Vec<u8>, room: u32| {
        bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        Reply::Data(bytes)
    };
    let one = u32::from(packet[4]);
    let two = field::<2>(packet, 7);
    let checked = |bytes: Option<Vec<u8>>, room| match bytes {
        Some(bytes) => cut(bytes, room),
        None => Reply::Refused(Sense::INVALID_FIELD),
    };
    match packet[0] {
        TEST_UNIT_READY | PREVENT_ALLOW_REMOVAL | SEEK | SET_CD_SPEED => Reply::Done,
        // The tray stays in: there is no other disc to put into it.
        START_STOP_UNIT => Reply::Done,
        REQUEST_SENSE => cut(sense.bytes(), one),
        // No vital product data.
        INQUIRY if packet[1] & 1 != 0 => Reply::Refused(Sense::INVALID_FIELD),
        INQUIRY => cut(data::inquiry(), one),
        READ_CAPACITY => Reply::Data(data::capacity(sectors)),
        READ_10 => read(field::<4>(packet, 2), two, sectors),
        READ_12 => read(field::<4>(packet, 2), field::<4>(packet, 6), sectors),
        READ_TOC => {
            let format = match packet[2] & 0xf {
                0 => packet[9] >> 6,
                format => format,
            };
            let (msf, track) = (packet[1] & 2 != 0, packet[6]);
            checked(data::contents(format, msf, track, sectors), two)
        }
        GET_CONFIGURATION => {
            let (kind, first) = (packet[1] & 3, field::<2>(packet, 2));
            checked(data::configuration(kind, first, sectors), two)
        }
        // Nobody is told of events later: only polled.
        GET_EVENT_STATUS if packet[1] & 1 == 0 => Reply::Refused(Sense::INVALID_FIELD),
        GET_EVENT_STATUS => cut(data::events(packet[4]), two),
        MODE_SENSE_10 if packet[2] >> 6 == 3 => Reply::Refused(Sense::CANNOT_SAVE),
        MODE_SENSE_10 => checked(data::mode(packet[2] & 0x3f, packet[2] >> 6), two),
        MECHANISM_STATUS => cut(vec![0; 8], field::<2>(packet, 8)),
        _ => Reply::Refused(Sense::INVALID_OPCODE),
    }
}

fn read(first: u32, count: u32, sectors: u64) -> Reply {
    let end = u64::from(first).saturating_add(count.into());
    if end > sectors {
        return Reply::Refused(Sense::OUT_OF_RANGE);
    }
    match count {
        0 => Reply::Done,
        // READ (12) could ask for terabytes; the transfer counts to 65536, the disc's 128 MiB.
        count if count > 1 << 16 => Reply::Refused(Sense::INVALID_FIELD),
        count => Reply::Sectors {
            first: first.into(),
            count,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(packet: &[u8]) -> Reply {
        let mut whole = [0; 12];
        whole[..packet.len()].copy_from_slice(packet);
        reply(whole, 1000, Sense::UNREADABLE)
    }

    #[test]
    fn what_is_not_a_command_is_an_invalid_opcode() {
        assert_eq!(of(&[0xff]), Reply::Refused(Sense::INVALID_OPCODE));
        assert_eq!(of(&[0x2a]), Reply::Refused(Sense::INVALID_OPCODE), "WRITE");
    }

    #[test]
    fn a_read_past_the_end_is_out_of_range() {
        let read = |first: u16, count: u8| {
            let [high, low] = first.to_be_bytes();
            of(&[0x28, 0, 0, 0, high, low, 0, 0, count, 0])
        };
        let sectors = |first, count| Reply::Sectors { first, count };
        assert_eq!(read(990, 10), sectors(990, 10));
        assert_eq!(read(990, 11), Reply::Refused(Sense::OUT_OF_RANGE));
        assert_eq!(read(1000, 0), Reply::Done);
        let all = of(&[0xa8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(all, Reply::Refused(Sense::OUT_OF_RANGE));
    }

    #[test]
    fn no_reply_is_longer_than_its_allocation() {
        for room in [0, 1, 5, 36, 255] {
            for opcode in [REQUEST_SENSE, INQUIRY] {
                let Reply::Data(data) = of(&[opcode, 0, 0, 0, room]) else {
                    panic!("{opcode:#x}");
                };
                assert!(data.len() <= room.into());
            }
        }
    }

    #[test]
    fn sense_is_that_of_the_last_command() {
        let Reply::Data(data) = of(&[0x03, 0, 0, 0, 18]) else {
            panic!("no data");
        };
        assert_eq!((data[0], data[2], data[12]), (0x70, 3, 0x11));
    }
}
