//! A [`Dma`] as vm-memory's `GuestMemory`, for the crates that take their memory that way.
//!
//! They copy through slices of guest RAM that they ask for by address. A slice is one page, checked
//! against the gate and translated when it is asked for, and lives no longer than the hold on the
//! IOMMU: so these accesses obey the same rules as [`Dma::read`] and [`Dma::write`].

use std::iter::FusedIterator;

use vm_memory::bitmap::{AtomicBitmap, BS};
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    GuestAddress, GuestMemory as Space, GuestMemoryBackend, GuestMemoryError, Permissions,
    VolatileSlice,
};

use super::handle::{Dma, DmaError, Iova, Lookup, Transfer};
use crate::mem::{GuestMemory, PAGE_SIZE};

/// Memory as a device sees it while the IOMMU's mappings stand still. See [`Dma::hold`].
#[derive(Debug)]
pub struct DmaSpace<'h> {
    dma: &'h Dma,
    lookup: Option<&'h dyn Lookup>,
}

impl Dma {
    /// Runs `work` on memory as the device sees it. No mapping changes until it returns, so it is to be
    /// short: one descriptor chain, not all there are.
    pub fn hold<R>(&self, work: impl FnOnce(&DmaSpace<'_>) -> R) -> Option<R> {
        let Some(unit) = &self.translator else {
            return Some(work(&DmaSpace {
                dma: self,
                lookup: None,
            }));
        };
        let (mut work, mut result) = (Some(work), None);
        unit.hold(&mut |lookup| {
            result = work.take().map(|work| {
                work(&DmaSpace {
                    dma: self,
                    lookup: Some(lookup),
                })
            });
        });
        result
    }
}

impl DmaSpace<'_> {
    /// The part of the range that lies in its first page.
    fn page(
        &self,
        at: u64,
        left: u64,
        way: Transfer,
    ) -> Result<(VolatileSlice<'_, BS<'_, AtomicBitmap>>, u64), DmaError> {
        if !self.dma.gate.is_open() {
            return Err(DmaError::GateClosed);
        }
        let iova = Iova(at);
        let gpa = match self.lookup {
            None => at,
            Some(lookup) => lookup.translate(self.dma.requester, iova, way)?.0,
        };
        let chunk = left.min(PAGE_SIZE.saturating_sub(at & PAGE_SIZE.wrapping_sub(1)));
        let len = usize::try_from(chunk).map_err(|_| DmaError::Wraps(iova))?;
        let memory = self.dma.ram.memory();
        match memory.get_slice(GuestAddress(gpa), len) {
            Ok(slice) => Ok((slice, chunk)),
            Err(_) => {
                self.dma.astray(way, iova, left);
                Err(DmaError::NotRam(iova))
            }
        }
    }
}

/// The pages of a range, up to the first that cannot be had.
#[derive(Debug)]
struct Pages<'a, 'h> {
    space: &'a DmaSpace<'h>,
    at: u64,
    left: u64,
    way: Transfer,
}

impl<'a> Iterator for Pages<'a, '_> {
    type Item = Result<VolatileSlice<'a, BS<'a, AtomicBitmap>>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        match self.space.page(self.at, self.left, self.way) {
            Ok((slice, len)) => {
                self.left = self.left.saturating_sub(len);
                self.at = self.at.wrapping_add(len);
                Some(Ok(slice))
            }
            Err(error) => {
                self.left = 0;
                Some(Err(GuestMemoryError::IOError(std::io::Error::other(error))))
            }
        }
    }
}

impl FusedIterator for Pages<'_, '_> {}

impl<'a> GuestMemorySliceIterator<'a, BS<'a, AtomicBitmap>> for Pages<'a, '_> {}

