//! The memory itself.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags};
use vm_memory::bitmap::{AtomicBitmap, NewBitmap};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap,
};

use super::advise;
use super::discard::Pins;
use super::layout::{RamRegion, split_around_hole};

/// The guest's page, and the dirty bitmap's.
pub const PAGE_SIZE: u64 = 4096;

/// vm-memory's view of guest RAM, with the bitmap that host writes mark.
pub type GuestMemory = GuestMemoryMmap<AtomicBitmap>;

/// A guest physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpa(pub u64);

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Pages that back guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// The host's ordinary pages; it may still merge them by itself.
    #[default]
    None,
    /// 2 MiB pages from the host's reserved pool.
    Mib2,
    /// 1 GiB pages from the host's reserved pool.
    Gib1,
}

impl HugePages {
    /// Bytes in one page of this kind.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::None => PAGE_SIZE,
            Self::Mib2 => 2 << 20,
            Self::Gib1 => 1 << 30,
        }
    }
}

/// Guest RAM that could not be had, or an access outside it.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// No bytes at all.
    #[error("guest memory of 0 bytes; give at least 2M, for example --mem 256")]
    Zero,
    /// Not a whole number of pages.
    #[error("guest memory of {size:#x} bytes is not a multiple of {page:#x}; round --mem to it")]
    Unaligned {
        /// What was asked.
        size: u64,
        /// The page that backs it.
        page: u64,
    },
    /// More than this host has.
    #[error(
        "guest memory of {} MiB is more than this host has available ({} MiB); lower --mem",
        size >> 20, available >> 20
    )]
    TooMuch {
        /// What was asked.
        size: u64,
        /// What /proc/meminfo says can be had.
        available: u64,
    },
    /// memfd_create(2) refused.
    #[error("cannot create the memfd for {size:#x} bytes of guest memory")]
    Memfd {
        /// What was asked.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The memfd could not grow to the size.
    #[error(
        "cannot size guest memory to {size:#x} bytes{}",
        if *huge { "; reserve huge pages first: echo N > /proc/sys/vm/nr_hugepages" } else { "" }
    )]
    Size {
        /// What was asked.
        size: u64,
        /// Whether huge pages were asked for.
        huge: bool,
        /// Why.
        source: io::Error,
    },
    /// mmap(2) refused.
    #[error("cannot map guest memory at {}", Gpa(*base))]
    Map {
        /// First guest address of the region.
        base: u64,
        /// Why.
        source: MmapRegionError,
    },
    /// vm-memory refused the set of regions.
    #[error("cannot arrange guest memory regions: {reason}")]
    Arrange {
        /// Why.
        reason: String,
    },
    /// The host did not take the pages back.
    #[error("cannot clear guest memory: punching a hole into its memfd failed")]
    Clear {
        /// Why.
        source: io::Error,
    },
    /// The host did not take some pages back.
    #[error("cannot give {len:#x} bytes of guest memory at {at} back to the host")]
    Discard {
        /// First address.
        at: Gpa,
        /// Length in bytes.
        len: u64,
        /// Why.
        source: io::Error,
    },
    /// The host did not unmap a page.
    #[error("cannot unmap the page of guest memory at {at}")]
    Zap {
        /// An address in it.
        at: Gpa,
        /// Why.
        source: io::Error,
    },
    /// Pages that must stay where they are.
    #[error(
        "guest memory is pinned by {by}, so none of it can be given back to the host; run without that \
         device to shrink the guest"
    )]
    Pinned {
        /// By whom.
        by: String,
    },
    /// An access that is not wholly in RAM.
    #[error("{len} bytes at {at} are not guest RAM")]
    NotRam {
        /// First address.
        at: Gpa,
        /// Length in bytes.
        len: usize,
    },
}

/// Guest RAM. Cheap to clone; all clones are the same memory.
#[derive(Debug, Clone)]
pub struct GuestRam {
    pub(super) memory: GuestMemory,
    regions: Arc<[RamRegion]>,
    pub(super) memfd: Arc<File>,
    pub(super) backing: HugePages,
    pub(super) pins: Arc<Pins>,
}

