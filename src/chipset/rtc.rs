//! The real-time clock and its CMOS RAM: an MC146818 as PIIX3 has it.
//!
//! It shows the host's UTC. A guest that sets it shifts it; the shift is the device's state. Flags are
//! worked out when somebody looks or a deadline comes: the device never ticks.
//!
//! NOT MODELLED: daylight saving (DSE), the square wave, the divider's other crystals, the phase that
//! releasing the divider sets, a weekday that disagrees with the date.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Clock, Device, Effects, Line, Ns, Refusal, ResetKind, StateError, Width,
    Window, state,
};
use crate::trace::Space;

use super::lanes;
use super::rtc_alarm::Alarm;
use super::rtc_calendar::{Encoding, Fields};

/// Index port; data is the one after it.
const BASE: u64 = 0x70;
/// Bytes behind the index; its top bit masks NMI.
const SIZE: usize = 128;
const NMI_MASK: u8 = 0x80;

/// Registers by index (MC146818A data sheet, address map; century: FADT).
const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REG_A: u8 = 0x0a;
const REG_B: u8 = 0x0b;
const REG_C: u8 = 0x0c;
const REG_D: u8 = 0x0d;
/// The index to put into FADT.CENTURY.
pub const RTC_CENTURY: u8 = 0x32;

/// Register A: update in progress; the divider, whose top two bits hold it in reset; the rate.
const UIP: u8 = 1 << 7;
const DIVIDER_RESET: u8 = 0x60;
const RATE: u8 = 0x0f;
/// Register B.
const SET: u8 = 1 << 7;
const PIE: u8 = 1 << 6;
const AIE: u8 = 1 << 5;
const UIE: u8 = 1 << 4;
const SQWE: u8 = 1 << 3;
const DM: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
/// Register C: a flag has its enable's place.
const IRQF: u8 = 1 << 7;
const FLAGS: u8 = PIE | AIE | UIE;
/// Register D: the battery is good.
const VRT: u8 = 1 << 7;

/// The oscillator on, 1024 Hz chosen but not enabled, 24 hours, BCD: as a BIOS leaves them.
const REG_A_START: u8 = 0x26;
const REG_B_START: u8 = HOURS_24;

const SECOND: u64 = 1_000_000_000;
const SECOND_128: u128 = SECOND as u128;
/// UIP rises this long before an update (tBUC).
const BEFORE_UPDATE: u64 = 244_000;
/// The crystal.
const CRYSTAL_HZ: u128 = 32_768;
/// The longest a guest can shift the clock: the calendar's whole range.
const LONGEST_SHIFT: u64 = 10_000 * 366 * 86_400;

/// RAM sizes, which a BIOS leaves in CMOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CmosMemory {
    /// Bytes of RAM that end below 4 GiB.
    pub below_4g: u64,
    /// Bytes of RAM from 4 GiB on.
    pub above_4g: u64,
}

impl CmosMemory {
    /// The bytes as (index, value).
    fn bytes(self) -> [(u8, u8); 13] {
        const KIB: u32 = 10;
        const KIB_64: u32 = 16;
        let units = |bytes: u64, unit: u32, most: u32| {
            let units = u32::try_from(bytes >> unit).unwrap_or(most).min(most);
            units.to_le_bytes()
        };
        let base = units(640 << 10, KIB, 0xffff);
        let extended = units(self.below_4g.saturating_sub(1 << 20), KIB, 0xffff);
        let above_16m = units(self.below_4g.saturating_sub(16 << 20), KIB_64, 0xffff);
        let above_4g = units(self.above_4g, KIB_64, 0x00ff_ffff);
        [
            // Equipment: a coprocessor and a PS/2 mouse port.
            (0x14, 0x06),
            (0x15, base[0]),
            (0x16, base[1]),
            (0x17, extended[0]),
            (0x18, extended[1]),
            (0x30, extended[0]),
            (0x31, extended[1]),
            (0x34, above_16m[0]),
            (0x35, above_16m[1]),
            (0x5b, above_4g[0]),
            (0x5c, above_4g[1]),
            (0x5d, above_4g[2]),
            (REG_D, VRT),
        ]
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    index: u8,
    nmi_masked: bool,
    /// All bytes. The time's are valid only while it stands still.
    ram: Vec<u8>,
    /// Seconds from the host's clock to this one.
    shift: i64,
    /// The second and the beat up to which flags have been worked out.
    seen_second: i64,
    seen_beat: u64,
}

/// The clock with its CMOS.
pub struct Rtc {
    line: Line,
    clock: Arc<dyn Clock>,
    memory: CmosMemory,

