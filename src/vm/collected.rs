//! Port writes that KVM collects in a ring instead of leaving the guest for each of them
//! (KVM_CAP_COALESCED_PIO): for registers whose writes nobody in the guest waits for.
//!
//! All vCPUs of a VM share one ring. Each drains it whenever it comes out of the guest, before it looks
//! at its own exit, so that devices see every write in the order the guest made it. What a guest writes
//! last before it goes on without an exit waits for the next one; [`Ring::is_empty`] tells whether
//! somebody has to be kicked.
#![expect(
    unsafe_code,
    reason = "the ring is a page shared with the kernel, and kvm-ioctls reads it only between exits"
)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio, kvm_coalesced_mmio_ring};
use kvm_ioctls::VcpuFd;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::bus::{BusPort, Width};
use crate::trace::{Probe, Space};

use super::vcpu::number_of;

/// x86 has no other.
const PAGE: usize = 4096;
/// KVM_COALESCED_MMIO_MAX of linux/kvm_host.h: what fits into the page.
const ENTRIES: u32 = 170;
const _: () = assert!(
    ENTRIES as usize
        == (PAGE - size_of::<kvm_coalesced_mmio_ring>()) / size_of::<kvm_coalesced_mmio>()
);

/// The ring of one VM.
#[derive(Debug)]
pub struct Ring {
    page: NonNull<kvm_coalesced_mmio_ring>,
    /// Held by whoever takes entries out, until the devices have them: order is the point.
    drain: Mutex<()>,
}

// SAFETY: the page is memory shared with the kernel, mapped until the ring is dropped; the indices are
// only accessed as atomics, and entries only while `drain` is held.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// The ring of the VM that `vcpu` belongs to.
    pub(super) fn of(vcpu: &VcpuFd) -> rustix::io::Result<Self> {
        let offset = u64::from(KVM_COALESCED_MMIO_PAGE_OFFSET) * PAGE as u64;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the descriptor is open as long as `vcpu` is borrowed; the mapping is a new one at an
        // address of the kernel's choice, and keeps the VM alive by itself.
        let page = unsafe {
            let fd = BorrowedFd::borrow_raw(vcpu.as_raw_fd());
            mmap(ptr::null_mut(), PAGE, prot, MapFlags::SHARED, fd, offset)
        }?;
        let page = NonNull::new(page.cast()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self {
            page,
            drain: Mutex::default(),
        })
    }

    /// Whether all writes have reached their devices.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first().load(Ordering::Relaxed) == self.last().load(Ordering::Acquire)
    }

    /// Gives the collected writes to their devices, oldest first, and how many there were.
    #[inline]
    pub(super) fn drain(&self, port: &BusPort, probe: &Probe) -> u64 {
        if self.is_empty() {
            return 0;
        }
        self.drain_all(port, probe)
    }

    #[cold]
    fn drain_all(&self, port: &BusPort, probe: &Probe) -> u64 {
        let _held = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0_u64;
        while let Some(write) = self.take() {
            let length = usize::try_from(write.len).unwrap_or(usize::MAX);
            let bytes = write.data.get(..length).unwrap_or_default();
            if let Some(width) = Width::of(bytes.len()) {
                let (at, value) = (write.phys_addr, number_of(bytes));
                port.bus
                    .write(Space::Pio, at, width, value, &*port.sink, probe);
            }
            count = count.saturating_add(1);
        }
        count
    }

    /// The oldest entry; `drain` is held.
    fn take(&self) -> Option<kvm_coalesced_mmio> {
        if self.is_empty() {
            return None;
        }
        // KVM writes `last` and reads `first`, both modulo the size: a number beyond it is not KVM's.
        let first = self.first().load(Ordering::Relaxed) % ENTRIES;
        let index = usize::try_from(first).ok()?;
        // SAFETY: the entries follow the two indices; `index` is within the page. KVM does not write
        // this entry before `first` has passed it. Every bit pattern is a valid entry.
        let write = unsafe {
            let entries: *const kvm_coalesced_mmio = self.page.as_ptr().add(1).cast();
            entries.add(index).read()
        };
        self.first().store((first + 1) % ENTRIES, Ordering::Release);
        Some(write)
    }

    fn first(&self) -> &AtomicU32 {
        // SAFETY: mapped as long as self, aligned, and accessed as an atomic on our side.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.page.as_ptr()).first) }
    }

    fn last(&self) -> &AtomicU32 {
        // SAFETY: as in `first`.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.page.as_ptr()).last) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and nothing of it is left.
        let _ = unsafe { munmap(self.page.as_ptr().cast(), PAGE) };
    }
}
