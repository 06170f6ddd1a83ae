//! The bus master's table of physical region descriptors, walked as it is needed.
//!
//! A walk ends: an entry is at least two bytes of a transfer, and a table does not leave its 64 KiB.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::dma::{Dma, DmaError, Iova};

/// Bytes of an entry: address, count, flags.
const ENTRY: u32 = 8;
/// A table must not cross such a boundary.
const TABLE_SPAN: u32 = 0x1_0000;
/// Flags: the last entry.
const EOT: u16 = 1 << 15;
/// The engine has 32 address bits.
const REACH: u64 = 1 << 32;

/// Why the bus master stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The guest told it to, or reset the drive.
    Revoked,
    /// Memory could not be reached; whoever blocked it has recorded why.
    Bus,
}

impl From<DmaError> for Stop {
    fn from(_: DmaError) -> Self {
        Self::Bus
    }
}

/// Which request may touch memory. When a vCPU has revoked it, no copy is in flight and none begins.
///
/// Held over a copy, so an IOMMU's lock is taken under it; whoever revokes holds nothing below the
/// device.
#[derive(Debug, Default)]
pub(super) struct Permit(Mutex<Option<u64>>);

impl Permit {
    fn lock(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn grant(&self, request: u64) {
        *self.lock() = Some(request);
    }

    pub(super) fn revoke(&self) {
        *self.lock() = None;
    }
}

/// Memory, as long as a request may touch it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory<'a> {
    pub(super) dma: &'a Dma,
    pub(super) permit: &'a Permit,
    pub(super) request: u64,
}

impl Memory<'_> {
    fn with(&self, copy: impl FnOnce(&Dma) -> Result<(), DmaError>) -> Result<(), Stop> {
        let permit = self.permit.lock();
        if *permit != Some(self.request) {
            return Err(Stop::Revoked);
        }
        Ok(copy(self.dma)?)
    }
}

/// A table while it is being walked.
#[derive(Debug)]
pub(super) struct Prds<'a> {
    memory: Memory<'a>,
    /// The next entry.
    next: Option<u32>,
    /// The rest of the current one.
    at: u64,
    left: u32,
}

impl<'a> Prds<'a> {
    pub(super) const fn new(memory: Memory<'a>, table: u32) -> Self {
        Self {
            memory,
            next: Some(table & !3),
            at: 0,
            left: 0,
        }
    }