    state: State,
}

impl fmt::Debug for Rtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rtc").field(&self.state).finish()
    }
}

impl State {
    fn fresh(wall: u64, memory: CmosMemory) -> Self {
        let mut state = Self {
            index: 0,
            nmi_masked: false,
            ram: vec![0; SIZE],
            shift: 0,
            seen_second: seconds(wall),
            seen_beat: 0,
        };
        state.put(REG_A, REG_A_START);
        state.put(REG_B, REG_B_START);
        for (index, byte) in memory.bytes() {
            state.put(index, byte);
        }
        // The standard CMOS checksum.
        let sum = (0x10..=0x2d).fold(0_u16, |sum, i| sum.wrapping_add(state.get(i).into()));
        let [high, low] = sum.to_be_bytes();
        state.put(0x2e, high);
        state.put(0x2f, low);
        state.seen_beat = state.beat(wall).map_or(0, |(beat, _)| beat);
        state
    }

    fn get(&self, index: u8) -> u8 {
        self.ram.get(usize::from(index)).copied().unwrap_or(0xff)
    }

    fn put(&mut self, index: u8, byte: u8) {
        if let Some(slot) = self.ram.get_mut(usize::from(index)) {
            *slot = byte;
        }
    }

    fn divider_in_reset(&self) -> bool {
        self.get(REG_A) & DIVIDER_RESET == DIVIDER_RESET
    }

    /// Whether time stands still: SET, or the divider in reset.
    fn halted(&self) -> bool {
        self.get(REG_B) & SET != 0 || self.divider_in_reset()
    }

    fn encoding(&self) -> Encoding {
        Encoding {
            binary: self.get(REG_B) & DM != 0,
            hours_24: self.get(REG_B) & HOURS_24 != 0,
        }
    }

    fn now(&self, wall: u64) -> i64 {
        seconds(wall).saturating_add(self.shift)
    }

    fn alarm(&self) -> Alarm {
        Alarm::new(
            self.encoding(),
            self.get(SECONDS_ALARM),
            self.get(MINUTES_ALARM),
            self.get(HOURS_ALARM),
        )
    }

    /// The number of the periodic interrupt's current beat, and nanoseconds to the next.
    fn beat(&self, wall: u64) -> Option<(u64, u64)> {
        let log2_cycles = match self.get(REG_A) & RATE {
            _ if self.divider_in_reset() => return None,
            0 => return None,
            // The two slowest divider taps are not there with a 32 kHz crystal.
            rate @ 1..=2 => u32::from(rate).saturating_add(6),
            rate => u32::from(rate).saturating_sub(1),
        };
        let cycles = u128::from(wall).saturating_mul(CRYSTAL_HZ) / SECOND_128;
        let beat = cycles.checked_shr(log2_cycles)?;
        let next_cycles = beat.saturating_add(1).checked_shl(log2_cycles)?;
        let next = next_cycles.saturating_mul(SECOND_128).div_ceil(CRYSTAL_HZ);
        let left = next.saturating_sub(u128::from(wall));
        Some((u64::try_from(beat).ok()?, u64::try_from(left).ok()?))
    }

