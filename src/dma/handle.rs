//! The handle, its gate, and what an IOMMU has to implement.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mem::{Gpa, GuestRam, PAGE_SIZE};
use crate::trace::Bdf;

/// An address as a device puts it on the bus: an I/O virtual address, or a guest physical one when
/// nothing translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(pub u64);

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// The device reads memory.
    FromMemory,
    /// The device writes memory.
    ToMemory,
}

/// Why an access did not happen, or stopped part way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// Bus Master Enable is clear.
    #[error("bus mastering is off")]
    GateClosed,
    /// The IOMMU refused the page; it has recorded the fault.
    #[error("the IOMMU blocked {0}")]
    Blocked(Iova),
    /// The address is not RAM.
    #[error("no RAM at bus address {0}")]
    NotRam(Iova),
    /// The range passes the end of the 64-bit address space.
    #[error("the range from {0} wraps")]
    Wraps(Iova),
}

/// An IOMMU whose mappings stand still.
pub trait Lookup {
    /// The guest physical address that `iova` stands for; what follows it in its page follows there.
    ///
    /// # Errors
    /// [`DmaError::Blocked`] when there is no such mapping, or not for this way.
    fn translate(&self, requester: Bdf, iova: Iova, way: Transfer) -> Result<Gpa, DmaError>;
}

impl fmt::Debug for dyn Lookup + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

/// Implemented by an IOMMU.
pub trait Translate: fmt::Debug + Send + Sync {
    /// Runs `work`, once, while mappings are guaranteed to stay valid: the unit's read lock spans
    /// it, so a completed invalidation has no copy in flight behind it. Faults are recorded after.
    fn hold(&self, work: &mut dyn FnMut(&dyn Lookup));

    /// Translates the page of `iova` and runs `copy` with the guest physical address that `iova`
    /// itself stands for, under one [`Translate::hold`].
    ///
    /// # Errors
    /// [`DmaError::Blocked`] when there is no mapping, or what `copy` returned.
    fn with_page(
        &self,
        requester: Bdf,
        iova: Iova,
        way: Transfer,
        copy: &mut dyn FnMut(Gpa) -> Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        let mut result = Err(DmaError::Blocked(iova));
        self.hold(&mut |unit| {
            let found = unit.translate(requester, iova, way);
            result = found.and_then(&mut *copy);
        });
        result
    }
}

/// A transfer that named an address where no RAM is, or that wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stray {
    /// Which way the bytes were to go.
    pub way: Transfer,
    /// The first address without RAM.
    pub at: Iova,
    /// Bytes of the whole transfer.
    pub len: u64,
}

/// Hears of transfers that go astray. The device itself often cannot say that one did.
pub trait DmaWatch: fmt::Debug + Send + Sync {
    /// `requester` reached for what is not there.
    fn stray(&self, requester: Bdf, stray: Stray);
}

