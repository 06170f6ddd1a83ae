//! PIIX4's power management (function 3): PM1 registers, the PM timer, and the SCI (82371AB data sheet,
//! order 290562, chapter 7).
//!
//! NOT MODELLED: the SMBus host controller, whose base stays 0; clock and peripheral power control.
//!
//! SCI_EN reads as one from the start: there is no SMM to hand over from, and ACPI's SMI_CMD is 0.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Clock, Effect, Effects, Line, Ns, Place, ResetKind, StateError, Width, Window,
    state,
};
use crate::pci::{ConfigSpace, FIRST_OWN_WINDOW, Field, Header, PciDevice, Pin, Shape, regs};
use crate::trace::Space;

use super::lanes;

/// PM timer frequency (ACPI 6.5, 4.8.3.3).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// SLP_TYP of S5, soft off, for the `_S5` package (82371AB, PM1_CNT).
pub const SLP_TYP_S5: u8 = 0;

/// PM1_STS and PM1_EN bits.
const TMR: u16 = 1 << 0;
const GBL: u16 = 1 << 5;
const PWRBTN: u16 = 1 << 8;
const RTC: u16 = 1 << 10;
/// PM1_STS bits besides: bus master activity and wake.
const BM: u16 = 1 << 4;
const WAK: u16 = 1 << 15;
/// What a one clears in PM1_STS.
const STS_W1C: u16 = TMR | BM | GBL | PWRBTN | RTC | WAK;
/// What can be set in PM1_EN.
const EN_BITS: u16 = TMR | GBL | PWRBTN | RTC;
/// PM1_CNT bits.
const SCI_EN: u16 = 1 << 0;
const BM_RLD: u16 = 1 << 1;
const SLP_TYP: u16 = 7 << 10;
const SLP_EN: u16 = 1 << 13;
/// What PM1_CNT keeps: GBL_RLS (bit 2) and SLP_EN are write-only.
const CNT_BITS: u16 = BM_RLD | SLP_TYP;

/// Registers by offset from PMBASE.
const PM1_STS: u64 = 0;
const PM1_EN: u64 = 2;
const PM1_CNT: u64 = 4;
const PM_TMR: u64 = 8;
/// The block's decode, 82371AB PMBA.
const LEN: u64 = 64;
/// The window of the block.
const BLOCK: u8 = FIRST_OWN_WINDOW;

/// PMBASE, 7.1.10: bits 15:6 of the block's address.
const PMBA: u8 = 0x40;
const PMBA_ADDRESS: u32 = 0xffc0;
/// PMREGMISC: PMIOSE, which switches the block on.
const PMREGMISC: u8 = 0x80;
const PMIOSE: u8 = 1;

const REGISTERS: [Field; 2] = [
    Field::plain("PMBA", PMBA, Width::Dword, 1, PMBA_ADDRESS),
    Field::plain("PMREGMISC", PMREGMISC, Width::Byte, 0, PMIOSE as u32),
];

/// Revision 3: Linux reads the timer of older ones three times (acpi_pm, PIIX4 errata).
const HEADER: Header = Header {
    revision: 3,
    pin: Some(Pin::A),
    command_writable: regs::COMMAND_IO,
    status: regs::STATUS_FAST_BACK | regs::STATUS_DEVSEL_MEDIUM,
    ..Header::new(0x8086, 0x7113, 0x06_8000)
};

/// The timer counts in its low 24 bits; TMR_STS is set whenever bit 23 changes.
const TIMER_MASK: u64 = (1 << 24) - 1;
const HALF_PERIOD: u64 = 1 << 23;

