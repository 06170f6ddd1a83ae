//! Pages on their way back to the host, and who keeps them from going.
//!
//! A page that a device of the host reads or writes by its physical address must stay where it is:
//! punched out of the memfd, the guest would get another one and the two would no longer meet. Such a
//! holder takes a [`RamPin`]; while there is one, nothing is given back.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::ram::{Gpa, GuestRam, MemError};

/// Zeros written at once where pages cannot be dropped.
const ZEROS: usize = 64 << 10;

/// Who pins pages, by the order of asking. Its lock is held while a hole is punched: a pin taken
/// meanwhile would be told of pages that are about to go.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<u64, String>>);

impl Pins {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps every page of guest RAM where it is, until it is dropped.
#[derive(Debug)]
pub struct RamPin {
    pins: Arc<Pins>,
    id: u64,
}

impl Drop for RamPin {
    fn drop(&mut self) {
        self.pins.lock().remove(&self.id);
    }
}

fn holders(pins: &BTreeMap<u64, String>) -> Option<String> {
    let names: Vec<&str> = pins.values().map(String::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

impl GuestRam {
    /// Pins all of it for `who`, whom refusals name. Pages given back before are fetched anew when
    /// they are touched, so the holder pins after this returns and sees what the guest sees.
    #[must_use]
    pub fn pin(&self, who: impl Into<String>) -> RamPin {
        let mut pins = self.pins.lock();
        let id = pins.last_key_value().map_or(0, |(last, _)| last + 1);
        pins.insert(id, who.into());
        RamPin {
            pins: Arc::clone(&self.pins),
            id,
        }
    }

    /// Who pins it, with commas; none when nobody does.
    #[must_use]
    pub fn pinned_by(&self) -> Option<String> {
        holders(&self.pins.lock())
    }

    /// Gives `len` bytes from `at` back to the host: they read as zero from now on, and cost nothing
    /// until they are touched. Of backing pages that lie only partly in the range nothing goes; the
    /// number of bytes that went is returned. Huge pages go whole or not at all.
    ///
    /// # Errors
    /// [`MemError::NotRam`] when not all of the range is RAM, [`MemError::Pinned`], or
    /// [`MemError::Discard`] when the host refuses; nothing is given back then.
    pub fn discard(&self, at: Gpa, len: u64) -> Result<u64, MemError> {
        let not_ram = || MemError::NotRam {
            at,
            len: usize::try_from(len).unwrap_or(usize::MAX),
        };
        if len == 0 || !self.contains(at, len) {
            return Err(not_ram());
        }
        let region = self.memory.find_region(GuestAddress(at.0));
        let region = region.ok_or_else(not_ram)?;
        let page = self.backing.bytes();
        // `contains` holds: neither end passes the end of the region.
        let start = (at.0 - region.start_addr().0).next_multiple_of(page);
        let end = (at.0 - region.start_addr().0 + len) / page * page;
        let Some(len) = end.checked_sub(start).filter(|len| *len > 0) else {
            return Ok(0);
        };
        let offset = region.file_offset().ok_or_else(not_ram)?.start() + start;
        let pins = self.pins.lock();
        if let Some(by) = holders(&pins) {
            return Err(MemError::Pinned { by });
        }
        self.punch(offset, len)
            .map_err(|source| MemError::Discard { at, len, source })?;
        // What the pages held is gone: to whoever follows the guest's memory this is a write.
        if let (Ok(start), Ok(len)) = (usize::try_from(start), usize::try_from(len)) {
            region.bitmap().mark_dirty(start, len);
        }
        Ok(len)
    }

    /// Makes all of it zero, and gives its pages back to the host unless they are pinned.
    ///
    /// # Errors
    /// [`MemError::Clear`] when the host refuses.
    pub fn clear(&self) -> Result<(), MemError> {
        let pins = self.pins.lock();
        if pins.is_empty() {
            let cleared = self.punch(0, self.size());
            return cleared.map_err(|source| MemError::Clear { source });
        }
        let zeros = [0; ZEROS];
        for region in self.regions() {
            let mut at = region.base;
            while at < region.base + region.len {
                let left = region.base + region.len - at;
                let chunk = usize::try_from(left).unwrap_or(ZEROS).min(ZEROS);
                self.write(Gpa(at), zeros.get(..chunk).unwrap_or_default())?;
                at += chunk as u64;
            }
        }
        Ok(())
    }

    /// Bytes of the host's memory that hold it now, whoever touched them.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn held(&self) -> io::Result<u64> {
        // fstat(2): blocks of 512 bytes whatever the filesystem's own.
        Ok(self.memfd.metadata()?.blocks().saturating_mul(512))
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&*self.memfd, flags, offset, len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{HOLE_END, HOLE_START, HugePages, PAGE_SIZE};

    fn full(size: u64) -> GuestRam {
        let ram = GuestRam::new(size, HugePages::None).unwrap();
        for page in 0..size / PAGE_SIZE {
            ram.write(Gpa(page * PAGE_SIZE), &[0xa5; 8]).unwrap();
        }
        ram
    }

    fn byte(ram: &GuestRam, at: u64) -> u8 {
        let mut byte = [0];
        ram.read(Gpa(at), &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn a_discarded_page_reads_as_zero_and_the_host_has_it_back() {
        let ram = full(2 << 20);
        let before = ram.held().unwrap();
        assert_eq!(before, 2 << 20);
        assert_eq!(ram.discard(Gpa(0x3000), 0x2000).unwrap(), 0x2000);
        assert_eq!(ram.held().unwrap(), before - 0x2000);
        assert_eq!(
            [0x2000, 0x3000, 0x4000, 0x5000].map(|at| byte(&ram, at)),
            [0xa5, 0, 0, 0xa5]
        );
    }

    #[test]
    fn pages_only_partly_in_the_range_stay() {
        let ram = full(2 << 20);
        assert_eq!(ram.discard(Gpa(0x3001), 0x1fff).unwrap(), 0x1000);
        assert_eq!(
            [0x3000, 0x4000, 0x5000].map(|at| byte(&ram, at)),
            [0xa5, 0, 0xa5]
        );
        assert_eq!(ram.discard(Gpa(0x6001), 0x1ffe).unwrap(), 0);
        assert_eq!([0x6000, 0x7000].map(|at| byte(&ram, at)), [0xa5, 0xa5]);
    }

    #[test]
    fn what_is_not_all_ram_is_refused_and_stays() {
        let ram = full(2 << 20);
        for (at, len) in [
            (0x1f_f000, 0x2000),
            (2 << 20, 0x1000),
            (0, 0),
            (0, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX - 0xfff, 0x1000),
        ] {
            let refused = ram.discard(Gpa(at), len);
            assert!(
                matches!(refused, Err(MemError::NotRam { .. })),
                "{at:#x} {len:#x}"
            );
        }
        assert_eq!(ram.held().unwrap(), 2 << 20);
    }

    #[test]
    fn memory_above_the_hole_is_found_in_the_file() {
        let ram = GuestRam::new(HOLE_START + (1 << 20), HugePages::None).unwrap();
        ram.write(Gpa(HOLE_END), &[1]).unwrap();
        ram.write(Gpa(HOLE_START - 0x1000), &[2]).unwrap();
        assert_eq!(ram.discard(Gpa(HOLE_END), 0x1000).unwrap(), 0x1000);
        assert_eq!(byte(&ram, HOLE_START - 0x1000), 2);
        assert_eq!(byte(&ram, HOLE_END), 0);
        assert!(ram.discard(Gpa(HOLE_START - 0x1000), 0x2000).is_err());
    }

    #[test]
    fn a_discarded_page_is_a_dirty_one() {
        let ram = full(2 << 20);
        ram.clear_dirty();
        ram.discard(Gpa(0x3000), 0x1000).unwrap();
        assert!(ram.is_dirty(Gpa(0x3000)) && !ram.is_dirty(Gpa(0x4000)));
    }

    #[test]
    fn while_it_is_pinned_nothing_is_given_back_and_the_holder_is_named() {
        let ram = full(2 << 20);
        let one = ram.pin("vfio 0000:00:03.0");
        let other = ram.pin("vfio 0000:01:00.0");
        let refused = ram.discard(Gpa(0), 0x1000).unwrap_err().to_string();
        assert!(
            refused.contains("vfio 0000:00:03.0, vfio 0000:01:00.0"),
            "{refused}"
        );
        drop(one);
        assert_eq!(ram.pinned_by().unwrap(), "vfio 0000:01:00.0");
        assert_eq!(byte(&ram, 0), 0xa5);
        ram.clear().unwrap();
        assert_eq!((byte(&ram, 0), byte(&ram, 0x1f_f000)), (0, 0));
        assert_eq!(ram.held().unwrap(), 2 << 20, "cleared in place");
        drop(other);
        assert_eq!(ram.discard(Gpa(0), 0x1000).unwrap(), 0x1000);
        ram.clear().unwrap();
        assert_eq!(ram.held().unwrap(), 0);
    }

    #[test]
    fn huge_pages_go_whole_or_not_at_all() {
        // Only the arithmetic: a pool of huge pages is not everywhere.
        let mut ram = full(4 << 20);
        ram.backing = HugePages::Mib2;
        assert_eq!(ram.discard(Gpa(0x1000), 0x1f_f000).unwrap(), 0);
        assert_eq!(ram.discard(Gpa(0x1000), 0x3f_f000).unwrap(), 2 << 20);
        assert_eq!((byte(&ram, 0x1000), byte(&ram, 2 << 20)), (0xa5, 0));
    }
}