impl Space for DmaSpace<'_> {
    type PhysicalMemory = GuestMemory;
    type Bitmap = AtomicBitmap;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.get_slices(addr, count, access)
            .is_ok_and(|mut pages| pages.all(|page| page.is_ok()))
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, Self::Bitmap>>, GuestMemoryError> {
        let left = count as u64;
        if left > 0 && addr.0.checked_add(left.saturating_sub(1)).is_none() {
            return Err(GuestMemoryError::GuestAddressOverflow);
        }
        let way = match access.has_write() {
            true => Transfer::ToMemory,
            false => Transfer::FromMemory,
        };
        Ok(Pages {
            space: self,
            at: addr.0,
            left,
            way,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use vm_memory::Bytes;

    use super::*;
    use crate::dma::{Gate, Translate};
    use crate::mem::{Gpa, GuestRam, HugePages};
    use crate::trace::Bdf;

    /// Maps page 1 to page 2 and page 2 to page 1, page 3 for reading only; says whether it is held.
    #[derive(Debug, Default)]
    struct Swap(AtomicBool);

    impl Lookup for Swap {
        fn translate(&self, _: Bdf, iova: Iova, way: Transfer) -> Result<Gpa, DmaError> {
            assert!(self.0.load(Ordering::Relaxed), "translated outside a hold");
            match (iova.0 >> 12, way) {
                (1, _) => Ok(Gpa(iova.0 + 0x1000)),
                (2, _) => Ok(Gpa(iova.0 - 0x1000)),
                (3, Transfer::FromMemory) => Ok(Gpa(iova.0)),
                _ => Err(DmaError::Blocked(iova)),
            }
        }
    }

    impl Translate for Swap {
        fn hold(&self, work: &mut dyn FnMut(&dyn Lookup)) {
            self.0.store(true, Ordering::Relaxed);
            work(self);
            self.0.store(false, Ordering::Relaxed);
        }
    }

    fn rig(gate: &Gate) -> (GuestRam, Dma) {
        let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
        let unit = Arc::new(Swap::default());
        let dma = Dma::new(ram.clone(), Some(unit), Bdf(8), gate.clone());
        (ram, dma)
    }

    #[test]
    fn slices_are_translated_page_by_page() {
        let (ram, dma) = rig(&Gate::new(true));
        let done = dma.hold(|space| space.write_slice(b"abcd", GuestAddress(0x1ffe)));
        done.unwrap().unwrap();
        let (mut low, mut high) = ([0; 2], [0; 2]);
        ram.read(Gpa(0x2ffe), &mut high).unwrap();
        ram.read(Gpa(0x1000), &mut low).unwrap();
        assert_eq!((&high, &low), (b"ab", b"cd"));
        assert!(ram.is_dirty(Gpa(0x2000)), "writes mark pages dirty");
        let mut back = [0; 4];
        dma.read(Iova(0x1ffe), &mut back).unwrap();
        assert_eq!(&back, b"abcd");
    }

    #[test]
    fn an_atomic_access_obeys_the_rights_of_its_page() {
        let (_, dma) = rig(&Gate::new(true));
        dma.hold(|space| {
            let at = GuestAddress(0x3002);
            assert_eq!(space.load::<u16>(at, Ordering::Acquire).unwrap(), 0);
            assert!(space.store(1_u16, at, Ordering::Release).is_err());
            assert!(space.check_range(at, 4, Permissions::Read));
            assert!(!space.check_range(at, 4, Permissions::Write));
            assert!(!space.check_range(at, 0x1000, Permissions::Read));
        });
    }

    #[test]
    fn a_closed_gate_stops_every_access_before_translation() {
        let gate = Gate::new(false);
        let (_, dma) = rig(&gate);
        let read = || dma.hold(|space| space.read_obj::<u32>(GuestAddress(0x1000)));
        assert!(read().unwrap().is_err());
        gate.set(true);
        assert!(read().unwrap().is_ok());
    }

    #[test]
    fn what_is_not_ram_or_wraps_is_refused() {
        let dma = Dma::platform(GuestRam::new(2 << 20, HugePages::None).unwrap());
        dma.hold(|space| {
            assert!(space.read_obj::<u32>(GuestAddress((2 << 20) - 2)).is_err());
            assert!(space.read_obj::<u32>(GuestAddress(u64::MAX - 1)).is_err());
            assert!(!space.check_range(GuestAddress(u64::MAX), 2, Permissions::Read));
            assert!(space.check_range(GuestAddress(0), 2 << 20, Permissions::ReadWrite));
        });
    }
}