/// Ticks in `ns`; whole-number arithmetic, so no drift.
fn ticks(ns: u64) -> u64 {
    let ticks = u128::from(ns).saturating_mul(u128::from(PM_TIMER_HZ)) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// The first nanosecond at which `ticks` have passed.
fn nanoseconds(ticks: u64) -> u64 {
    let ns = u128::from(ticks)
        .saturating_mul(1_000_000_000)
        .div_ceil(u128::from(PM_TIMER_HZ));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// When the timer was zero.
    born: u64,
    /// The tick at which bit 23 changes next and nobody has noticed yet.
    next_change: u64,
    sts: u16,
    en: u16,
    cnt: u16,
}

impl State {
    const fn fresh(now: Ns) -> Self {
        Self {
            born: now.0,
            next_change: HALF_PERIOD,
            sts: 0,
            en: 0,
            cnt: 0,
        }
    }
}

/// The power button, for whoever presses it. After a press, let the device see it:
/// [`crate::bus::Bus::wake`].
#[derive(Debug, Clone, Default)]
pub struct PowerButton(Arc<AtomicBool>);

impl PowerButton {
    /// Presses it: the guest's ACPI driver shuts down in its own time.
    pub fn press(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_pressed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn take(&self) -> bool {
        self.is_pressed() && self.0.swap(false, Ordering::AcqRel)
    }
}

/// The function with its PM block.
pub struct PmBlock {
    sci: Line,
    clock: Arc<dyn Clock>,
    button: PowerButton,

    state: State,
}

impl fmt::Debug for PmBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PmBlock").field(&self.state).finish()
    }
}

impl PmBlock {
    /// The block; `sci` is level-triggered, and no PCI interrupt.
    #[must_use]
    pub fn new(sci: Line, clock: Arc<dyn Clock>) -> Self {
        let state = State::fresh(clock.now());
        Self {
            sci,
            clock,
            button: PowerButton::default(),
            state,
        }
    }

    /// Its power button.
    #[must_use]
    pub fn button(&self) -> PowerButton {
        self.button.clone()
    }

    fn ticks(&self) -> u64 {
        ticks(self.clock.now().0.saturating_sub(self.state.born))
    }

    /// Notices changes of bit 23 that time has brought, and the button.
    fn catch_up(&mut self) {
        if self.button.take() {
            self.state.sts |= PWRBTN;
        }
        let ticks = self.ticks();
        if ticks >= self.state.next_change {
            self.state.sts |= TMR;
            self.state.next_change = (ticks / HALF_PERIOD)
                .saturating_add(1)
                .saturating_mul(HALF_PERIOD);
        }
    }

    /// Whether the SCI is asserted: an event that is both set and enabled.
    const fn asserted(&self) -> bool {
        self.state.sts & self.state.en & EN_BITS != 0
    }

    fn settle(&self) {
        if self.sci.level() != self.asserted() {
            self.sci.set(self.asserted());
        }
    }

    fn register(&self, register: u64) -> u32 {
        match register {
            PM1_STS => self.state.sts.into(),
            PM1_EN => self.state.en.into(),
            PM1_CNT => (self.state.cnt | SCI_EN).into(),
            PM_TMR => u32::try_from(self.ticks() & TIMER_MASK).unwrap_or_default(),
            _ => 0,
        }
    }

    /// Writes the byte lanes of a 16-bit register that `mask` covers.
    fn write_register(&mut self, register: u64, value: u16, mask: u16, effects: &mut Effects) {
        match register {
            PM1_STS => self.state.sts &= !(value & mask & STS_W1C),
            PM1_EN => self.state.en = (self.state.en & !mask | value & mask) & EN_BITS,
            PM1_CNT => {
                let cnt = self.state.cnt & !mask | value & mask;
                self.state.cnt = cnt & CNT_BITS;
                // NOT MODELLED: the suspend states; only soft off does something.
                if value & mask & SLP_EN != 0 && (cnt & SLP_TYP) >> 10 == u16::from(SLP_TYP_S5) {
                    effects.push(Effect::PowerOff);
                }
            }
            _ => {}
        }
    }
}

