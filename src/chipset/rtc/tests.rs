use super::*;
use crate::bus::TestClock;
use crate::chipset::rig::{Wires, effects_of_write, read};

struct Rig {
    wires: Wires,
    clock: Arc<TestClock>,
    rtc: Rtc,
}

impl Rig {
    /// The test clock starts at Friday 2026-01-02 03:04:05 UTC.
    fn new() -> Self {
        let (wires, clock) = (Wires::new(), Arc::new(TestClock::default()));
        let memory = CmosMemory {
            below_4g: 3 << 30,
            above_4g: 2 << 30,
        };
        let rtc = Rtc::new(wires.line(8), clock.clone(), memory);
        Self { wires, clock, rtc }
    }

    fn get(&mut self, index: u8) -> u8 {
        effects_of_write(&mut self.rtc, 0, Width::Byte, index.into());
        read(&mut self.rtc, 1, Width::Byte).to_le_bytes()[0]
    }

    fn put(&mut self, index: u8, byte: u8) {
        let both = u64::from(byte) << 8 | u64::from(index);
        effects_of_write(&mut self.rtc, 0, Width::Word, both);
    }

    fn time(&mut self) -> [u8; 8] {
        let time = [
            RTC_CENTURY,
            YEAR,
            MONTH,
            DAY,
            WEEKDAY,
            HOURS,
            MINUTES,
            SECONDS,
        ];
        time.map(|index| self.get(index))
    }

    /// Lets time pass as the main loop does, up to `seconds`; returns when the line rose.
    fn wait_for_interrupt(&mut self, seconds: u64) -> Option<u64> {
        let start = self.clock.now().0;
        while self.clock.now().0 < start + seconds * SECOND {
            let at = self.rtc.deadline()?;
            assert!(at > self.clock.now(), "a deadline that is always due");
            self.clock.advance(Ns(at.0 - self.clock.now().0));
            self.rtc.wake(&mut Effects::new());
            if self.wires.level(8) {
                return Some(self.clock.now().0 - start);
            }
        }
        None
    }
}

#[test]
fn it_shows_the_hosts_utc_in_every_encoding() {
    let mut rig = Rig::new();
    rig.clock.advance(Ns(12 * 3600 * SECOND));
    assert_eq!(rig.time(), [0x20, 0x26, 0x01, 0x02, 0x06, 0x15, 0x04, 0x05]);
    rig.put(REG_B, 0);
    assert_eq!(rig.time()[5], 0x83);
    rig.put(REG_B, DM | HOURS_24);
    assert_eq!(rig.time(), [20, 26, 1, 2, 6, 15, 4, 5]);
}

/// drivers/rtc/rtc-mc146818-lib.c, mc146818_set_time(): the 31st passes through February.
#[test]
fn time_set_as_linux_sets_it_runs_on_from_there() {
    let mut rig = Rig::new();
    for (day, month) in [(0x31, 0x01), (0x15, 0x02)] {
        rig.put(REG_B, SET | HOURS_24);
        rig.put(REG_A, REG_A_START | 0x70);
        for (index, byte) in [
            (YEAR, 0x30),
            (MONTH, month),
            (DAY, day),
            (HOURS, 0x23),
            (MINUTES, 0x59),
            (SECONDS, 0x58),
            (RTC_CENTURY, 0x20),
        ] {
            rig.put(index, byte);
        }
        rig.clock.advance(Ns(5 * SECOND));
        assert_eq!(rig.time()[2..4], [month, day], "it stands still");
        rig.put(REG_B, HOURS_24);
        rig.put(REG_A, REG_A_START);
    }
    rig.clock.advance(Ns(3 * SECOND));
    assert_eq!(rig.time(), [0x20, 0x30, 0x02, 0x16, 0x07, 0x00, 0x00, 0x01]);
}

#[test]
fn a_running_clock_can_be_set_too() {
    let mut rig = Rig::new();
    rig.put(MINUTES, 0x30);
    assert_eq!(rig.time()[5..], [0x03, 0x30, 0x05]);
}

#[test]
fn uip_announces_the_update_by_244_microseconds() {
    let mut rig = Rig::new();
    rig.clock.advance(Ns(SECOND - BEFORE_UPDATE - 1));
    assert_eq!(rig.get(REG_A) & UIP, 0);
    rig.clock.advance(Ns(1));
    assert_eq!(rig.get(REG_A) & UIP, UIP);
    assert_eq!(rig.get(SECONDS), 0x05);
    rig.clock.advance(Ns(BEFORE_UPDATE));
    assert_eq!(rig.get(REG_A) & UIP, 0);
    assert_eq!(rig.get(SECONDS), 0x06);
}

#[test]
fn the_alarm_interrupts_at_its_second_until_c_is_read() {
    let mut rig = Rig::new();
    rig.put(SECONDS_ALARM, 0x00);
    rig.put(MINUTES_ALARM, 0x05);
    rig.put(HOURS_ALARM, 0xff);
    rig.put(REG_B, HOURS_24 | AIE);
    assert_eq!(rig.wait_for_interrupt(100), Some(55 * SECOND));
    assert_eq!(rig.get(REG_C) & (IRQF | AIE), IRQF | AIE);
    assert!(!rig.wires.level(8));
    assert_eq!(rig.get(REG_C), 0);
    assert_eq!(rig.wait_for_interrupt(4000), Some(3600 * SECOND));
}

