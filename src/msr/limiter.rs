//! A log that a guest cannot flood: so many lines at once, so many a second after, the rest counted.

/// Lines in a row.
const BURST: u64 = 64;
/// Lines a second after that.
const RATE: u64 = 32;
const NS_PER_LINE: u64 = 1_000_000_000 / RATE;

/// One vCPU's share of the log.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    /// When the lines said so far would have been said at the steady rate.
    paid_until: u64,
    /// Lines not said since the last that was.
    held: u64,
    /// All lines not said.
    total: u64,
}

impl Limiter {
    /// Whether a line may be said at `now`; and if so, how many before it were not.
    pub(super) fn may(&mut self, now: u64) -> Option<u64> {
        let start = self.paid_until.max(now.saturating_sub(BURST * NS_PER_LINE));
        let paid = start.saturating_add(NS_PER_LINE);
        if paid > now.saturating_add(NS_PER_LINE) && paid > BURST * NS_PER_LINE {
            self.held = self.held.saturating_add(1);
            self.total = self.total.saturating_add(1);
            return None;
        }
        self.paid_until = paid;
        Some(std::mem::take(&mut self.held))
    }

    pub(super) const fn unsaid(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_the_log_comes_back() {
        let mut limiter = Limiter::default();
        let second = 1_000_000_000;
        let said = (0..10_000)
            .filter(|_| limiter.may(10 * second).is_some())
            .count();
        assert_eq!(u64::try_from(said).unwrap(), BURST + 1);
        assert_eq!(limiter.unsaid(), 10_000 - BURST - 1);
        assert_eq!(limiter.may(11 * second), Some(10_000 - BURST - 1));
        let after = (0..10_000)
            .filter(|_| limiter.may(11 * second).is_some())
            .count();
        assert_eq!(u64::try_from(after).unwrap(), RATE - 1);
    }

    #[test]
    fn what_comes_slowly_is_all_said() {
        let mut limiter = Limiter::default();
        for n in 0..1000 {
            assert_eq!(limiter.may(n * NS_PER_LINE), Some(0));
        }
    }
}
