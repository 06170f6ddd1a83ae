//! Where RAM lies in the guest's physical address space.

/// First address of the hole that holds PCI windows, the IOAPIC, the local APIC and VT-d.
pub const HOLE_START: u64 = 0xc000_0000;
/// First address after it: 4 GiB.
pub const HOLE_END: u64 = 1 << 32;

/// A run of RAM and where it lies in the memfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RamRegion {
    /// First guest physical address.
    pub base: u64,
    /// Length in bytes.
    pub len: u64,
    /// Offset in the memfd.
    pub offset: u64,
}

/// Splits `size` bytes of RAM around the hole: up to 3 GiB below it, the rest from 4 GiB on.
#[must_use]
pub fn split_around_hole(size: u64) -> Vec<RamRegion> {
    let low = size.min(HOLE_START);
    let mut regions = vec![RamRegion {
        base: 0,
        len: low,
        offset: 0,
    }];
    if size > low {
        regions.push(RamRegion {
            base: HOLE_END,
            len: size - low,
            offset: low,
        });
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_memory_is_one_region() {
        assert_eq!(
            split_around_hole(128 << 20),
            [RamRegion {
                base: 0,
                len: 128 << 20,
                offset: 0
            }]
        );
    }

    #[test]
    fn memory_that_just_fits_leaves_nothing_above_the_hole() {
        assert_eq!(split_around_hole(HOLE_START).len(), 1);
        assert_eq!(
            split_around_hole(HOLE_START + 4096)[1],
            RamRegion {
                base: HOLE_END,
                len: 4096,
                offset: HOLE_START
            }
        );
    }

    proptest! {
        #[test]
        fn regions_add_up_and_never_touch_the_hole(pages in 1_u64..(1 << 28)) {
            let size = pages * 4096;
            let regions = split_around_hole(size);
            prop_assert_eq!(regions.iter().map(|r| r.len).sum::<u64>(), size);
            let mut offset = 0;
            for region in regions {
                prop_assert_eq!(region.offset, offset);
                offset += region.len;
                prop_assert!(region.base + region.len <= HOLE_START || region.base >= HOLE_END);
            }
        }
    }
}