    /// Writes the running time into its bytes.
    fn store_time(&mut self, wall: u64) {
        let (fields, encoding) = (Fields::from_unix(self.now(wall)), self.encoding());
        for (index, byte) in [
            (SECONDS, encoding.number(fields.second)),
            (MINUTES, encoding.number(fields.minute)),
            (HOURS, encoding.hour(fields.hour)),
            (WEEKDAY, encoding.number(fields.weekday)),
            (DAY, encoding.number(fields.day)),
            (MONTH, encoding.number(fields.month)),
            (YEAR, encoding.number(fields.year)),
            (RTC_CENTURY, encoding.number(fields.century)),
        ] {
            self.put(index, byte);
        }
    }

    /// Lets time run on from its bytes.
    fn run_from_bytes(&mut self, wall: u64) {
        let encoding = self.encoding();
        let number = |index| encoding.read_number(self.get(index));
        let fields = Fields {
            second: number(SECONDS),
            minute: number(MINUTES),
            hour: encoding.read_hour(self.get(HOURS)),
            weekday: number(WEEKDAY),
            day: number(DAY),
            month: number(MONTH),
            year: number(YEAR),
            century: number(RTC_CENTURY),
        };
        self.seen_second = fields.to_unix();
        self.shift = self.seen_second.saturating_sub(seconds(wall));
    }

    /// Sets the flags that time has brought since somebody last looked.
    fn catch_up(&mut self, wall: u64) {
        let mut flags = self.get(REG_C);
        if !self.halted() {
            let now = self.now(wall);
            if now > self.seen_second {
                flags |= UIE;
                let due = self.alarm().next_after(self.seen_second);
                if due.is_some_and(|at| at <= now) {
                    flags |= AIE;
                }
            }
            // The host's clock may have been set back.
            self.seen_second = now;
        }
        if let Some((beat, _)) = self.beat(wall)
            && beat != self.seen_beat
        {
            flags |= PIE;
            self.seen_beat = beat;
        }
        self.put(REG_C, flags);
    }

    /// Whether a flag is both set and enabled.
    fn asserted(&self) -> bool {
        self.get(REG_C) & self.get(REG_B) & FLAGS != 0
    }

    fn write(&mut self, index: u8, byte: u8, wall: u64) {
        match index {
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | RTC_CENTURY => {
                if self.halted() {
                    self.put(index, byte);
                } else {
                    self.store_time(wall);
                    self.put(index, byte);
                    self.run_from_bytes(wall);
                }
            }
            REG_A | REG_B => {
                let was_halted = self.halted();
                if !was_halted {
                    self.store_time(wall);
                }
                // UIP cannot be written; SET also clears UIE.
                let clear = match (index, byte & SET) {
                    (REG_A, _) => UIP,
                    (_, 0) => 0,
                    _ => UIE,
                };
                self.put(index, byte & !clear);
                if was_halted && !self.halted() {
                    self.run_from_bytes(wall);
                }
                if index == REG_A {
                    self.seen_beat = self.beat(wall).map_or(0, |(beat, _)| beat);
                }
            }
            REG_C | REG_D => {}
            _ => self.put(index, byte),
        }
    }

    fn read(&mut self, index: u8, wall: u64) -> u8 {
        match index {
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | RTC_CENTURY
                if !self.halted() =>
            {
                self.store_time(wall);
                self.get(index)
            }
            REG_A => {
                let updating = !self.halted() && wall % SECOND >= SECOND - BEFORE_UPDATE;
                self.get(REG_A) | if updating { UIP } else { 0 }
            }
            REG_C => {
                let irqf = if self.asserted() { IRQF } else { 0 };
                let flags = self.get(REG_C);
                self.put(REG_C, 0);
                flags | irqf
            }
            _ => self.get(index),
        }
    }
}

/// Whole seconds of a wall-clock time.
fn seconds(wall: u64) -> i64 {
    i64::try_from(wall / SECOND).unwrap_or(i64::MAX)
}

