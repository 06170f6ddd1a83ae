//! What the guest says of its memory (VIRTIO 1.2, 5.5.6.3).

use std::collections::BTreeMap;

use serde::Serialize;

/// Names by tag; bytes where the second is set, else events. The last four are Linux's.
const TAGS: [(&str, bool); 16] = [
    ("swap_in", true),
    ("swap_out", true),
    ("major_faults", false),
    ("minor_faults", false),
    ("free", true),
    ("total", true),
    ("available", true),
    ("caches", true),
    ("hugetlb_allocations", false),
    ("hugetlb_failures", false),
    ("oom_kills", false),
    ("allocation_stalls", false),
    ("async_scan", true),
    ("direct_scan", true),
    ("async_reclaim", true),
    ("direct_reclaim", true),
];
/// A 16-bit tag and a 64-bit value, packed.
const RECORD: usize = 10;
/// The longest buffer that makes sense.
pub(super) const LEN: usize = RECORD * TAGS.len();

/// A guest's figures by name: those it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Statistics(pub BTreeMap<&'static str, u64>);

impl Statistics {
    /// Those of a buffer. Tags that nobody knows are passed over.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let record = |bytes: &[u8]| {
            let (tag, value) = bytes.split_first_chunk::<2>()?;
            let value = u64::from_le_bytes(*value.first_chunk()?);
            let tag = usize::from(u16::from_le_bytes(*tag));
            TAGS.get(tag).map(|(name, _)| (*name, value))
        };
        Self(bytes.chunks_exact(RECORD).filter_map(record).collect())
    }

    /// Whether a figure of that name is in bytes.
    #[must_use]
    pub fn is_bytes(name: &str) -> bool {
        TAGS.contains(&(name, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_tags_get_their_names_and_the_rest_is_passed_over() {
        let mut bytes = Vec::new();
        for (tag, value) in [(5_u16, 256_u64 << 20), (4, 100), (0x1234, 7)] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([6, 0, 1]);
        let expected = [("free", 100), ("total", 256 << 20)];
        assert_eq!(Statistics::of(&bytes).0, BTreeMap::from(expected));
        assert!(Statistics::is_bytes("free") && !Statistics::is_bytes("oom_kills"));
    }
}
