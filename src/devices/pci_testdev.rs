//! QEMU's `pci-testdev` (docs/specs/pci-testdev.rst): writes to it are counted, so that a guest can
//! measure and check the ways a write takes.
//!
//! The guest selects one of three tests by a write to the first byte of a BAR, reads a header that
//! says where to write what, writes, and reads the count.
//!
//! NOT MODELLED: eventfds. The tests called after them count every matching write, where QEMU counts
//! an eventfd's signals between two reads as one.

use serde::{Deserialize, Serialize};

use crate::bus::{Access, Answer, Effects, ResetKind, StateError, Width, state};
use crate::pci::{Bar, BarKind, Header, PciDevice, Shape};

const HEADER: Header = Header {
    subsystem: (0x1af4, 0x1100),
    ..Header::new(0x1b36, 0x0005, 0x00_ff00)
};

/// Halves of a BAR: the header, then where the tests write.
const MEMORY_HALF: u64 = 2048;
const PORTS_HALF: u64 = 128;
const MEMORY: Bar = Bar {
    index: 0,
    name: "mmio tests",
    kind: BarKind::Memory32,
    len: MEMORY_HALF * 2,
};
const PORTS: Bar = Bar {
    index: 1,
    name: "portio tests",
    kind: BarKind::Io,
    len: PORTS_HALF * 2,
};

/// What a test expects to be written: where the value decides, and where any does.
const MATCHING: u8 = 0xfa;
const ANY: u8 = 0xce;
/// Tests of one BAR.
const TESTS: u8 = 3;

/// Offsets in the header.
const COUNT: usize = 12;
const NAME: usize = 16;

/// One test.
struct Test {
    index: u8,
    name: &'static str,
    offset: u32,
    data: u8,
    /// Whether only that value, as a byte, counts.
    matches: bool,
    /// Whether a write of any width counts.
    any_width: bool,
}

impl Test {
    /// The test that the guest selected; `index` counts through both BARs.
    fn of(index: u8) -> Self {
        let name = match index {
            0 => "mmio-no-eventfd",
            1 => "mmio-wildcard-eventfd",
            2 => "mmio-datamatch-eventfd",
            3 => "portio-no-eventfd",
            4 => "portio-wildcard-eventfd",
            _ => "portio-datamatch-eventfd",
        };
        let (memory, wildcard) = (index < TESTS, index % TESTS == 1);
        let half = if memory { MEMORY_HALF } else { PORTS_HALF };
        Self {
            index,
            name,
            offset: u32::try_from(half)
                .unwrap_or_default()
                .saturating_add(index.into()),
            data: if wildcard { ANY } else { MATCHING },
            matches: !wildcard,
            any_width: memory && wildcard,
        }
    }

    fn counts(&self, at: Access, value: u64) -> bool {
        at.offset == u64::from(self.offset)
            && (self.any_width || at.width == Width::Byte)
            && (!self.matches || value == u64::from(self.data))
    }

    /// The header: test, width, offset, data, count, name.
    fn header(&self, count: u32) -> Vec<u8> {
        let mut bytes = vec![self.index, 1, 0, 0];
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend([self.data, 0, 0, 0]);
        debug_assert_eq!(bytes.len(), COUNT);
        bytes.extend(count.to_le_bytes());
        debug_assert_eq!(bytes.len(), NAME);
        bytes.extend(self.name.as_bytes());
        bytes.push(0);
        bytes
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The test under way.
    current: Option<u8>,
    count: u32,
}

/// The device.
#[derive(Debug, Default)]
pub struct PciTestDevice {
    state: State,
}

impl PciTestDevice {
    /// A device with no test under way.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl PciDevice for PciTestDevice {
    fn label(&self) -> &'static str {
        "pci-testdev"
    }

