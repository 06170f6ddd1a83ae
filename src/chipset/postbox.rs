//! The postbox device; [`abi`] defines it. Hostile numbers are bounded before anything is allocated:
//! a parcel is at most [`abi::MAX_PAGES`] pages.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::dma::{Dma, Iova};
use crate::trace::Space;

use super::postbox_abi as abi;

/// Takes the parcels, in order; together they are one stream of bytes.
pub trait Parcels: Send {
    /// Keeps one parcel.
    ///
    /// # Errors
    /// Why not. The guest is told that this and every later one is refused; the sink tells the user.
    fn deliver(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// The postbox. Its memory accesses are platform DMA: no IOMMU stands in front of it.
pub struct Postbox {
    memory: Dma,
    parcels: Box<dyn Parcels>,

    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    status: u32,
    /// The host refused a parcel: what it has is the stream's beginning, and must stay that.
    closed: bool,
}

/// What a descriptor says, checked.
struct Descriptor {
    bytes: usize,
    checksum: u64,
    frames: Vec<u32>,
}

impl fmt::Debug for Postbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postbox").field(&self.state).finish()
    }
}

/// The address of a page frame.
fn page(frame: u32) -> Iova {
    Iova(u64::from(frame) << 12)
}

impl Descriptor {
    /// Reads one; none when it breaks the rules.
    fn parse(page: &[u8; abi::PAGE]) -> Option<Self> {
        let (header, frames) = page.split_at_checked(abi::DESCRIPTOR_FRAMES)?;
        let (dwords, checksum) = header.split_at_checked(16)?;
        let mut dwords = dwords
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b));
        let mut next = || dwords.next();
        let (magic, pages, bytes, zero) = (next()?, next()?, next()?, next()?);
        let pages = usize::try_from(pages).ok()?;
        let bytes = usize::try_from(bytes).ok()?;
        let sound = magic == abi::DESCRIPTOR_MAGIC
            && zero == 0
            && (1..=abi::MAX_PAGES).contains(&pages)
            && bytes.div_ceil(abi::PAGE) == pages;
        let frames = frames.as_chunks::<4>().0.iter().take(pages);
        sound.then_some(Self {
            bytes,
            checksum: u64::from_le_bytes(checksum.try_into().ok()?),
            frames: frames.map(|b| u32::from_le_bytes(*b)).collect(),
        })
    }
}

impl Postbox {
    /// A postbox that reads `memory`, which is [`Dma::platform`], and hands on to `parcels`.
    #[must_use]
    pub fn new(memory: Dma, parcels: Box<dyn Parcels>) -> Self {
        Self {
            memory,
            parcels,
            state: State::default(),
        }
    }

    /// Takes the parcel of the descriptor in `frame` and returns the status.
    fn take(&mut self, frame: u32) -> u32 {
        let mut descriptor = [0; abi::PAGE];
        if self.memory.read(page(frame), &mut descriptor).is_err() {
            return abi::STATUS_NOT_RAM;
        }
        let Some(descriptor) = Descriptor::parse(&descriptor) else {
            return abi::STATUS_MALFORMED;
        };
        let mut bytes = vec![0; descriptor.bytes];
        for (part, &frame) in bytes.chunks_mut(abi::PAGE).zip(&descriptor.frames) {
            if self.memory.read(page(frame), part).is_err() {
                return abi::STATUS_NOT_RAM;
            }
        }
        if abi::checksum(&bytes) != descriptor.checksum {
            return abi::STATUS_AGAIN;
        }
        if self.state.closed || self.parcels.deliver(&bytes).is_err() {
            self.state.closed = true;
            return abi::STATUS_REFUSED;
        }
        abi::STATUS_OK
    }
}

impl Device for Postbox {
    fn label(&self) -> &'static str {
        "postbox"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "postbox",
            space: Space::Pio,
            base: Some(abi::PORT.into()),
            len: abi::PORTS.into(),
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Dword {
            return Err(Refusal::BadWidth);
        }
        let value = match u16::try_from(at.offset) {
            Ok(abi::REG_SIGNATURE) => abi::SIGNATURE,
            Ok(abi::REG_PARCEL) => self.state.status,
            Ok(abi::REG_VERSION) => abi::VERSION,
            _ => return Err(Refusal::NoSuchRegister),
        };
        Ok(value.into())
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        if at.width != Width::Dword {
            return Err(Refusal::BadWidth);
        }
        let value = u32::try_from(value).map_err(|_| Refusal::BadWidth)?;
        match u16::try_from(at.offset) {
            Ok(abi::REG_MILESTONE) => {
                // Numbers that this version does not know are from a newer init: no harm in them.
                if value == abi::MILESTONE_INIT {
                    effects.push(Effect::Milestone("init"));
                }
            }
            Ok(abi::REG_PARCEL) => self.state.status = self.take(value),
            _ => return Err(Refusal::NoSuchRegister),
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        state::check(
            self.label(),
            loaded.status <= abi::STATUS_REFUSED,
            "a status it never gives",
        )?;
        self.state = loaded;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::{effects_of_write, read};
    use crate::mem::{Gpa, GuestRam, HugePages};
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    /// A host's file of limited size.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<Vec<u8>>>, usize);

    impl Parcels for Disk {
        fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
            let mut kept = self.0.lock().unwrap();
            if kept.len() + bytes.len() > self.1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            kept.extend(bytes);
            Ok(())
        }
    }

    struct Rig {
        ram: GuestRam,
        disk: Disk,
        device: Postbox,
    }

