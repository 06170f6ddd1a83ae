//! Wide accesses to byte-wide registers: the ISA bridge runs one byte cycle per lane, lowest first.

use crate::bus::Access;

/// The offsets a bus access covers, lowest first.
fn offsets(at: Access) -> impl Iterator<Item = u64> {
    (0..u64::from(at.width.bytes())).map(move |lane| at.offset.wrapping_add(lane))
}

/// A read put together from byte cycles.
pub(super) fn read(at: Access, mut byte: impl FnMut(u64) -> u8) -> u64 {
    let mut lanes = [0; 8];
    for (lane, offset) in lanes.iter_mut().zip(offsets(at)) {
        *lane = byte(offset);
    }
    u64::from_le_bytes(lanes)
}

/// A write taken apart into byte cycles.
pub(super) fn write(at: Access, value: u64, mut byte: impl FnMut(u64, u8)) {
    for (lane, offset) in value.to_le_bytes().into_iter().zip(offsets(at)) {
        byte(offset, lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;

    #[test]
    fn the_lowest_byte_goes_to_the_lowest_port_first() {
        let at = Access {
            window: 0,
            offset: 2,
            width: Width::Word,
        };
        let mut cycles = Vec::new();
        write(at, 0x1234, |offset, byte| cycles.push((offset, byte)));
        assert_eq!(cycles, [(2, 0x34), (3, 0x12)]);
        assert_eq!(read(at, |offset| offset.to_le_bytes()[0]), 0x0302);
    }
}
