//! QEMU's `pc-testdev`, the device that kvm-unit-tests drives: ports that remember, one that has a page
//! of guest memory unmapped, every interrupt line of the board, and memory that is no RAM.
//!
//! Different on purpose: a write to the page port takes the page out of KVM's tables by madvise(2), where
//! QEMU protects it against itself for a moment; the guest sees the same.

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effects, Line, Refusal, ResetKind, StateError, Window, state,
};
use crate::trace::Space;

/// Ports that remember; again where a wide access is as many of a byte; the page port between them.
const DATA_PORTS: u64 = 0xe0;
const PAGE_PORT: u64 = 0xe4;
const BYTE_PORTS: u64 = 0xe8;
/// One port a line.
const LINE_PORTS: u64 = 0x2000;
/// How many lines it drives: the pins of an IOAPIC.
pub const TESTDEV_LINES: u8 = 24;
/// Memory that is answered by exits.
pub const TESTDEV_MEMORY: u64 = 0xff00_0000;
const MEMORY_LEN: usize = 0x1_0000;

/// Windows.
const DATA: u8 = 0;
const PAGE: u8 = 1;
const BYTES: u8 = 2;
const LINES: u8 = 3;
const MEMORY: u8 = 4;

/// Unmaps the page at a guest physical address.
pub type Unmap = Box<dyn Fn(u64) + Send>;

/// The device.
pub struct TestDevice {
    lines: Vec<Line>,
    unmap: Unmap,

    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    data: [u8; 4],
    levels: Vec<bool>,
    memory: Vec<u8>,
}

impl State {
    fn new(lines: usize) -> Self {
        Self {
            data: [0; 4],
            levels: vec![false; lines],
            memory: vec![0; MEMORY_LEN],
        }
    }
}

impl std::fmt::Debug for TestDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TestDevice").field(&self.state.data).finish()
    }
}