    const DESCRIPTOR: u32 = 3;

    impl Rig {
        fn new(space: usize) -> Self {
            let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
            let disk = Disk(Arc::default(), space);
            let device = Postbox::new(Dma::platform(ram.clone()), Box::new(disk.clone()));
            Self { ram, disk, device }
        }

        /// Puts `bytes` into scattered pages and writes a descriptor with `fields` replaced.
        fn prepare(&self, bytes: &[u8], patch: &[(u64, u32)]) {
            let pages = u32::try_from(bytes.len().div_ceil(abi::PAGE)).unwrap();
            let frames = (0..pages).map(|i| 40 - 3 * i);
            let mut page = vec![0; abi::PAGE];
            page[..4].copy_from_slice(b"PBOX");
            page[4..8].copy_from_slice(&pages.to_le_bytes());
            page[8..12].copy_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            page[16..24].copy_from_slice(&abi::checksum(bytes).to_le_bytes());
            for (i, (frame, part)) in frames.zip(bytes.chunks(abi::PAGE)).enumerate() {
                page[24 + 4 * i..][..4].copy_from_slice(&frame.to_le_bytes());
                self.ram.write(Gpa(u64::from(frame) << 12), part).unwrap();
            }
            let base = u64::from(DESCRIPTOR) << 12;
            self.ram.write(Gpa(base), &page).unwrap();
            for (at, value) in patch {
                let patch = value.to_le_bytes();
                self.ram.write(Gpa(base + at), &patch).unwrap();
            }
        }

        fn post(&mut self, frame: u32) -> u32 {
            let at = abi::REG_PARCEL.into();
            effects_of_write(&mut self.device, at, Width::Dword, frame.into());
            u32::try_from(read(&mut self.device, at, Width::Dword)).unwrap()
        }

        fn send(&mut self, bytes: &[u8], patch: &[(u64, u32)]) -> u32 {
            self.prepare(bytes, patch);
            self.post(DESCRIPTOR)
        }

        fn kept(&self) -> Vec<u8> {
            self.disk.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn it_says_who_it_is_and_passes_the_milestone_on() {
        let mut rig = Rig::new(0);
        assert_eq!(
            read(&mut rig.device, 0, Width::Dword).to_le_bytes()[..4],
            *b"TRAP"
        );
        assert_eq!(read(&mut rig.device, 12, Width::Dword), 1);
        let mut write = |value| effects_of_write(&mut rig.device, 4, Width::Dword, value);
        assert_eq!(write(1), [Effect::Milestone("init")]);
        assert_eq!(write(77), []);
    }

    #[test]
    fn scattered_pages_arrive_in_order_parcel_after_parcel() {
        let mut rig = Rig::new(1 << 20);
        let long: Vec<u8> = (0..9000_u32).map(|i| (i % 253) as u8).collect();
        assert_eq!(rig.send(&long, &[]), abi::STATUS_OK);
        assert_eq!(rig.send(b"end", &[]), abi::STATUS_OK);
        assert_eq!(rig.kept(), [&long[..], b"end"].concat());
    }

    #[test]
    fn a_page_that_moved_is_asked_for_again() {
        let mut rig = Rig::new(1 << 20);
        assert_eq!(rig.send(b"moved", &[(24, 50)]), abi::STATUS_AGAIN);
        assert_eq!(rig.kept(), b"");
        assert_eq!(rig.send(b"moved", &[]), abi::STATUS_OK);
        assert_eq!(rig.kept(), b"moved");
    }

    #[test]
    fn descriptors_that_break_the_rules_are_refused() {
        let mut rig = Rig::new(1 << 20);
        let cases: [&[(u64, u32)]; 7] = [
            &[(0, 0)],
            &[(4, 0), (8, 0)],
            &[(4, 2)],
            &[(4, 1019), (8, 1018 * 4096 + 1)],
            &[(8, 4097)],
            &[(8, u32::MAX)],
            &[(12, 1)],
        ];
        for patch in cases {
            assert_eq!(rig.send(b"x", patch), abi::STATUS_MALFORMED, "{patch:?}");
        }
        for patch in [(24, 256), (24, u32::MAX)] {
            assert_eq!(rig.send(b"x", &[patch]), abi::STATUS_NOT_RAM);
        }
        assert_eq!(rig.post(256), abi::STATUS_NOT_RAM);
        assert_eq!(rig.post(u32::MAX), abi::STATUS_NOT_RAM);
        assert_eq!(rig.kept(), b"");
    }

    /// A later, smaller parcel that would fit would leave a hole in the stream.
    #[test]
    fn after_a_full_disk_nothing_more_is_kept() {
        let mut rig = Rig::new(4);
        assert_eq!(rig.send(b"abc", &[]), abi::STATUS_OK);
        assert_eq!(rig.send(b"def", &[]), abi::STATUS_REFUSED);
        assert_eq!(rig.send(b"g", &[]), abi::STATUS_REFUSED);
        assert_eq!(rig.kept(), b"abc");
    }

    /// The published FNV-1a 64 test vectors.
    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(abi::checksum(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(abi::checksum(b"foobar"), 0x8594_4171_f739_67e8);
    }

    proptest! {
        #[test]
        fn no_descriptor_does_harm(noise in prop::collection::vec(any::<u32>(), 0..8)) {
            let mut rig = Rig::new(1 << 20);
            let patch: Vec<(u64, u32)> = (0..).step_by(4).zip(noise).collect();
            prop_assert!(rig.send(b"x", &patch) <= abi::STATUS_REFUSED);
        }
    }
}