impl Rtc {
    /// A clock that interrupts through ISA interrupt 8.
    #[must_use]
    pub fn new(line: Line, clock: Arc<dyn Clock>, memory: CmosMemory) -> Self {
        let state = State::fresh(clock.wall(), memory);
        Self {
            line,
            clock,
            memory,
            state,
        }
    }

    fn settle(&self) {
        if self.line.level() != self.state.asserted() {
            self.line.set(self.state.asserted());
        }
    }
}

impl Device for Rtc {
    fn label(&self) -> &'static str {
        "rtc"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "CMOS",
            space: Space::Pio,
            base: Some(BASE),
            len: 2,
        }]
    }

    /// The index port is write-only.
    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.offset == 0 {
            return Err(Refusal::NoSuchRegister);
        }
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        let wall = self.clock.wall();
        self.state.catch_up(wall);
        let byte = self.state.read(self.state.index, wall);
        self.settle();
        Ok(byte.into())
    }

    /// A word at the index port is an index and its data.
    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        let wall = self.clock.wall();
        self.state.catch_up(wall);
        lanes::write(at, value, |offset, byte| {
            if offset == 0 {
                self.state.index = byte & !NMI_MASK;
                self.state.nmi_masked = byte & NMI_MASK != 0;
            } else {
                self.state.write(self.state.index, byte, wall);
            }
        });
        self.settle();
        Ok(())
    }

    /// The battery carries time and RAM over a warm reset, which clears enables and flags
    /// (MC146818A, RESET).
    fn reset(&mut self, kind: ResetKind) {
        match kind {
            ResetKind::Cold => self.state = State::fresh(self.clock.wall(), self.memory),
            ResetKind::Warm => {
                let enables = PIE | AIE | UIE | SQWE;
                let control = self.state.get(REG_B) & !enables;
                self.state.put(REG_B, control);
                self.state.put(REG_C, 0);
                self.state.index = 0;
                self.state.nmi_masked = false;
            }
        }
        self.settle();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("rtc", possible, what);
        check(loaded.ram.len() == SIZE, "CMOS of another size")?;
        check(loaded.index & NMI_MASK == 0, "an index past CMOS")?;
        check(loaded.get(REG_A) & UIP == 0, "UIP is kept")?;
        check(loaded.get(REG_C) & !FLAGS == 0, "reserved bits of C")?;
        check(loaded.get(REG_D) == VRT, "a flat battery")?;
        check(
            loaded.shift.unsigned_abs() <= LONGEST_SHIFT,
            "a time no calendar shows",
        )?;
        self.state = loaded;
        self.line.restore(self.state.asserted());
        Ok(())
    }

    /// The next flag that is enabled and not yet set.
    fn deadline(&self) -> Option<Ns> {
        let wall = self.clock.wall();
        let mut wanted = self.state.get(REG_B) & !self.state.get(REG_C);
        if self.state.halted() {
            // Beats come from the divider, and SET does not stop that.
            wanted &= PIE;
        }
        let until = |second: i64| {
            let at = second.saturating_sub(self.state.shift);
            let at = u64::try_from(at).unwrap_or_default().saturating_mul(SECOND);
            at.saturating_sub(wall)
        };
        let now = self.state.seen_second;
        let alarm = (wanted & AIE != 0)
            .then(|| self.state.alarm().next_after(now))
            .flatten();
        let update = (wanted & UIE != 0).then(|| now.saturating_add(1));
        let beat = (wanted & PIE != 0)
            .then(|| self.state.beat(wall))
            .flatten()
            .map(|(beat, left)| {
                if beat == self.state.seen_beat {
                    left
                } else {
                    0
                }
            });
        let wait = alarm.into_iter().chain(update).map(until).chain(beat).min();
        wait.map(|wait| match wait {
            // Not "now": whoever compares has looked at the clock before.
            0 => Ns(0),
            wait => Ns(self.clock.now().0.saturating_add(wait)),
        })
    }

    fn wake(&mut self, _: &mut Effects) {
        self.state.catch_up(self.clock.wall());
        self.settle();
    }
}

#[cfg(test)]
mod tests;
