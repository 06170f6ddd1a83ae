//! Asks for the host's large pages.
#![expect(
    unsafe_code,
    reason = "madvise(2) takes addresses; this one changes what backs a mapping, not what it holds"
)]

use rustix::mm::{Advice, madvise};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestRegionMmap, MmapRegion};

/// Backs `region` with transparent huge pages where the host gives them to shared memory that asks
/// (`/sys/kernel/mm/transparent_hugepage/shmem_enabled` is `advise` or more). KVM then faults 2 MiB
/// at a time and walks nested tables one level less: a booting Linux touches some 25,000 pages.
pub(super) fn large_pages(region: &GuestRegionMmap<AtomicBitmap>) {
    let mapping: &MmapRegion<AtomicBitmap> = region;
    // SAFETY: the range is this mapping's own, and the advice leaves its bytes as they are. A host
    // that has no such pages refuses, which loses nothing.
    let _ = unsafe {
        madvise(
            mapping.as_ptr().cast(),
            mapping.size(),
            Advice::LinuxHugepage,
        )
    };
}
