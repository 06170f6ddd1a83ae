//! Takes a page out of every page table without touching what it holds.
#![expect(
    unsafe_code,
    reason = "madvise(2) takes an address; vm-memory has no call for it"
)]

use rustix::mm::{Advice, madvise};
use vm_memory::{GuestAddress, GuestMemoryBackend};

use super::ram::{Gpa, GuestRam, MemError};

impl GuestRam {
    /// Unmaps the backing page that holds `at`: KVM's tables lose it with ours (by its MMU notifier), and
    /// the next access of the guest faults it in again, with its bytes as they were.
    ///
    /// # Errors
    /// [`MemError::NotRam`], or [`MemError::Zap`] when the host refuses.
    pub fn zap(&self, at: Gpa) -> Result<(), MemError> {
        let page = self.backing.bytes();
        let start = at.0 / page * page;
        let not_ram = || MemError::NotRam { at, len: 1 };
        if !self.contains(at, 1) {
            return Err(not_ram());
        }
        let host = self.memory.get_host_address(GuestAddress(start));
        let host = host.map_err(|_| not_ram())?;
        let len = usize::try_from(page).map_err(|_| not_ram())?;
        // SAFETY: regions are whole backing pages, so `host..host + len` is a part of one of our own
        // mappings. It is shared and of a memfd, where MADV_DONTNEED drops page table entries and
        // nothing else: whoever touches the page meanwhile, any thread of ours included, finds the same
        // bytes in the memfd.
        let done = unsafe { madvise(host.cast(), len, Advice::LinuxDontNeed) };
        done.map_err(|error| MemError::Zap {
            at,
            source: error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::HugePages;

    #[test]
    fn a_zapped_page_keeps_its_bytes() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        ram.write(Gpa(0x1ffe), &[1, 2, 3, 4]).unwrap();
        for at in [0x1000, 0x1fff, 0x2abc] {
            ram.zap(Gpa(at)).unwrap();
        }
        let mut bytes = [0; 4];
        ram.read(Gpa(0x1ffe), &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4]);
    }

    #[test]
    fn what_is_not_ram_cannot_be_zapped() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        for at in [2 << 20, 0xff00_0000, u64::MAX] {
            let error = ram.zap(Gpa(at)).unwrap_err();
            assert!(matches!(error, MemError::NotRam { .. }), "{error}");
        }
    }
}
