//! DMA that reaches for memory that is not there: what the user is told of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::dma::{DmaWatch, Stray, Transfer};
use crate::trace::Bdf;

use super::disk::Tell;

/// Lines that are said in one run; a driver gone wild makes as many as it likes.
const SAID: u32 = 16;

/// What the lines of all devices share.
#[derive(Clone)]
pub(super) struct Strays {
    tell: Tell,
    phys_bits: u8,
    said: Arc<AtomicU32>,
}

impl Strays {
    /// Lines go to `tell`; the guest's processor has `phys_bits` bits of physical address.
    pub(super) fn new(tell: Tell, phys_bits: u8) -> Self {
        Self {
            tell,
            phys_bits,
            said: Arc::default(),
        }
    }

    /// The watch over the device `name`.
    pub(super) fn of(&self, name: &'static str) -> Arc<dyn DmaWatch> {
        let all = self.clone();
        Arc::new(Watch { all, name })
    }
}

struct Watch {
    all: Strays,
    name: &'static str,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.name).finish()
    }
}

impl DmaWatch for Watch {
    fn stray(&self, requester: Bdf, stray: Stray) {
        let said = self.all.said.fetch_add(1, Ordering::Relaxed);
        if said < SAID {
            (self.all.tell)(line(self.name, requester, stray, self.all.phys_bits));
        }
        if said == SAID {
            (self.all.tell)("further DMA outside RAM is not told".into());
        }
    }
}

/// A page of a vmalloc address has a page frame number that is far off: such an address can only
/// come from virt_to_page() or virt_to_phys() of memory that is not in the kernel's direct map.
fn line(name: &str, requester: Bdf, stray: Stray, phys_bits: u8) -> String {
    let does = match stray.way {
        Transfer::FromMemory => "reads",
        Transfer::ToMemory => "writes",
    };
    let Stray { at, len, .. } = stray;
    let above = at.0.checked_shr(phys_bits.into()).unwrap_or(0) != 0;
    let place = if above {
        format!("above MAXPHYADDR ({phys_bits} bits), so not RAM")
    } else {
        "not RAM".to_owned()
    };
    format!(
        "{name} ({requester}) {does} {len} bytes at bus address {at}: {place}. virt_to_page() of a vmalloc or \
         VMAP_STACK address gives such values; a kernel with CONFIG_DEBUG_SG names the driver"
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::dma::Iova;

    const STRAY: Stray = Stray {
        way: Transfer::FromMemory,
        at: Iova(0x0046_f63b_805b_78c8),
        len: 64,
    };

    #[test]
    fn the_line_says_who_reached_where_and_what_makes_such_addresses() {
        let text = line("edu", Bdf(0x10), STRAY, 46);
        assert!(
            text.starts_with(
                "edu (00:02.0) reads 64 bytes at bus address 0x46f63b805b78c8: above MAXPHYADDR (46 bits), so \
                 not RAM. virt_to_page()"
            ),
            "{text}"
        );
        let low = Stray {
            at: Iova(0x4000_0000),
            way: Transfer::ToMemory,
            ..STRAY
        };
        let text = line("edu", Bdf(0x10), low, 46);
        assert!(
            text.contains("writes 64 bytes at bus address 0x40000000: not RAM."),
            "{text}"
        );
        // All 64 bits are addresses, should a processor ever say so.
        assert!(line("edu", Bdf(0x10), STRAY, 64).contains(": not RAM."));
    }

    #[test]
    fn a_flood_is_cut_off_with_a_word_about_it() {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let to = Arc::clone(&heard);
        let strays = Strays::new(Arc::new(move |line| to.lock().unwrap().push(line)), 46);
        let watches = [strays.of("edu"), strays.of("piix3-ide")];
        for watch in watches.iter().cycle().take(100) {
            watch.stray(Bdf(0x10), STRAY);
        }
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 17);
        assert_eq!(heard[16], "further DMA outside RAM is not told");
    }
}
