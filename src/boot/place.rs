//! Where things lie in guest memory.

use crate::mem::Gpa;

/// A half-open run of guest physical addresses that does not wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
}

impl Span {
    /// `len` bytes from `start`; none when that wraps.
    #[must_use]
    pub const fn new(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether the two share an address.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether `address` lies in it.
    #[must_use]
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

/// Bytes that the long-mode page tables take: PML4, PDPT and four page directories.
pub(super) const PAGE_TABLES_LEN: u64 = 6 * 4096;
/// Longest command line, with its NUL, that [`Places::cmdline`] has room for.
pub(super) const CMDLINE_ROOM: u64 = 0x1_0000;

/// Where the structures that a boot protocol hands over lie. All are below 640 KiB: a kernel finds
/// RAM there on every machine, copies what it needs and takes the rest back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// The GDT: one page.
    pub gdt: Gpa,
    /// `hvm_start_info`, the module list and the memory map: one page.
    pub start_info: Gpa,
    /// `boot_params`, the zero page: one page.
    pub boot_params: Gpa,
    /// PML4, PDPT and four page directories: six pages, page aligned.
    pub page_tables: Gpa,
    /// The command line: 64 KiB.
    pub cmdline: Gpa,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            gdt: Gpa(0x1000),
            start_info: Gpa(0x6000),
            boot_params: Gpa(0x7000),
            page_tables: Gpa(0x9000),
            cmdline: Gpa(0x2_0000),
        }
    }
}

impl Places {
    /// Each structure's name and extent.
    pub(super) fn spans(&self) -> impl Iterator<Item = (&'static str, Span)> {
        [
            ("GDT", self.gdt, 4096),
            ("hvm_start_info", self.start_info, 4096),
            ("boot_params", self.boot_params, 4096),
            ("page tables", self.page_tables, PAGE_TABLES_LEN),
            ("command line", self.cmdline, CMDLINE_ROOM),
        ]
        .into_iter()
        .filter_map(|(name, at, len)| Some((name, Span::new(at.0, len)?)))
    }
}

/// The highest page-aligned place for `len` bytes that ends at or below `limit` and touches none of
/// `taken`.
pub(super) fn highest_gap(limit: u64, len: u64, taken: &[Span]) -> Option<u64> {
    let mut top = limit;
    loop {
        let start = top.checked_sub(len)? & !0xfff;
        let wanted = Span::new(start, len)?;
        match taken.iter().find(|t| t.overlaps(wanted)) {
            // Each round ends lower than the last, so this ends.
            Some(blocker) => top = blocker.start,
            None => return Some(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn default_places_lie_below_640k_and_apart() {
        let spans: Vec<_> = Places::default().spans().collect();
        assert_eq!(spans.len(), 5);
        for (i, (name, span)) in spans.iter().enumerate() {
            assert!(span.end <= 0xa_0000, "{name}");
            for (other, later) in &spans[i + 1..] {
                assert!(!span.overlaps(*later), "{name} and {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_gap_is_free_aligned_and_below_the_limit(
            limit in 0_u64..0x10_0000, len in 1_u64..0x8000,
            taken in proptest::collection::vec((0_u64..0x10_0000, 1_u64..0x4000), 0..12),
        ) {
            let taken: Vec<_> =
                taken.into_iter().filter_map(|(start, len)| Span::new(start, len)).collect();
            let free = |start: u64| {
                Span::new(start, len).is_some_and(|s| s.end <= limit && !taken.iter().any(|t| t.overlaps(s)))
            };
            let best = (0..limit).step_by(4096).filter(|&start| free(start)).max();
            prop_assert_eq!(highest_gap(limit, len, &taken), best);
        }
    }
}