#[test]
fn update_and_periodic_interrupts_come_at_their_rates() {
    let mut rig = Rig::new();
    rig.clock.advance(Ns(SECOND / 3));
    rig.put(REG_B, HOURS_24 | UIE);
    rig.get(REG_C);
    assert!(rig.wait_for_interrupt(2).unwrap().abs_diff(SECOND * 2 / 3) <= 1);
    rig.put(REG_B, HOURS_24 | PIE);
    rig.get(REG_C);
    rig.wait_for_interrupt(1).unwrap();
    let start = rig.clock.now().0;
    for _ in 0..1024 {
        rig.get(REG_C);
        rig.wait_for_interrupt(1).unwrap();
    }
    assert_eq!(rig.clock.now().0 - start, SECOND, "1024 Hz");
}

#[test]
fn flags_are_set_whether_enabled_or_not() {
    let mut rig = Rig::new();
    rig.get(REG_C);
    rig.clock.advance(Ns(SECOND));
    assert_eq!(rig.get(REG_C), UIE | PIE);
    assert!(!rig.wires.level(8));
}

#[test]
fn set_stops_updates_and_clears_their_interrupt() {
    let mut rig = Rig::new();
    rig.put(REG_B, SET | HOURS_24 | UIE);
    assert_eq!(rig.get(REG_B), SET | HOURS_24);
    rig.get(REG_C);
    rig.clock.advance(Ns(10 * SECOND));
    assert_eq!(rig.get(REG_C), PIE, "beats go on");
    assert_eq!(rig.rtc.deadline(), None);
    rig.put(REG_A, REG_A_START | DIVIDER_RESET);
    rig.get(REG_C);
    rig.clock.advance(Ns(10 * SECOND));
    assert_eq!(rig.get(REG_C), 0);
}

#[test]
fn memory_sizes_are_where_a_bios_leaves_them() {
    let mut rig = Rig::new();
    let mut word = |low, high| u16::from_le_bytes([rig.get(low), rig.get(high)]);
    assert_eq!(word(0x15, 0x16), 640);
    assert_eq!(word(0x17, 0x18), 0xffff);
    assert_eq!(word(0x34, 0x35), 0xbf00, "64 KiB units above 16 MiB");
    assert_eq!(word(0x5b, 0x5c), 0x8000, "64 KiB units above 4 GiB");
    assert_eq!(word(0x5d, 0x5d), 0);
    let sum: u16 = (0x10..=0x2d).map(|i| u16::from(rig.get(i))).sum();
    assert_eq!([rig.get(0x2e), rig.get(0x2f)], sum.to_be_bytes());
}

#[test]
fn a_warm_reset_keeps_time_and_ram_and_drops_interrupts() {
    let mut rig = Rig::new();
    rig.put(0x0f, 0x0a);
    rig.put(MINUTES, 0x30);
    rig.put(REG_B, HOURS_24 | UIE);
    rig.clock.advance(Ns(SECOND));
    rig.rtc.wake(&mut Effects::new());
    assert!(rig.wires.level(8));
    rig.rtc.reset(ResetKind::Warm);
    assert!(!rig.wires.level(8));
    assert_eq!((rig.get(0x0f), rig.get(MINUTES)), (0x0a, 0x30));
    assert_eq!((rig.get(REG_B), rig.get(REG_C)), (HOURS_24, 0));
}

#[test]
fn the_index_cannot_be_read_and_its_top_bit_is_not_part_of_it() {
    let mut rig = Rig::new();
    assert_eq!(read(&mut rig.rtc, 0, Width::Byte), 0xff);
    assert_eq!(rig.get(NMI_MASK | REG_D), VRT);
}

/// A clock that moves on whenever somebody looks, as the host's does.
#[derive(Debug, Default)]
struct Creeping(TestClock);

impl Clock for Creeping {
    fn now(&self) -> Ns {
        self.0.advance(Ns(50));
        self.0.now()
    }

    fn wall(&self) -> u64 {
        self.0.advance(Ns(50));
        self.0.wall()
    }
}

/// Wakes the device as the bus does: the deadline is asked for after the time was taken.
#[test]
fn a_deadline_that_has_come_is_not_missed_while_the_clock_goes_on() {
    for (enable, most) in [(AIE, 61 * SECOND), (UIE, SECOND), (PIE, SECOND / 1024 + 1)] {
        let (wires, clock) = (Wires::new(), Arc::new(Creeping::default()));
        let memory = CmosMemory {
            below_4g: 1 << 30,
            above_4g: 0,
        };
        let mut rtc = Rtc::new(wires.line(8), clock.clone(), memory);
        for (index, byte) in [
            (SECONDS_ALARM, 0),
            (MINUTES_ALARM, 0xff),
            (HOURS_ALARM, 0xff),
            (REG_B, HOURS_24 | enable),
        ] {
            let both = u64::from(byte) << 8 | u64::from(index);
            effects_of_write(&mut rtc, 0, Width::Word, both);
        }
        let start = clock.now();
        let mut looks = 0;
        while !wires.level(8) {
            let now = clock.now();
            assert!(
                now.0 - start.0 <= most + 100_000,
                "{enable:#x} came too late"
            );
            looks += 1;
            assert!(looks < 10, "{enable:#x}: a deadline that is always due");
            match rtc.deadline() {
                Some(at) if at <= now => rtc.wake(&mut Effects::new()),
                Some(at) => clock.0.advance(Ns(at.0 - now.0)),
                None => panic!("{enable:#x} waits for nothing"),
            }
        }
    }
}