impl PciDevice for PmBlock {
    fn label(&self) -> &'static str {
        "piix4-pm"
    }

    fn shape(&self) -> Shape {
        Shape {
            registers: REGISTERS.to_vec(),
            ..Shape::new(HEADER)
        }
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: BLOCK,
            name: "PM",
            space: Space::Pio,
            base: None,
            len: LEN,
        }]
    }

    fn places(&self, config: &ConfigSpace) -> Vec<Place> {
        let base = config.dword(PMBA) & PMBA_ADDRESS;
        let on = config.byte(PMREGMISC) & PMIOSE != 0 && base != 0;
        let place = Place {
            window: BLOCK,
            space: Space::Pio,
            base: base.into(),
        };
        on.then_some(place).into_iter().collect()
    }

    /// Reserved registers read as zero.
    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        self.catch_up();
        self.settle();
        // One look at the clock for all lanes, or a dword of PM_TMR could tear.
        let dwords = [0, 4, 8].map(|at| match at {
            PM_TMR => self.register(PM_TMR),
            low => self.register(low) | self.register(low | 2) << 16,
        });
        Ok(lanes::read(at, |offset| {
            let dword = usize::try_from(offset / 4).ok().and_then(|i| dwords.get(i));
            let lane = usize::try_from(offset % 4).unwrap_or_default();
            let bytes = dword.copied().unwrap_or_default().to_le_bytes();
            bytes.get(lane).copied().unwrap_or_default()
        }))
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        self.catch_up();
        let (mut bytes, mut mask) = ([0_u8; 8], [0_u8; 8]);
        lanes::write(at, value, |offset, byte| {
            let lane = usize::try_from(offset).ok();
            if let Some(slot) = lane.and_then(|l| bytes.get_mut(l)) {
                *slot = byte;
            }
            if let Some(slot) = lane.and_then(|l| mask.get_mut(l)) {
                *slot = 0xff;
            }
        });
        let (value, mask) = (u64::from_le_bytes(bytes), u64::from_le_bytes(mask));
        for (register, shift) in [(PM1_STS, 0), (PM1_EN, 16), (PM1_CNT, 32)] {
            let word = |of: u64| u16::try_from(of >> shift & 0xffff).unwrap_or_default();
            if word(mask) != 0 {
                self.write_register(register, word(value), word(mask), effects);
            }
        }
        self.settle();
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.button.take();
        self.state = State::fresh(self.clock.now());
        self.settle();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("piix4-pm", possible, what);
        check(loaded.sts & !STS_W1C == 0, "reserved bits of PM1_STS")?;
        check(loaded.en & !EN_BITS == 0, "reserved bits of PM1_EN")?;
        check(loaded.cnt & !CNT_BITS == 0, "reserved bits of PM1_CNT")?;
        check(
            loaded.next_change != 0 && loaded.next_change.is_multiple_of(HALF_PERIOD),
            "bit 23 of PM_TMR changes off its beat",
        )?;
        self.state = loaded;
        self.sci.restore(self.asserted());
        Ok(())
    }

    /// The next change of bit 23, while it would interrupt; at once, when the button was pressed.
    fn deadline(&self) -> Option<Ns> {
        if self.button.is_pressed() {
            return Some(Ns(0));
        }
        let wanted = self.state.en & TMR != 0 && self.state.sts & TMR == 0;
        let change = nanoseconds(self.state.next_change);
        wanted.then(|| Ns(self.state.born.saturating_add(change)))
    }

    fn wake(&mut self, _: &mut Effects) {
        self.catch_up();
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::TestClock;
    use crate::chipset::rig::{Wires, at, config_write, seat};
    use crate::pci::Function;
    use proptest::prelude::*;

    fn rig() -> (Wires, Arc<TestClock>, PmBlock) {
        let (wires, clock) = (Wires::new(), Arc::new(TestClock::default()));
        let pm = PmBlock::new(wires.line(9), clock.clone());
        (wires, clock, pm)
    }

    fn read(pm: &mut PmBlock, register: u64, width: Width) -> u64 {
        pm.read(at(register, width), &mut Effects::new()).unwrap() & width.ones()
    }

    fn effects_of_write(pm: &mut PmBlock, register: u64, width: Width, value: u64) -> Vec<Effect> {
        let mut effects = Effects::new();
        pm.write(at(register, width), value, &mut effects).unwrap();
        effects.drain().collect()
    }

    #[test]
    fn the_block_lies_where_pmba_says_once_it_is_switched_on() {
        let (wires, _, pm) = rig();
        let mut function = Function::new(seat(&wires, None), pm);
        let place = |base| {
            Effect::Place(Place {
                window: BLOCK,
                space: Space::Pio,
                base,
            })
        };
        assert_eq!(config_write(&mut function, PMBA, Width::Dword, 0xb03f), []);
        assert_eq!(
            config_write(&mut function, PMREGMISC, Width::Byte, 1),
            [place(0xb000)]
        );
        assert_eq!(
            config_write(&mut function, PMBA, Width::Dword, 0x601),
            [place(0x600)]
        );
        assert_eq!(
            config_write(&mut function, PMREGMISC, Width::Byte, 0),
            [Effect::Withdraw { window: BLOCK }]
        );
    }

    fn write(pm: &mut PmBlock, register: u64, value: u64) -> Vec<Effect> {
        effects_of_write(pm, register, Width::Word, value)
    }

    #[test]
    fn the_timer_counts_at_its_rate_and_wraps_at_24_bits() {
        let (_, clock, mut pm) = rig();
        clock.advance(Ns(1_000_000_000));
        assert_eq!(read(&mut pm, PM_TMR, Width::Dword), PM_TIMER_HZ);
        clock.advance(Ns(9_000_000_000));
        assert_eq!(
            read(&mut pm, PM_TMR, Width::Dword),
            PM_TIMER_HZ * 10 % (1 << 24)
        );
    }

    #[test]
    fn sleeping_to_s5_powers_off_and_nothing_else_does() {
        let (_, _, mut pm) = rig();
        assert_eq!(write(&mut pm, PM1_CNT, u64::from(SLP_EN) | 1 << 10), []);
        assert_eq!(write(&mut pm, PM1_CNT, 0), []);
        assert_eq!(
            write(&mut pm, PM1_CNT, u64::from(SLP_EN)),
            [Effect::PowerOff]
        );
        assert_eq!(
            read(&mut pm, PM1_CNT, Width::Word),
            u64::from(SCI_EN),
            "SLP_EN reads as zero, SCI_EN as one"
        );
    }

    #[test]
    fn sleeping_by_bytes_works_too() {
        let (_, _, mut pm) = rig();
        assert_eq!(
            effects_of_write(&mut pm, PM1_CNT + 1, Width::Byte, u64::from(SLP_EN >> 8)),
            [Effect::PowerOff]
        );
    }

    #[test]
    fn the_power_button_holds_sci_until_its_status_is_cleared() {
        let (wires, _, mut pm) = rig();
        write(&mut pm, PM1_EN, PWRBTN.into());
        pm.button().press();
        assert_eq!(pm.deadline(), Some(Ns(0)));
        pm.wake(&mut Effects::new());
        assert!(wires.level(9));
        assert_eq!(pm.deadline(), None);
        write(&mut pm, PM1_STS, 0);
        assert!(wires.level(9), "a zero clears nothing");
        write(&mut pm, PM1_STS, PWRBTN.into());
        assert!(!wires.level(9));
    }

    #[test]
    fn bit_23_interrupts_at_each_change_when_enabled() {
        let (wires, clock, mut pm) = rig();
        assert_eq!(pm.deadline(), None);
        write(&mut pm, PM1_EN, TMR.into());
        for change in 1..=3 {
            let at = pm.deadline().unwrap();
            clock.advance(Ns(at.0 - clock.now().0 - 1));
            pm.wake(&mut Effects::new());
            assert!(!wires.level(9), "one nanosecond early");
            clock.advance(Ns(1));
            pm.wake(&mut Effects::new());
            assert!(wires.level(9));
            assert_eq!(pm.deadline(), None, "already asserted");
            let bit = read(&mut pm, PM_TMR, Width::Dword) >> 23 & 1;
            assert_eq!(bit, change % 2);
            write(&mut pm, PM1_STS, TMR.into());
            assert!(!wires.level(9));
        }
    }

    #[test]
    fn a_wide_read_is_the_registers_side_by_side() {
        let (_, clock, mut pm) = rig();
        clock.advance(Ns(3_000_000_000));
        write(&mut pm, PM1_EN, u64::from(EN_BITS));
        let wide = read(&mut pm, PM1_STS, Width::Dword);
        assert_eq!(wide, u64::from(EN_BITS) << 16 | u64::from(TMR));
    }

    proptest! {
        #[test]
        fn a_deadline_is_the_first_nanosecond_of_its_tick(tick in 1_u64..1 << 50) {
            let ns = nanoseconds(tick);
            prop_assert_eq!(ticks(ns), tick);
            prop_assert!(ticks(ns - 1) < tick);
        }
    }
}