    /// Whether the table is used up to its end.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.left == 0 && self.next.is_none()
    }

    fn fetch(&mut self, entry: u32) -> Result<(), Stop> {
        let mut bytes = [0; ENTRY as usize];
        let place = Iova(entry.into());
        self.memory.with(|dma| dma.read(place, &mut bytes))?;
        let [a0, a1, a2, a3, c0, c1, f0, f1] = bytes;
        // Bit 0 of address and count is not there; no count is the most.
        self.at = u64::from(u32::from_le_bytes([a0, a1, a2, a3]) & !1);
        self.left = match u16::from_le_bytes([c0, c1]) & !1 {
            0 => 0x1_0000,
            count => count.into(),
        };
        let after = entry.wrapping_add(ENTRY);
        let last = u16::from_le_bytes([f0, f1]) & EOT != 0;
        // An entry that begins before the boundary may end behind it: the table is 4-aligned.
        let leaves = after.wrapping_div(TABLE_SPAN) != entry.wrapping_div(TABLE_SPAN);
        self.next = (!last && !leaves).then_some(after);
        Ok(())
    }

    /// The next piece of memory, at most `most` bytes; none when the table is used up.
    fn piece(&mut self, most: usize) -> Result<Option<(Iova, usize)>, Stop> {
        if self.left == 0 {
            let Some(entry) = self.next else {
                return Ok(None);
            };
            self.fetch(entry)?;
        }
        let room = REACH.saturating_sub(self.at).min(self.left.into());
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(most);
        let piece = (Iova(self.at), len);
        let step = u32::try_from(len).unwrap_or(u32::MAX);
        self.left = self.left.saturating_sub(step);
        self.at = self.at.wrapping_add(step.into()) & REACH.wrapping_sub(1);
        Ok(Some(piece))
    }

    /// Writes `bytes` to memory; how many there was room for.
    pub(super) fn scatter(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((place, len)) = self.piece(rest.len())? else {
                break;
            };
            let (head, tail) = rest.split_at_checked(len).unwrap_or_default();
            self.memory.with(|dma| dma.write(place, head))?;
            rest = tail;
        }
        Ok(bytes.len().saturating_sub(rest.len()))
    }

    /// Fills `bytes` from memory; how many there were.
    pub(super) fn gather(&mut self, bytes: &mut [u8]) -> Result<usize, Stop> {
        let whole = bytes.len();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((place, len)) = self.piece(rest.len())? else {
                break;
            };
            let (head, tail) = rest.split_at_mut_checked(len).unwrap_or_default();
            self.memory.with(|dma| dma.read(place, head))?;
            rest = tail;
        }
        Ok(whole.saturating_sub(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{Gpa, GuestRam, HugePages};

    fn walk(entries: &[(u32, u16, u16)], table: u32, want: usize) -> (Vec<(u64, usize)>, bool) {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let mut at = u64::from(table);
        for (address, count, flags) in entries {
            let low = u64::from(*address);
            let high = u64::from(*count) | u64::from(*flags) << 16;
            ram.write(Gpa(at), &(high << 32 | low).to_le_bytes())
                .unwrap();
            at += 8;
        }
        let (dma, permit) = (Dma::platform(ram), Permit::default());
        permit.grant(1);
        let memory = Memory {
            dma: &dma,
            permit: &permit,
            request: 1,
        };
        let mut prds = Prds::new(memory, table);
        let (mut pieces, mut left) = (Vec::new(), want);
        while left > 0 {
            let Ok(Some((place, len))) = prds.piece(left) else {
                break;
            };
            pieces.push((place.0, len));
            left -= len;
        }
        (pieces, prds.is_exhausted())
    }

    #[test]
    fn a_table_is_walked_to_its_end_mark() {
        let table = [(0x1000, 512, 0), (0x3000, 512, EOT), (0x5000, 512, EOT)];
        assert_eq!(
            walk(&table, 0x100, 4096),
            (vec![(0x1000, 512), (0x3000, 512)], true)
        );
        assert_eq!(
            walk(&table, 0x100, 600),
            (vec![(0x1000, 512), (0x3000, 88)], false)
        );
    }

    #[test]
    fn no_count_is_64_kib_and_odd_ones_lose_a_byte() {
        let table = [(0x1001, 0, 0), (0x2_0000, 3, 0), (0x3_0000, 1, EOT)];
        assert_eq!(
            walk(&table, 0x100, 1 << 20).0,
            [(0x1000, 0x1_0000), (0x2_0000, 2), (0x3_0000, 0x1_0000)]
        );
    }

    #[test]
    fn a_table_without_an_end_ends_with_its_64_kib() {
        let table = vec![(0x1000, 2, 0); 9000];
        let (pieces, exhausted) = walk(&table, 0x1_0000, 1 << 20);
        assert_eq!((pieces.len(), exhausted), (8192, true));
        let (pieces, _) = walk(&table, 0x1_fffc, 1 << 20);
        assert_eq!(pieces.len(), 1, "across the boundary");
    }

    #[test]
    fn the_engine_wraps_at_4_gib() {
        let table = [(0xffff_fffe, 4, EOT)];
        assert_eq!(walk(&table, 0x100, 4).0, [(0xffff_fffe, 2), (0, 2)]);
    }

    #[test]
    fn a_table_outside_ram_stops_the_bus_master() {
        assert_eq!(walk(&[], 0xf000_0000, 512), (vec![], false));
    }
}
