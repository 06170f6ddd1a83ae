//! The calendar of the RTC: seconds since 1970 to and from the fields its registers hold, and the
//! encodings register B chooses between.

/// Date and time as plain numbers. What a guest wrote may be out of range in any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) second: u8,
    pub(super) minute: u8,
    pub(super) hour: u8,
    /// 1 is Sunday.
    pub(super) weekday: u8,
    pub(super) day: u8,
    pub(super) month: u8,
    /// Within the century.
    pub(super) year: u8,
    pub(super) century: u8,
}

/// First second of the year 0 and of the year 10000: what four digits can show.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_300_799;
const DAY: i64 = 86_400;

/// The low byte of a number below 100.
fn byte(number: i64) -> u8 {
    u8::try_from(number.rem_euclid(100)).unwrap_or_default()
}

impl Fields {
    /// The fields that show `seconds` since 1970, in the proleptic Gregorian calendar.
    #[cfg_attr(
        not(test),
        expect(
            clippy::arithmetic_side_effects,
            reason = "seconds are clamped to the years 0 to 9999, far from any overflow"
        )
    )]
    pub(super) fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(FIRST, LAST);
        let (days, second_of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Years that begin in March put the leap day last; 400 of them are 146097 days.
        let days_from_march_0 = days + 719_468;
        let era = days_from_march_0.div_euclid(146_097);
        let day_of_era = days_from_march_0.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        Self {
            second: byte(second_of_day % 60),
            minute: byte(second_of_day / 60 % 60),
            hour: byte(second_of_day / 3600),
            // 1970 began on a Thursday.
            weekday: byte((days + 4).rem_euclid(7) + 1),
            day: byte(day_of_year - (153 * month_from_march + 2) / 5 + 1),
            month: byte(month),
            year: byte(year),
            century: byte(year / 100),
        }
    }

    /// The second the fields name. A field out of range carries over: the 31st of April is the 1st
    /// of May. The weekday has no say.
    #[cfg_attr(
        not(test),
        expect(
            clippy::arithmetic_side_effects,
            reason = "every field is a byte: no sum comes near an overflow"
        )
    )]
    pub(super) fn to_unix(self) -> i64 {
        let months = i64::from(self.month) - 1;
        let year = i64::from(self.century) * 100 + i64::from(self.year) + months.div_euclid(12);
        let month = months.rem_euclid(12);
        let year_from_march = year - i64::from(month < 2);
        let era = year_from_march.div_euclid(400);
        let year_of_era = year_from_march.rem_euclid(400);
        let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let second_of_day =
            i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        (days * DAY + second_of_day).clamp(FIRST, LAST)
    }
}

/// How registers hold numbers: DM and 24/12 of register B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Encoding {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

/// The bit of an hour that says it is after noon, on a 12-hour clock.
const PM: u8 = 0x80;

impl Encoding {
    pub(super) const fn number(self, number: u8) -> u8 {
        if self.binary {
            number
        } else {
            ((number / 10 % 10) << 4) | (number % 10)
        }
    }

    /// A digit above nine counts as it stands.
    pub(super) const fn read_number(self, register: u8) -> u8 {
        if self.binary {
            register
        } else {
            (register >> 4)
                .saturating_mul(10)
                .saturating_add(register & 0x0f)
        }
    }

    pub(super) const fn hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.number(hour);
        }
        let of_12 = match hour % 12 {
            0 => 12,
            hour => hour,
        };
        self.number(of_12) | if hour >= 12 { PM } else { 0 }
    }

    pub(super) const fn read_hour(self, register: u8) -> u8 {
        if self.hours_24 {
            return self.read_number(register);
        }
        let morning = self.read_number(register & !PM) % 12;
        if register & PM == 0 {
            morning
        } else {
            morning.saturating_add(12)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(year: i64, month: u8, day: u8, weekday: u8) -> Fields {
        Fields {
            second: 59,
            minute: 58,
            hour: 23,
            weekday,
            day,
            month,
            year: byte(year),
            century: byte(year / 100),
        }
    }

    /// Reference values of `date -u +%s`.
    #[test]
    fn known_dates_are_right() {
        for (fields, seconds) in [
            (date(1970, 1, 1, 5), 86_339),
            (date(1999, 12, 31, 6), 946_684_739),
            (date(2000, 2, 29, 3), 951_868_739),
            (date(2026, 1, 2, 6), 1_767_398_339),
            (date(2100, 2, 28, 1), 4_107_542_339),
            (date(1900, 3, 1, 5), -2_203_804_861),
        ] {
            assert_eq!(Fields::from_unix(seconds), fields, "{seconds}");
            assert_eq!(fields.to_unix(), seconds, "{fields:?}");
        }
    }

    #[test]
    fn a_day_that_is_not_carries_over() {
        let april_31 = date(2026, 4, 31, 1).to_unix();
        assert_eq!(
            Fields::from_unix(april_31),
            Fields {
                weekday: 6,
                ..date(2026, 5, 1, 1)
            }
        );
    }

    #[test]
    fn midnight_and_noon_are_12_on_a_12_hour_clock() {
        let clock = Encoding {
            binary: false,
            hours_24: false,
        };
        for (hour, register) in [(0, 0x12), (1, 0x01), (12, 0x92), (23, 0x91)] {
            assert_eq!(clock.hour(hour), register);
            assert_eq!(clock.read_hour(register), hour);
        }
    }

    proptest! {
        #[test]
        fn every_second_of_ten_millennia_comes_back(seconds in FIRST..=LAST) {
            let fields = Fields::from_unix(seconds);
            prop_assert_eq!(fields.to_unix(), seconds);
            prop_assert!((1..=12).contains(&fields.month) && (1..=31).contains(&fields.day));
        }

        #[test]
        fn nonsense_names_some_second(bytes: [u8; 8]) {
            let [second, minute, hour, weekday, day, month, year, century] = bytes;
            let fields = Fields { second, minute, hour, weekday, day, month, year, century };
            prop_assert!((FIRST..=LAST).contains(&fields.to_unix()));
        }

        #[test]
        fn encodings_come_back(binary: bool, hours_24: bool, hour in 0_u8..24, number in 0_u8..100) {
            let encoding = Encoding { binary, hours_24 };
            prop_assert_eq!(encoding.read_hour(encoding.hour(hour)), hour);
            prop_assert_eq!(encoding.read_number(encoding.number(number)), number);
        }
    }
}
