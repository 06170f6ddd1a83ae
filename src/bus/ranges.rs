//! A map from address ranges to targets, small and looked up often.

/// Two ranges that claim one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{base:#x}..={last:#x} is taken")]
pub struct Overlap {
    /// First address of the range that was there before.
    pub base: u64,
    /// Last address of it.
    pub last: u64,
}

#[derive(Debug, Clone)]
struct Range<T> {
    base: u64,
    last: u64,
    target: T,
}

/// Non-overlapping ranges, sorted; binary search per look-up.
#[derive(Debug, Clone)]
pub struct RangeMap<T>(Vec<Range<T>>);

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy + PartialEq> RangeMap<T> {
    /// Adds `len` bytes from `base`.
    ///
    /// # Errors
    /// [`Overlap`] with the first range that is in the way. A range of no bytes, or one that passes
    /// the end of the address space, overlaps itself.
    pub fn insert(&mut self, base: u64, len: u64, target: T) -> Result<(), Overlap> {
        let Some(last) = len.checked_sub(1).and_then(|l| base.checked_add(l)) else {
            return Err(Overlap { base, last: base });
        };
        let at = self.0.partition_point(|r| r.last < base);
        if let Some(next) = self.0.get(at)
            && next.base <= last
        {
            return Err(Overlap {
                base: next.base,
                last: next.last,
            });
        }
        self.0.insert(at, Range { base, last, target });
        Ok(())
    }

    /// Removes every range of `target`.
    pub fn remove(&mut self, target: T) {
        self.0.retain(|r| r.target != target);
    }

    /// The target at `address`, the offset in its range, and how many bytes of the range follow.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<(T, u64, u64)> {
        let at = self.0.partition_point(|r| r.last < address);
        let range = self.0.get(at).filter(|r| r.base <= address)?;
        let offset = address.wrapping_sub(range.base);
        Some((
            range.target,
            offset,
            range.last.wrapping_sub(address).saturating_add(1),
        ))
    }

    /// All ranges as (base, last, target), lowest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, T)> + '_ {
        self.0.iter().map(|r| (r.base, r.last, r.target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_at_the_end_of_the_address_space_work() {
        let mut map = RangeMap::default();
        map.insert(u64::MAX, 1, 'z').unwrap();
        assert_eq!(map.find(u64::MAX), Some(('z', 0, 1)));
        assert!(map.insert(u64::MAX, 2, 'y').is_err());
        assert!(map.insert(5, 0, 'x').is_err());
    }

    proptest! {
        /// A linear scan is the specification.
        #[test]
        fn look_ups_agree_with_a_linear_scan(
            wanted in prop::collection::vec((0_u64..200, 1_u64..20), 0..30),
            address in 0_u64..240,
        ) {
            let mut map = RangeMap::default();
            let mut taken: Vec<(u64, u64, usize)> = Vec::new();
            for (id, (base, len)) in wanted.into_iter().enumerate() {
                let free = taken.iter().all(|&(b, l, _)| base + len <= b || base >= b + l);
                prop_assert_eq!(map.insert(base, len, id).is_ok(), free);
                if free {
                    taken.push((base, len, id));
                }
            }
            let expected = taken
                .iter()
                .find(|&&(b, l, _)| (b..b + l).contains(&address))
                .map(|&(b, l, id)| (id, address - b, b + l - address));
            prop_assert_eq!(map.find(address), expected);
        }
    }
}
