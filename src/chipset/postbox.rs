//! The postbox device; [`abi`] defines it. Hostile numbers are bounded before anything is allocated:
//! a parcel is at most [`abi::MAX_PAGES`] pages, a chunk of input [`abi::INPUT_BYTES`].

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::dma::{Dma, Iova};
use crate::trace::Space;

use super::host_input::HostInput;
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
    input: HostInput,

    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    status: u32,
    /// The host refused a parcel: what it has is the stream's beginning, and must stay that.
    closed: bool,
    /// The input the guest has asked for.
    chunk: Vec<u8>,
    /// How many words of it the guest has read.
    words_read: usize,
}

/// Words that stand before the bytes of a chunk: their number and their checksum.
const CHUNK_HEAD: usize = 3;
/// Words of the longest chunk.
const CHUNK_WORDS: usize = CHUNK_HEAD + abi::INPUT_BYTES / 4;

const fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
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
    /// A postbox that reads `memory`, which is [`Dma::platform`], hands on to `parcels` and has `input`
    /// for the guest.
    #[must_use]
    pub fn new(memory: Dma, parcels: Box<dyn Parcels>, input: HostInput) -> Self {
        Self {
            memory,
            parcels,
            input,
            state: State::default(),
        }
    }

    /// Makes a chunk of what waits.
    fn next_chunk(&mut self) {
        let mut chunk = vec![0; abi::INPUT_BYTES];
        let count = self.input.take(&mut chunk);
        chunk.truncate(count);
        self.state.chunk = chunk;
        self.state.words_read = 0;
    }

    /// The next word of the chunk; zeros after its end.
    fn chunk_word(&mut self) -> u32 {
        let chunk = &self.state.chunk;
        let at = self.state.words_read;
        self.state.words_read = at.saturating_add(1).min(CHUNK_WORDS);
        match at {
            0 if chunk.is_empty() && self.input.is_at_end() => abi::INPUT_END,
            0 => u32::try_from(chunk.len()).unwrap_or(0),
            1 => low_half(abi::checksum(chunk)),
            2 => low_half(abi::checksum(chunk) >> 32),
            _ => {
                let word = at.saturating_sub(CHUNK_HEAD);
                let mut padded = [0; 4];
                let bytes = chunk.chunks(padded.len()).nth(word).unwrap_or_default();
                for (to, from) in padded.iter_mut().zip(bytes) {
                    *to = *from;
                }
                u32::from_le_bytes(padded)
            }
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
            Ok(abi::REG_INPUT) => self.chunk_word(),
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
            Ok(abi::REG_INPUT_CONTROL) => match value {
                abi::INPUT_NEXT => self.next_chunk(),
                abi::INPUT_AGAIN => self.state.words_read = 0,
                _ => {}
            },
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
        state::check(
            self.label(),
            loaded.chunk.len() <= abi::INPUT_BYTES && loaded.words_read <= CHUNK_WORDS,
            "a chunk of input longer than any",
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
        input: HostInput,
        device: Postbox,
    }

    const DESCRIPTOR: u32 = 3;

    impl Rig {
        fn new(space: usize) -> Self {
            let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
            let disk = Disk(Arc::default(), space);
            let input = HostInput::default();
            let memory = Dma::platform(ram.clone());
            let device = Postbox::new(memory, Box::new(disk.clone()), input.clone());
            Self {
                ram,
                disk,
                input,
                device,
            }
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

        fn ask(&mut self, what: u32) {
            let at = abi::REG_INPUT_CONTROL.into();
            effects_of_write(&mut self.device, at, Width::Dword, what.into());
        }

        fn word(&mut self) -> u32 {
            let word = read(&mut self.device, abi::REG_INPUT.into(), Width::Dword);
            u32::try_from(word).unwrap()
        }

        /// The chunk, as init reads it; none at the end.
        fn chunk(&mut self) -> Option<Vec<u8>> {
            let [count, low, high] = [(); 3].map(|()| self.word());
            if count == abi::INPUT_END {
                return None;
            }
            let count = count as usize;
            let words = (0..count.div_ceil(4)).flat_map(|_| self.word().to_le_bytes());
            let mut bytes: Vec<u8> = words.collect();
            assert!(bytes[count..].iter().all(|pad| *pad == 0));
            bytes.truncate(count);
            assert_eq!(
                abi::checksum(&bytes),
                u64::from(high) << 32 | u64::from(low)
            );
            Some(bytes)
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
        assert_eq!(read(&mut rig.device, 12, Width::Dword), 2);
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

    #[test]
    fn input_arrives_in_order_to_its_end() {
        let mut rig = Rig::new(0);
        let sent: Vec<u8> = (0..50_001_u32).map(|i| (i % 253) as u8).collect();
        assert_eq!(rig.input.push(&sent), sent.len());
        rig.input.close();
        let mut got = Vec::new();
        rig.ask(abi::INPUT_NEXT);
        while let Some(bytes) = rig.chunk() {
            assert!(!bytes.is_empty(), "an end that is not told");
            got.extend(bytes);
            rig.ask(abi::INPUT_NEXT);
        }
        assert_eq!(got, sent);
        rig.ask(abi::INPUT_NEXT);
        assert_eq!(rig.chunk(), None, "and there it stays");
    }

    #[test]
    fn a_chunk_can_be_read_again_until_the_next_is_asked_for() {
        let mut rig = Rig::new(0);
        rig.ask(abi::INPUT_NEXT);
        assert_eq!(rig.chunk().unwrap(), b"", "nothing yet, and no end");
        assert_eq!(rig.input.push(b"first"), 5);
        rig.ask(abi::INPUT_NEXT);
        assert_eq!(rig.input.push(b"second"), 6);
        rig.word();
        rig.ask(abi::INPUT_AGAIN);
        assert_eq!(rig.chunk().unwrap(), b"first");
        let state = rig.device.save();
        rig.device.load(&state).unwrap();
        rig.ask(abi::INPUT_AGAIN);
        assert_eq!(rig.chunk().unwrap(), b"first");
        rig.ask(abi::INPUT_NEXT);
        assert_eq!(rig.chunk().unwrap(), b"second");
        assert_eq!(rig.word(), 0, "after its end");
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