impl GuestRam {
    /// RAM of `size` bytes laid out around the hole.
    ///
    /// # Errors
    /// [`MemError`] when the size is unusable or the host refuses it.
    pub fn new(size: u64, huge: HugePages) -> Result<Self, MemError> {
        if size == 0 {
            return Err(MemError::Zero);
        }
        if !size.is_multiple_of(huge.bytes()) {
            return Err(MemError::Unaligned {
                size,
                page: huge.bytes(),
            });
        }
        let flags = MemfdFlags::CLOEXEC
            | MemfdFlags::ALLOW_SEALING
            | match huge {
                HugePages::None => MemfdFlags::empty(),
                HugePages::Mib2 => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
                HugePages::Gib1 => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
            };
        let memfd: File = rustix::fs::memfd_create("trapline-ram", flags)
            .map_err(|e| MemError::Memfd {
                size,
                source: e.into(),
            })?
            .into();
        let sized = memfd.set_len(size);
        sized.map_err(|source| MemError::Size {
            size,
            huge: huge != HugePages::None,
            source,
        })?;
        // A memfd that shrinks under a mapping turns guest accesses into SIGBUS.
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::GROW).map_err(|e| {
            MemError::Memfd {
                size,
                source: e.into(),
            }
        })?;
        Self::map(memfd, split_around_hole(size), huge)
    }

    fn map(memfd: File, regions: Vec<RamRegion>, backing: HugePages) -> Result<Self, MemError> {
        let memfd = Arc::new(memfd);
        // Huge pages are reserved here, or the guest's first touch of one the pool lacks is a SIGBUS.
        let reserve = match backing {
            HugePages::None => libc::MAP_NORESERVE,
            HugePages::Mib2 | HugePages::Gib1 => 0,
        };
        let mut mapped = Vec::with_capacity(regions.len());
        for region in &regions {
            let refused = |reason: &str| MemError::Arrange {
                reason: reason.into(),
            };
            let len = usize::try_from(region.len).map_err(|_| refused("larger than usize"))?;
            let mapping = MmapRegionBuilder::new_with_bitmap(len, AtomicBitmap::with_len(len))
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_SHARED | reserve)
                .with_file_offset(FileOffset::from_arc(Arc::clone(&memfd), region.offset))
                .with_hugetlbfs(backing != HugePages::None)
                .build()
                .map_err(|source| MemError::Map {
                    base: region.base,
                    source,
                })?;
            let region = GuestRegionMmap::new(mapping, GuestAddress(region.base))
                .ok_or_else(|| refused("a region wraps"))?;
            if backing == HugePages::None {
                advise::large_pages(&region);
            }
            mapped.push(region);
        }
        let memory = GuestMemory::from_regions(mapped).map_err(|e| MemError::Arrange {
            reason: e.to_string(),
        })?;
        Ok(Self {
            memory,
            regions: regions.into(),
            memfd,
            backing,
            pins: Arc::default(),
        })
    }

    /// The regions, lowest first.
    #[must_use]
    pub fn regions(&self) -> &[RamRegion] {
        &self.regions
    }

    /// Bytes in all regions.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.regions.iter().map(|r| r.len).sum()
    }

    /// The memfd behind every region.
    #[must_use]
    pub fn memfd(&self) -> &File {
        &self.memfd
    }

    /// vm-memory's view, for the loaders of linux-loader and for memory slots.
    #[must_use]
    pub const fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The pages that back it: what is given back goes in whole ones.
    #[must_use]
    pub const fn backing(&self) -> HugePages {
        self.backing
    }

    /// First host address of the region at `base`, for a KVM memory slot.
    #[must_use]
    pub fn host_address(&self, region: &RamRegion) -> Option<u64> {
        let pointer = self
            .memory
            .get_host_address(GuestAddress(region.base))
            .ok()?;
        Some(pointer.addr() as u64)
    }

    /// Fills `bytes` from guest memory, all or nothing.
    ///
    /// # Errors
    /// [`MemError::NotRam`].
    pub fn read(&self, at: Gpa, bytes: &mut [u8]) -> Result<(), MemError> {
        let len = bytes.len();
        self.memory
            .read_slice(bytes, GuestAddress(at.0))
            .map_err(|_| MemError::NotRam { at, len })
    }

    /// Writes `bytes` to guest memory and marks its pages dirty. The part before the first byte that
    /// is not RAM is written, as a bus would.
    ///
    /// # Errors
    /// [`MemError::NotRam`].
    pub fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), MemError> {
        let len = bytes.len();
        self.memory
            .write_slice(bytes, GuestAddress(at.0))
            .map_err(|_| MemError::NotRam { at, len })
    }

    /// Whether `len` bytes from `at` are all RAM.
    #[must_use]
    pub fn contains(&self, at: Gpa, len: u64) -> bool {
        usize::try_from(len)
            .is_ok_and(|len| GuestMemoryBackend::check_range(&self.memory, GuestAddress(at.0), len))
    }

    /// Whether Trapline itself wrote to the page of `at` since the bitmap was last cleared.
    #[must_use]
    pub fn is_dirty(&self, at: Gpa) -> bool {
        use vm_memory::bitmap::Bitmap;
        self.memory
            .find_region(GuestAddress(at.0))
            .is_some_and(|region| {
                let offset = at.0.wrapping_sub(region.start_addr().0);
                usize::try_from(offset).is_ok_and(|offset| region.bitmap().dirty_at(offset))
            })
    }

    /// Forgets which pages are dirty.
    pub fn clear_dirty(&self) {
        for region in self.memory.iter() {
            region.get_mmap().bitmap().reset();
        }
    }
}

/// What /proc/meminfo calls available, in bytes; none when it cannot be read.
#[must_use]
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_write_marks_its_page_dirty_and_no_other() {
        let ram = GuestRam::new(4 << 20, HugePages::None).unwrap();
        ram.clear_dirty();
        ram.write(Gpa(0x1ffe), &[1, 2, 3, 4]).unwrap();
        assert!(ram.is_dirty(Gpa(0x1000)) && ram.is_dirty(Gpa(0x2000)));
        assert!(!ram.is_dirty(Gpa(0)) && !ram.is_dirty(Gpa(0x3000)));
        ram.clear_dirty();
        assert!(!ram.is_dirty(Gpa(0x1000)));
    }

    #[test]
    fn an_access_past_the_end_is_refused() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        assert!(ram.read(Gpa((2 << 20) - 2), &mut [0; 4]).is_err());
        assert!(ram.read(Gpa(u64::MAX), &mut [0; 4]).is_err());
        assert!(!ram.contains(Gpa(u64::MAX), 2));
        assert!(ram.contains(Gpa((2 << 20) - 2), 2));
    }

    #[test]
    fn cleared_memory_reads_as_zero() {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        ram.write(Gpa(0x1234), b"guest").unwrap();
        ram.clear().unwrap();
        let mut bytes = [1; 5];
        ram.read(Gpa(0x1234), &mut bytes).unwrap();
        assert_eq!(bytes, [0; 5]);
    }

    #[test]
    fn unusable_sizes_are_refused_with_the_reason() {
        assert!(matches!(
            GuestRam::new(0, HugePages::None),
            Err(MemError::Zero)
        ));
        let error = GuestRam::new(4097, HugePages::None).unwrap_err();
        assert!(error.to_string().contains("multiple of 0x1000"), "{error}");
    }
}