/// The bytes an access covers in `memory`.
fn part(memory: &mut [u8], at: Access) -> Answer<&mut [u8]> {
    let start = usize::try_from(at.offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(at.width.bytes().into());
    memory.get_mut(start..end).ok_or(Refusal::NoSuchRegister)
}

impl TestDevice {
    /// A device that drives `lines`, of GSI 0 and on.
    #[must_use]
    pub fn new(lines: Vec<Line>, unmap: Unmap) -> Self {
        Self {
            state: State::new(lines.len()),
            lines,
            unmap,
        }
    }

    fn cells(&mut self, at: Access) -> Answer<&mut [u8]> {
        match at.window {
            DATA | BYTES => part(&mut self.state.data, at),
            MEMORY => part(&mut self.state.memory, at),
            _ => Err(Refusal::NoSuchRegister),
        }
    }

    fn set_line(&mut self, at: Access, level: bool) -> Answer<()> {
        let index = usize::try_from(at.offset).unwrap_or(usize::MAX);
        match (self.lines.get(index), self.state.levels.get_mut(index)) {
            (Some(line), Some(held)) => {
                *held = level;
                line.set(level);
                Ok(())
            }
            _ => Err(Refusal::NoSuchRegister),
        }
    }
}

impl Device for TestDevice {
    fn label(&self) -> &'static str {
        "testdev"
    }

    fn windows(&self) -> Vec<Window> {
        let window = |id, name, space, base, len| Window {
            id,
            name,
            space,
            base: Some(base),
            len,
        };
        let memory = MEMORY_LEN as u64;
        vec![
            window(DATA, "data", Space::Pio, DATA_PORTS, 4),
            window(PAGE, "page to unmap", Space::Pio, PAGE_PORT, 4),
            window(BYTES, "data by bytes", Space::Pio, BYTE_PORTS, 4),
            window(
                LINES,
                "interrupt lines",
                Space::Pio,
                LINE_PORTS,
                self.lines.len() as u64,
            ),
            window(MEMORY, "memory", Space::Mmio, TESTDEV_MEMORY, memory),
        ]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        // QEMU's page and line ports read as zero: they have no read function.
        if matches!(at.window, PAGE | LINES) {
            return Ok(0);
        }
        let mut value = [0; 8];
        for (to, from) in value.iter_mut().zip(self.cells(at)?) {
            *to = *from;
        }
        Ok(u64::from_le_bytes(value))
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        match at.window {
            PAGE => (self.unmap)(value),
            LINES => self.set_line(at, value != 0)?,
            _ => {
                for (to, from) in self.cells(at)?.iter_mut().zip(value.to_le_bytes()) {
                    *to = from;
                }
            }
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::new(self.lines.len());
        self.lines.iter().for_each(|line| line.set(false));
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("testdev", possible, what);
        check(loaded.memory.len() == MEMORY_LEN, "memory of another size")?;
        check(
            loaded.levels.len() == self.lines.len(),
            "another number of lines",
        )?;
        for (line, level) in self.lines.iter().zip(&loaded.levels) {
            line.restore(*level);
        }
        self.state = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{GsiSink, Lines, Width};
    use std::sync::{Arc, Mutex};

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<(u32, bool)>>);

    impl GsiSink for Log {
        fn set(&self, gsi: u32, level: bool) {
            self.0.lock().unwrap().push((gsi, level));
        }
    }

    struct Rig {
        log: Arc<Log>,
        pages: Arc<Mutex<Vec<u64>>>,
        device: TestDevice,
    }

    fn rig() -> Rig {
        let (log, pages) = (Arc::new(Log::default()), Arc::new(Mutex::default()));
        let lines = Lines::new(log.clone());
        let lines = (0..24)
            .map(|gsi| lines.line("testdev", Some(gsi)))
            .collect();
        let unmapped: Arc<Mutex<Vec<u64>>> = Arc::clone(&pages);
        let unmap = Box::new(move |page| unmapped.lock().unwrap().push(page));
        Rig {
            log,
            pages,
            device: TestDevice::new(lines, unmap),
        }
    }

    impl Rig {
        fn read(&mut self, window: u8, offset: u64, width: Width) -> u64 {
            let at = Access {
                window,
                offset,
                width,
            };
            self.device.read(at, &mut Effects::new()).unwrap()
        }

        fn write(&mut self, window: u8, offset: u64, width: Width, value: u64) {
            let at = Access {
                window,
                offset,
                width,
            };
            self.device.write(at, value, &mut Effects::new()).unwrap();
        }
    }

    #[test]
    fn the_data_ports_remember_each_byte() {
        let mut rig = rig();
        rig.write(DATA, 0, Width::Dword, 0x1234_5678);
        rig.write(DATA, 1, Width::Byte, 0xff);
        rig.write(DATA, 2, Width::Word, 0xabcd);
        assert_eq!(rig.read(DATA, 0, Width::Dword), 0xabcd_ff78);
        assert_eq!(rig.read(DATA, 3, Width::Byte), 0xab);
        assert_eq!(rig.read(BYTES, 0, Width::Dword), 0xabcd_ff78);
    }

    #[test]
    fn a_line_port_sets_the_level_of_its_gsi_alone() {
        let mut rig = rig();
        rig.write(LINES, 11, Width::Byte, 1);
        rig.write(LINES, 11, Width::Byte, 0);
        rig.write(LINES, 23, Width::Byte, 0x80);
        let seen = std::mem::take(&mut *rig.log.0.lock().unwrap());
        assert_eq!(seen, [(11, true), (11, false), (23, true)]);
        rig.device.reset(ResetKind::Warm);
        assert_eq!(*rig.log.0.lock().unwrap(), [(23, false)]);
    }

    #[test]
    fn the_page_port_hands_on_any_address() {
        let mut rig = rig();
        for address in [0x1234_5678, u64::from(u32::MAX)] {
            rig.write(PAGE, 0, Width::Dword, address);
        }
        assert_eq!(*rig.pages.lock().unwrap(), [0x1234_5678, 0xffff_ffff]);
    }

    #[test]
    fn its_memory_holds_every_width_to_the_last_byte() {
        let mut rig = rig();
        rig.write(MEMORY, 0xfff8, Width::Qword, 0x1122_3344_5566_7788);
        assert_eq!(rig.read(MEMORY, 0xffff, Width::Byte), 0x11);
        assert_eq!(rig.read(MEMORY, 0xfffa, Width::Word), 0x5566);
        assert_eq!(rig.read(MEMORY, 0, Width::Qword), 0);
    }

    #[test]
    fn a_saved_state_comes_back_without_edges_and_a_wrong_one_is_refused() {
        let (mut first, mut second) = (rig(), rig());
        first.write(DATA, 0, Width::Dword, 7);
        first.write(LINES, 5, Width::Byte, 1);
        first.write(MEMORY, 9, Width::Byte, 9);
        let mut saved = first.device.save();
        second.device.load(&saved).unwrap();
        assert_eq!(second.device.save(), saved);
        assert_eq!(*second.log.0.lock().unwrap(), []);
        // The level is known all the same.
        second.write(LINES, 5, Width::Byte, 0);
        assert_eq!(*second.log.0.lock().unwrap(), [(5, false)]);
        saved["memory"] = serde_json::json!([1]);
        assert!(second.device.load(&saved).is_err());
    }
}