/// Bus Master Enable, shared between a function's command register and its workers.
#[derive(Debug, Clone)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A gate in the given position.
    #[must_use]
    pub fn new(open: bool) -> Self {
        Self(Arc::new(AtomicBool::new(open)))
    }

    /// Opens or closes it.
    pub fn set(&self, open: bool) {
        self.0.store(open, Ordering::Release);
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One device's way to memory.
#[derive(Debug, Clone)]
pub struct Dma {
    pub(super) ram: GuestRam,
    pub(super) translator: Option<Arc<dyn Translate>>,
    pub(super) requester: Bdf,
    pub(super) gate: Gate,
    pub(super) watch: Option<Arc<dyn DmaWatch>>,
}

impl Dma {
    /// A handle behind `gate` and, when given, a translator.
    #[must_use]
    pub const fn new(
        ram: GuestRam,
        translator: Option<Arc<dyn Translate>>,
        requester: Bdf,
        gate: Gate,
    ) -> Self {
        Self {
            ram,
            translator,
            requester,
            gate,
            watch: None,
        }
    }

    /// The same, and `watch` hears of what goes astray.
    #[must_use]
    pub fn watched(self, watch: Arc<dyn DmaWatch>) -> Self {
        Self {
            watch: Some(watch),
            ..self
        }
    }

    /// A handle for platform DMA that real machines do behind the IOMMU's back: no gate, no
    /// translation. Its users say so.
    #[must_use]
    pub fn platform(ram: GuestRam) -> Self {
        Self::new(ram, None, Bdf(0), Gate::new(true))
    }

    /// Whether an IOMMU stands between the device and memory.
    #[must_use]
    pub const fn is_translated(&self) -> bool {
        self.translator.is_some()
    }

    /// Copies memory to the device.
    ///
    /// # Errors
    /// [`DmaError`]; the pages before the failing one have been copied.
    pub fn read(&self, at: Iova, bytes: &mut [u8]) -> Result<(), DmaError> {
        let ram = &self.ram;
        let mut rest = bytes;
        self.pages(at, rest.len(), Transfer::FromMemory, |iova, gpa, len| {
            let (head, tail) = std::mem::take(&mut rest)
                .split_at_mut_checked(len)
                .unwrap_or_default();
            rest = tail;
            ram.read(gpa, head).map_err(|_| DmaError::NotRam(iova))
        })
    }

    /// Copies the device's bytes to memory.
    ///
    /// # Errors
    /// [`DmaError`]; the pages before the failing one have been written.
    pub fn write(&self, at: Iova, bytes: &[u8]) -> Result<(), DmaError> {
        let ram = &self.ram;
        let mut rest = bytes;
        self.pages(at, rest.len(), Transfer::ToMemory, |iova, gpa, len| {
            let (head, tail) = rest.split_at_checked(len).unwrap_or_default();
            rest = tail;
            ram.write(gpa, head).map_err(|_| DmaError::NotRam(iova))
        })
    }

    /// A transfer of `len` bytes found no RAM at `at`.
    pub(super) fn astray(&self, way: Transfer, at: Iova, len: u64) {
        if let Some(watch) = &self.watch {
            watch.stray(self.requester, Stray { way, at, len });
        }
    }

    fn pages(
        &self,
        at: Iova,
        len: usize,
        way: Transfer,
        copy: impl FnMut(Iova, Gpa, usize) -> Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        let done = self.each_page(at, len, way, copy);
        if let Err(DmaError::NotRam(at) | DmaError::Wraps(at)) = done {
            self.astray(way, at, len as u64);
        }
        done
    }

    fn each_page(
        &self,
        at: Iova,
        len: usize,
        way: Transfer,
        mut copy: impl FnMut(Iova, Gpa, usize) -> Result<(), DmaError>,
    ) -> Result<(), DmaError> {
        if !self.gate.is_open() {
            return Err(DmaError::GateClosed);
        }
        let mut iova = at;
        let mut left = len as u64;
        if left > 0 && at.0.checked_add(left.saturating_sub(1)).is_none() {
            return Err(DmaError::Wraps(at));
        }
        while left > 0 {
            let to_page_end = PAGE_SIZE.saturating_sub(iova.0 & PAGE_SIZE.wrapping_sub(1));
            let chunk = left.min(to_page_end);
            let bytes = usize::try_from(chunk).map_err(|_| DmaError::Wraps(at))?;
            match &self.translator {
                None => copy(iova, Gpa(iova.0), bytes)?,
                Some(unit) => {
                    unit.with_page(self.requester, iova, way, &mut |gpa| copy(iova, gpa, bytes))?;
                }
            }
            left = left.saturating_sub(chunk);
            iova = Iova(iova.0.wrapping_add(chunk));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::HugePages;

    fn ram() -> GuestRam {
        GuestRam::new(2 << 20, HugePages::None).unwrap()
    }

    #[derive(Debug)]
    struct Swap;

    impl Lookup for Swap {
        fn translate(&self, _: Bdf, iova: Iova, _: Transfer) -> Result<Gpa, DmaError> {
            match iova.0 & !0xfff {
                0x1000 => Ok(Gpa(iova.0 + 0x1000)),
                0x2000 => Ok(Gpa(iova.0 - 0x1000)),
                _ => Err(DmaError::Blocked(iova)),
            }
        }
    }

    impl Translate for Swap {
        fn hold(&self, work: &mut dyn FnMut(&dyn Lookup)) {
            work(self);
        }
    }

    #[test]
    fn a_transfer_is_translated_page_by_page() {
        let ram = ram();
        let dma = Dma::new(ram.clone(), Some(Arc::new(Swap)), Bdf(8), Gate::new(true));
        dma.write(Iova(0x1ffe), b"abcd").unwrap();
        let (mut low, mut high) = ([0; 2], [0; 2]);
        ram.read(Gpa(0x2ffe), &mut high).unwrap();
        ram.read(Gpa(0x1000), &mut low).unwrap();
        assert_eq!((&high, &low), (b"ab", b"cd"));
        let mut back = [0; 4];
        dma.read(Iova(0x1ffe), &mut back).unwrap();
        assert_eq!(&back, b"abcd");
    }

    #[test]
    fn the_pages_before_a_blocked_one_are_written() {
        let ram = ram();
        let dma = Dma::new(ram.clone(), Some(Arc::new(Swap)), Bdf(8), Gate::new(true));
        assert_eq!(
            dma.write(Iova(0x2ffe), b"abcd"),
            Err(DmaError::Blocked(Iova(0x3000)))
        );
        let mut bytes = [0; 2];
        ram.read(Gpa(0x1ffe), &mut bytes).unwrap();
        assert_eq!(&bytes, b"ab");
    }

    #[test]
    fn a_closed_gate_fails_before_translation() {
        let gate = Gate::new(false);
        let dma = Dma::new(ram(), Some(Arc::new(Swap)), Bdf(8), gate.clone());
        assert_eq!(dma.write(Iova(0x9000), b"x"), Err(DmaError::GateClosed));
        gate.set(true);
        assert_eq!(
            dma.write(Iova(0x9000), b"x"),
            Err(DmaError::Blocked(Iova(0x9000)))
        );
    }

    #[derive(Debug, Default)]
    struct Heard(std::sync::Mutex<Vec<(Bdf, Stray)>>);

    impl DmaWatch for Heard {
        fn stray(&self, requester: Bdf, stray: Stray) {
            self.0.lock().unwrap().push((requester, stray));
        }
    }

    #[test]
    fn what_goes_astray_is_heard_of_and_what_is_blocked_is_not() {
        let heard = Arc::new(Heard::default());
        let gate = Gate::new(false);
        let dma = Dma::new(ram(), None, Bdf(8), gate.clone()).watched(heard.clone());
        let far = Iova(0x0046_f63b_805b_7ff8);
        assert_eq!(dma.write(far, b"x"), Err(DmaError::GateClosed));
        gate.set(true);
        assert_eq!(dma.write(far, b"x"), Err(DmaError::NotRam(far)));
        // The end of RAM lies in the middle of this one.
        let end = Iova(2 << 20);
        assert_eq!(
            dma.read(Iova(end.0 - 4), &mut [0; 8]),
            Err(DmaError::NotRam(end))
        );
        let unit = Dma::new(ram(), Some(Arc::new(Swap)), Bdf(8), gate).watched(heard.clone());
        assert_eq!(
            unit.write(Iova(0x9000), b"x"),
            Err(DmaError::Blocked(Iova(0x9000)))
        );
        let stray = |way, at, len| (Bdf(8), Stray { way, at, len });
        assert_eq!(
            *heard.0.lock().unwrap(),
            [
                stray(Transfer::ToMemory, far, 1),
                stray(Transfer::FromMemory, end, 8)
            ]
        );
    }

    #[test]
    fn a_range_that_wraps_touches_nothing() {
        let dma = Dma::platform(ram());
        assert_eq!(
            dma.read(Iova(u64::MAX), &mut [0; 2]),
            Err(DmaError::Wraps(Iova(u64::MAX)))
        );
        assert_eq!(dma.read(Iova(u64::MAX), &mut []), Ok(()));
    }
}
