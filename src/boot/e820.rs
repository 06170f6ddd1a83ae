//! The memory map handed to the kernel.

use crate::mem::RamRegion;

use super::place::Span;

/// The hole below 1 MiB of every PC: video memory, option ROMs, BIOS. The ACPI tables lie in it.
pub(super) const LEGACY_HOLE: Span = Span {
    start: 0xa_0000,
    end: 0x10_0000,
};
/// `E820_MAX_ENTRIES_ZEROPAGE`: how many entries `boot_params` holds.
pub(super) const MAX_ENTRIES: usize = 128;

/// RAM, as E820 and the PVH memory map number it.
pub(super) const RAM: u32 = 1;
/// Neither RAM nor free for devices.
pub(super) const RESERVED: u32 = 2;

/// One entry of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) span: Span,
    pub(super) kind: u32,
}

/// RAM without the hole below 1 MiB and without `reserved`, then the hole and `reserved`, in order
/// of address. None when `boot_params` cannot hold it.
pub(super) fn map(regions: &[RamRegion], reserved: &[Span]) -> Option<Vec<Entry>> {
    let held: Vec<Span> = reserved
        .iter()
        .copied()
        .chain([LEGACY_HOLE])
        .filter(|s| !s.is_empty())
        .collect();
    let mut ram: Vec<Span> = regions
        .iter()
        .filter_map(|region| Span::new(region.base, region.len))
        .collect();
    for hole in &held {
        ram = ram.into_iter().flat_map(|span| cut(span, *hole)).collect();
    }
    let mut entries: Vec<Entry> = held
        .into_iter()
        .map(|span| Entry {
            span,
            kind: RESERVED,
        })
        .chain(ram.into_iter().map(|span| Entry { span, kind: RAM }))
        .collect();
    entries.sort_by_key(|entry| entry.span.start);
    (entries.len() <= MAX_ENTRIES).then_some(entries)
}

/// What is left of `span` without `hole`.
fn cut(span: Span, hole: Span) -> impl Iterator<Item = Span> {
    let below = Span {
        start: span.start,
        end: span.end.min(hole.start),
    };
    let above = Span {
        start: span.start.max(hole.end),
        end: span.end,
    };
    [below, above].into_iter().filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::split_around_hole;

    fn of_kind(entries: &[Entry], kind: u32) -> Vec<(u64, u64)> {
        let kept = entries.iter().filter(|e| e.kind == kind);
        kept.map(|e| (e.span.start, e.span.end)).collect()
    }

    #[test]
    fn ram_leaves_out_the_hole_below_1_mib_and_the_one_below_4_gib() {
        let entries = map(&split_around_hole(6 << 30), &[]).unwrap();
        assert_eq!(
            of_kind(&entries, RAM),
            [
                (0, 0xa_0000),
                (0x10_0000, 0xc000_0000),
                (1 << 32, (1 << 32) + (3 << 30))
            ]
        );
        assert_eq!(of_kind(&entries, RESERVED), [(0xa_0000, 0x10_0000)]);
    }

    #[test]
    fn a_reserved_range_inside_ram_splits_it() {
        let span = Span {
            start: 0x200_0000,
            end: 0x201_0000,
        };
        let entries = map(&split_around_hole(64 << 20), &[span]).unwrap();
        assert_eq!(
            of_kind(&entries, RAM),
            [
                (0, 0xa_0000),
                (0x10_0000, 0x200_0000),
                (0x201_0000, 64 << 20)
            ]
        );
        assert!(entries.is_sorted_by_key(|e| e.span.start));
    }

    #[test]
    fn more_ranges_than_boot_params_holds_are_refused() {
        let range = |i: u64| Span {
            start: i << 20,
            end: (i << 20) + 4096,
        };
        let many: Vec<_> = (2..70).map(range).collect();
        assert_eq!(map(&split_around_hole(128 << 20), &many), None);
    }
}
