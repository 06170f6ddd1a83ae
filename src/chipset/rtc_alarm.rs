//! When the RTC's alarm goes off next.

use super::rtc_calendar::Encoding;

/// Alarm bytes with both top bits set match any value (MC146818A data sheet, Time, Calendar, and
/// Alarm Locations).
const ANY: u8 = 0xc0;

/// What each alarm byte matches, one bit per value. A byte that no value is written as matches none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    seconds: u64,
    minutes: u64,
    hours: u64,
}

/// The values below `count` that `register` matches.
fn matching(register: u8, count: u8, written: impl Fn(u8) -> u8) -> u64 {
    (0..count)
        .filter(|&value| register & ANY == ANY || written(value) == register)
        .fold(0, |mask, value| mask | 1 << value)
}

/// The lowest value in `mask` that is not below `from`.
fn at_or_after(mask: u64, from: u32) -> Option<u32> {
    let rest = mask.checked_shr(from)?;
    (rest != 0).then(|| rest.trailing_zeros().saturating_add(from))
}

impl Alarm {
    pub(super) fn new(encoding: Encoding, seconds: u8, minutes: u8, hours: u8) -> Self {
        Self {
            seconds: matching(seconds, 60, |v| encoding.number(v)),
            minutes: matching(minutes, 60, |v| encoding.number(v)),
            hours: matching(hours, 24, |v| encoding.hour(v)),
        }
    }

    /// The first match of a day, from a time of that day on.
    fn in_day(&self, hour: u32, minute: u32, second: u32) -> Option<[u32; 3]> {
        if at_or_after(self.hours, hour) == Some(hour) {
            if at_or_after(self.minutes, minute) == Some(minute)
                && let Some(second) = at_or_after(self.seconds, second)
            {
                return Some([hour, minute, second]);
            }
            if let Some(minute) = at_or_after(self.minutes, minute.saturating_add(1)) {
                return Some([hour, minute, at_or_after(self.seconds, 0)?]);
            }
        }
        Some([
            at_or_after(self.hours, hour.saturating_add(1))?,
            at_or_after(self.minutes, 0)?,
            at_or_after(self.seconds, 0)?,
        ])
    }

    /// The first second after `now` that it matches.
    pub(super) fn next_after(&self, now: i64) -> Option<i64> {
        let from = now.saturating_add(1);
        let of_day = u32::try_from(from.rem_euclid(86_400)).unwrap_or_default();
        let today = from.saturating_sub(of_day.into());
        let found = self.in_day(of_day / 3600, of_day / 60 % 60, of_day % 60);
        let (day, [hour, minute, second]) = match found {
            Some(time) => (today, time),
            None => (today.saturating_add(86_400), self.in_day(0, 0, 0)?),
        };
        let of_day = hour
            .saturating_mul(3600)
            .saturating_add(minute.saturating_mul(60))
            .saturating_add(second);
        Some(day.saturating_add(of_day.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BCD: Encoding = Encoding {
        binary: false,
        hours_24: true,
    };

    #[test]
    fn a_byte_that_is_no_time_never_matches() {
        assert_eq!(Alarm::new(BCD, 0x60, 0, 0).next_after(0), None);
        assert_eq!(Alarm::new(BCD, 0, 0x0a, 0).next_after(0), None);
        assert_eq!(Alarm::new(BCD, 0, 0, 0x24).next_after(0), None);
    }

    #[test]
    fn any_second_is_the_next_second() {
        assert_eq!(Alarm::new(BCD, 0xff, 0xc0, 0xc1).next_after(41), Some(42));
    }

    proptest! {
        /// Trying second after second is the specification.
        #[test]
        fn it_agrees_with_waiting(
            second in prop_oneof![0_u8..60, Just(0xc0)],
            minute in prop_oneof![0_u8..60, Just(0xc0)],
            hour in prop_oneof![0_u8..24, Just(0xc0)],
            now in -200_000_i64..200_000,
        ) {
            let binary = Encoding { binary: true, hours_24: true };
            let is = |register: u8, value: i64| register == 0xc0 || i64::from(register) == value;
            let waited = (now + 1..).find(|t| {
                let t = t.rem_euclid(86_400);
                is(second, t % 60) && is(minute, t / 60 % 60) && is(hour, t / 3600)
            });
            prop_assert_eq!(Alarm::new(binary, second, minute, hour).next_after(now), waited);
        }
    }
}