    fn shape(&self) -> Shape {
        Shape {
            bars: vec![MEMORY, PORTS],
            ..Shape::new(HEADER)
        }
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        let Some(test) = self.state.current.map(Test::of) else {
            return Ok(0);
        };
        let header = test.header(self.state.count);
        let mut value = [0; 8];
        let lanes = value.iter_mut().take(at.width.bytes().into());
        let start = usize::try_from(at.offset).unwrap_or(usize::MAX);
        for (to, from) in lanes.zip(header.iter().skip(start)) {
            *to = *from;
        }
        Ok(u64::from_le_bytes(value))
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        if at.offset == 0 {
            // QEMU's device takes bytes: the lowest of a wide write selects.
            let [chosen, ..] = value.to_le_bytes();
            let first = if at.window == PORTS.index { TESTS } else { 0 };
            self.state = State {
                current: (chosen < TESTS).then(|| first.saturating_add(chosen)),
                count: 0,
            };
            return Ok(());
        }
        if let Some(test) = self.state.current.map(Test::of)
            && (at.window == PORTS.index) == (test.index >= TESTS)
            && test.counts(at, value)
        {
            self.state.count = self.state.count.wrapping_add(1);
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let possible = loaded.current.is_none_or(|test| test < TESTS * 2);
        state::check("pci-testdev", possible, "a test there is none of")?;
        self.state = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(window: u8, offset: u64, width: Width) -> Access {
        Access {
            window,
            offset,
            width,
        }
    }

    fn select(window: u8, test: u64) -> PciTestDevice {
        let mut device = PciTestDevice::new();
        let first = at(window, 0, Width::Byte);
        device.write(first, test, &mut Effects::new()).unwrap();
        device
    }

    fn read(device: &mut PciTestDevice, window: u8, offset: u64, width: Width) -> u64 {
        let at = at(window, offset, width);
        device.read(at, &mut Effects::new()).unwrap()
    }

    fn name(device: &mut PciTestDevice, window: u8) -> String {
        let bytes = (16..64).map(|offset| read(device, window, offset, Width::Byte));
        let bytes = bytes.take_while(|byte| *byte != 0);
        bytes
            .map(|byte| char::from(u8::try_from(byte).unwrap()))
            .collect()
    }

    /// The count after each of these writes, counted from the start.
    fn counts(window: u8, test: u64, writes: &[(u64, Width, u64)]) -> Vec<u64> {
        let mut device = select(window, test);
        let mut seen = Vec::new();
        for (offset, width, value) in writes {
            let at = at(window, *offset, *width);
            device.write(at, *value, &mut Effects::new()).unwrap();
            seen.push(read(&mut device, window, 12, Width::Dword));
        }
        seen
    }

    #[test]
    fn the_header_says_where_to_write_what() {
        let mut device = select(0, 2);
        assert_eq!(read(&mut device, 0, 0, Width::Dword), 0x102);
        assert_eq!(read(&mut device, 0, 4, Width::Dword), 2050);
        assert_eq!(read(&mut device, 0, 8, Width::Byte), 0xfa);
        assert_eq!(name(&mut device, 0), "mmio-datamatch-eventfd");
        let mut device = select(1, 1);
        assert_eq!(read(&mut device, 1, 4, Width::Dword), 132);
        assert_eq!(name(&mut device, 1), "portio-wildcard-eventfd");
    }

    #[test]
    fn a_write_counts_where_offset_value_and_width_are_right() {
        use Width::{Byte, Dword};
        let writes = [
            (2048, Byte, 0xfa),
            (2048, Byte, 1),
            (2048, Dword, 0xfa),
            (2049, Byte, 0xfa),
        ];
        assert_eq!(counts(0, 0, &writes), [1, 1, 1, 1]);
        // Any value, in memory of any width.
        let writes = [(2049, Byte, 0), (2049, Dword, 77), (2048, Byte, 0xce)];
        assert_eq!(counts(0, 1, &writes), [1, 2, 2]);
        let writes = [(132, Byte, 0), (132, Dword, 0xce), (132, Byte, 0xce)];
        assert_eq!(counts(1, 1, &writes), [1, 1, 2]);
    }

    #[test]
    fn nothing_is_selected_by_a_test_there_is_none_of() {
        let mut device = select(0, 3);
        assert_eq!(read(&mut device, 0, 4, Width::Dword), 0);
        assert!(
            device
                .load(&serde_json::json!({"current": 6, "count": 0}))
                .is_err()
        );
        device
            .load(&serde_json::json!({"current": 5, "count": 9}))
            .unwrap();
        assert_eq!(read(&mut device, 1, 12, Width::Dword), 9);
        device.reset(ResetKind::Warm);
        assert_eq!(read(&mut device, 1, 12, Width::Dword), 0);
    }
}
