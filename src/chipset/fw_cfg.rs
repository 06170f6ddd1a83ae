//! fw_cfg: what the board tells firmware and test programs about itself (QEMU docs/specs/fw_cfg.rst).
//!
//! Its DMA is the platform's, not a PCI function's: it uses physical addresses and no IOMMU stands in
//! its way, as on QEMU's machines. All items are read-only.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::dma::{Dma, Iova};
use crate::trace::Space;

/// Selector, data; then the DMA address, big-endian, in two halves.
const BASE: u64 = 0x510;
const DMA_BASE: u64 = 0x514;
/// How many ports a listing gives it.
pub const FW_CFG_PORTS: u8 = 12;
const REGISTERS: u8 = 0;
const DMA_ADDRESS: u8 = 1;
const SELECTOR: u64 = 0;
const DATA: u64 = 1;
/// The offset whose write starts a transfer.
const DMA_LOW: u64 = 4;
/// What the DMA address reads as: "QEMU CFG".
const DMA_SIGNATURE: u64 = 0x5145_4d55_2043_4647;

/// Items.
const SIGNATURE: u16 = 0x00;
const ID: u16 = 0x01;
const RAM_SIZE: u16 = 0x03;
const NOGRAPHIC: u16 = 0x04;
const NB_CPUS: u16 = 0x05;
const KERNEL_SIZE: u16 = 0x08;
const INITRD_SIZE: u16 = 0x0b;
const MAX_CPUS: u16 = 0x0f;
const KERNEL_DATA: u16 = 0x11;
const INITRD_DATA: u16 = 0x12;
const CMDLINE_SIZE: u16 = 0x14;
const CMDLINE_DATA: u16 = 0x15;
const FILE_DIRECTORY: u16 = 0x19;
const FIRST_FILE: u16 = 0x20;
/// ID: the ports and the DMA interface are there.
const FEATURES: u32 = 0b11;

/// Bits of a transfer's control word.
const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;

/// Bytes copied at a time.
const CHUNK: usize = 4096;

/// A region of memory as an E820 map has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FwCfgRam {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// A file that is an item: read as the guest reads it, and not before.
#[derive(Debug, Clone)]
pub struct FwCfgBlob {
    file: Arc<File>,
    len: u64,
}

impl FwCfgBlob {
    /// The first `len` bytes of a file.
    #[must_use]
    pub fn new(file: File, len: u64) -> Self {
        let file = Arc::new(file);
        Self { file, len }
    }

    fn size(&self) -> [u8; 4] {
        u32::try_from(self.len).unwrap_or(u32::MAX).to_le_bytes()
    }

    /// Bytes from `at`; what cannot be read stays as it is.
    fn read(&self, at: u64, out: &mut [u8]) {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = out.len().min(left);
        if let Some(part) = out.get_mut(..wanted) {
            // A file that has shrunk reads as zeros, like an item past its end.
            let _ = self.file.read_exact_at(part, at);
        }
    }
}

#[derive(Debug)]
enum Item {
    Bytes(Vec<u8>),
    Blob(FwCfgBlob),
}

impl Item {
    /// Fills `out` from offset `at`, with zeros past the end.
    fn read(&self, at: u64, out: &mut [u8]) {
        match self {
            Self::Blob(blob) => blob.read(at, out),
            Self::Bytes(bytes) => {
                let start = usize::try_from(at).unwrap_or(usize::MAX);
                let rest = bytes.get(start..).unwrap_or_default();
                for (to, from) in out.iter_mut().zip(rest) {
                    *to = *from;
                }
            }
        }
    }
}

/// What the items say.
#[derive(Debug, Clone, Default)]
pub struct FwCfgFacts {
    /// vCPUs.
    pub cpus: u16,
    /// RAM, lowest first.
    pub ram: Vec<FwCfgRam>,
    /// The guest's command line.
    pub cmdline: String,
    /// The kernel's file. Firmware that would load it knows where to; so there are no addresses.
    pub kernel: Option<FwCfgBlob>,
    /// The initrd's file.
    pub initrd: Option<FwCfgBlob>,
}

impl FwCfgFacts {
    fn items(&self) -> Vec<(u16, Item)> {
        const E820_RAM: u32 = 1;
        let size = self.ram.iter().map(|r| r.len);
        let size = size.fold(0_u64, u64::saturating_add);
        let e820 = self.ram.iter().flat_map(|region| {
            let [base, len] = [region.base, region.len].map(u64::to_le_bytes);
            let kind = E820_RAM.to_le_bytes();
            base.into_iter().chain(len).chain(kind)
        });
        let files: [(&str, Vec<u8>); 1] = [("etc/e820", e820.collect())];
        let mut items = vec![
            (SIGNATURE, b"QEMU".to_vec()),
            (ID, FEATURES.to_le_bytes().to_vec()),
            (RAM_SIZE, size.to_le_bytes().to_vec()),
            // There is no display to begin with.
            (NOGRAPHIC, 1_u16.to_le_bytes().to_vec()),
            (NB_CPUS, self.cpus.to_le_bytes().to_vec()),
            (MAX_CPUS, self.cpus.to_le_bytes().to_vec()),
        ];
        if !self.cmdline.is_empty() {
            let text = [self.cmdline.as_bytes(), &[0]].concat();
            let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
            items.push((CMDLINE_SIZE, size.to_le_bytes().to_vec()));
            items.push((CMDLINE_DATA, text));
        }
        let count = u32::try_from(files.len()).unwrap_or_default();
        let mut directory = count.to_be_bytes().to_vec();
        for (key, (name, bytes)) in (FIRST_FILE..).zip(files) {
            let size = u32::try_from(bytes.len()).unwrap_or_default();
            directory.extend(size.to_be_bytes());
            directory.extend(key.to_be_bytes());
            directory.extend([0; 2]);
            let mut padded = name.as_bytes().to_vec();
            padded.resize(56, 0);
            directory.extend(padded);
            items.push((key, bytes));
        }
        items.push((FILE_DIRECTORY, directory));
        let bytes = |(key, bytes)| (key, Item::Bytes(bytes));
        let mut items: Vec<(u16, Item)> = items.into_iter().map(bytes).collect();
        let blobs = [
            (KERNEL_SIZE, KERNEL_DATA, &self.kernel),
            (INITRD_SIZE, INITRD_DATA, &self.initrd),
        ];
        for (size, data, blob) in blobs {
            if let Some(blob) = blob {
                items.push((size, Item::Bytes(blob.size().to_vec())));
                items.push((data, Item::Blob(blob.clone())));
            }
        }
        items
    }
}

/// The device.
#[derive(Debug)]
pub struct FwCfg {
    items: Vec<(u16, Item)>,
    dma: Dma,

    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    selected: u16,
    offset: u32,
    /// The upper half of the DMA address, until the lower one comes.
    high: u32,
}

impl FwCfg {
    /// A device that tells `facts`; `dma` is [`Dma::platform`].
    #[must_use]
    pub fn new(facts: &FwCfgFacts, dma: Dma) -> Self {
        Self {
            items: facts.items(),
            dma,
            state: State::default(),
        }
    }

    fn select(&mut self, key: u16) {
        self.state.selected = key;
        self.state.offset = 0;
    }

    /// The next `out.len()` bytes of the selected item; zeros past its end.
    fn take(&mut self, out: &mut [u8]) {
        let item = self.items.iter().find(|i| i.0 == self.state.selected);
        out.fill(0);
        if let Some((_, item)) = item {
            item.read(self.state.offset.into(), out);
        }
        self.skip(u32::try_from(out.len()).unwrap_or(u32::MAX));
    }

    const fn skip(&mut self, by: u32) {
        self.state.offset = self.state.offset.saturating_add(by);
    }

    /// Does what the control block at `at` says and writes the outcome into it. One that cannot be
    /// read has nowhere to put an error.
    fn transfer(&mut self, at: u64) {
        let mut block = [0; 16];
        if self.dma.read(Iova(at), &mut block).is_err() {
            return;
        }
        let block = u128::from_be_bytes(block);
        let field = |shift: u32, bits: u32| {
            let mask = u64::MAX
                .checked_shr(64_u32.saturating_sub(bits))
                .unwrap_or(0);
            u64::try_from(block.wrapping_shr(shift) & u128::from(mask)).unwrap_or_default()
        };
        let control = u32::try_from(field(96, 32)).unwrap_or_default();
        let length = u32::try_from(field(64, 32)).unwrap_or_default();
        if control & SELECT != 0 {
            self.select(u16::try_from(control >> 16).unwrap_or_default());
        }
        let done = if control & READ != 0 {
            self.copy_out(field(0, 64), length)
        } else if control & WRITE != 0 {
            length == 0
        } else {
            if control & SKIP != 0 {
                self.skip(length);
            }
            true
        };
        let outcome = if done { 0 } else { ERROR };
        let _ = self.dma.write(Iova(at), &outcome.to_be_bytes());
    }

    /// Copies `length` bytes of the item to memory; whether there was memory.
    fn copy_out(&mut self, mut to: u64, length: u32) -> bool {
        let mut left = usize::try_from(length).unwrap_or(0);
        let mut chunk = [0; CHUNK];
        while left > 0 {
            let Some(part) = chunk.get_mut(..left.min(CHUNK)) else {
                return false;
            };
            self.take(part);
            let len = part.len();
            if self.dma.write(Iova(to), part).is_err() {
                return false;
            }
            to = to.wrapping_add(len as u64);
            left = left.saturating_sub(len);
        }
        true
    }

    fn write_address(&mut self, at: Access, value: u64) -> Answer<()> {
        let Ok(value) = u32::try_from(value) else {
            return Err(Refusal::BadWidth);
        };
        match (at.offset, at.width) {
            (0, Width::Dword) => self.state.high = value.swap_bytes(),
            (DMA_LOW, Width::Dword) => {
                let high = std::mem::take(&mut self.state.high);
                self.transfer(u64::from(high) << 32 | u64::from(value.swap_bytes()));
            }
            _ => return Err(Refusal::BadWidth),
        }
        Ok(())
    }
}

impl Device for FwCfg {
    fn label(&self) -> &'static str {
        "fw-cfg"
    }

    fn windows(&self) -> Vec<Window> {
        let window = |id, name, base, len| Window {
            id,
            name,
            space: Space::Pio,
            base: Some(base),
            len,
        };
        vec![
            window(REGISTERS, "selector, data", BASE, 2),
            window(DMA_ADDRESS, "DMA address", DMA_BASE, 8),
        ]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        match (at.window, at.offset, at.width) {
            (REGISTERS, DATA, Width::Byte) => {
                let mut byte = [0];
                self.take(&mut byte);
                Ok(byte[0].into())
            }
            (REGISTERS, SELECTOR, _) => Err(Refusal::NoSuchRegister),
            (REGISTERS, ..) => Err(Refusal::BadWidth),
            _ => Ok(super::lanes::read(at, |offset| {
                let bytes = DMA_SIGNATURE.to_be_bytes();
                let index = usize::try_from(offset).unwrap_or(usize::MAX);
                bytes.get(index).copied().unwrap_or(0xff)
            })),
        }
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        match (at.window, at.offset, at.width) {
            (REGISTERS, SELECTOR, Width::Word) => {
                self.select(u16::try_from(value & 0xffff).unwrap_or_default());
                Ok(())
            }
            // Items cannot be written this way any more; the byte is dropped, as QEMU does.
            (REGISTERS, DATA, Width::Byte) => Ok(()),
            (REGISTERS, ..) => Err(Refusal::BadWidth),
            _ => self.write_address(at, value),
        }
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        self.state = state::load(self.label(), saved)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::{at, effects_of_write};
    use crate::mem::{Gpa, GuestRam, HugePages};

    fn blob(bytes: &[u8]) -> FwCfgBlob {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        FwCfgBlob::new(file, bytes.len() as u64)
    }

    fn rig() -> (GuestRam, FwCfg) {
        let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
        let facts = FwCfgFacts {
            cpus: 3,
            ram: vec![
                FwCfgRam {
                    base: 0,
                    len: 3 << 30,
                },
                FwCfgRam {
                    base: 1 << 32,
                    len: 1 << 30,
                },
            ],
            cmdline: "x.flat one".into(),
            kernel: Some(blob(b"kernel")),
            initrd: Some(blob(&[7; 5000])),
        };
        let device = FwCfg::new(&facts, Dma::platform(ram.clone()));
        (ram, device)
    }

    fn item(device: &mut FwCfg, key: u16, len: usize) -> Vec<u8> {
        effects_of_write(device, SELECTOR, Width::Word, key.into());
        let read = |_| {
            device
                .read(at(DATA, Width::Byte), &mut Effects::new())
                .unwrap()
        };
        (0..len)
            .map(read)
            .map(|byte| u8::try_from(byte).unwrap())
            .collect()
    }

    /// Runs a control block that lies at 0x1000 and returns what becomes of its control word.
    fn dma(ram: &GuestRam, device: &mut FwCfg, control: u32, length: u32, address: u64) -> u32 {
        let mut block = control.to_be_bytes().to_vec();
        block.extend(length.to_be_bytes());
        block.extend(address.to_be_bytes());
        ram.write(Gpa(0x1000), &block).unwrap();
        let low = Access {
            window: DMA_ADDRESS,
            ..at(DMA_LOW, Width::Dword)
        };
        let address = u64::from(0x1000_u32.swap_bytes());
        device.write(low, address, &mut Effects::new()).unwrap();
        let mut outcome = [0; 4];
        ram.read(Gpa(0x1000), &mut outcome).unwrap();
        u32::from_be_bytes(outcome)
    }

    #[test]
    fn items_are_read_byte_by_byte_and_end_in_zeros() {
        let (_, mut device) = rig();
        assert_eq!(item(&mut device, SIGNATURE, 6), b"QEMU\0\0");
        assert_eq!(item(&mut device, NB_CPUS, 2), [3, 0]);
        assert_eq!(item(&mut device, RAM_SIZE, 8), (4_u64 << 30).to_le_bytes());
        assert_eq!(item(&mut device, 0x7777, 4), [0; 4], "no such item");
    }

    #[test]
    fn what_is_booted_can_be_read_too() {
        let (ram, mut device) = rig();
        assert_eq!(item(&mut device, CMDLINE_SIZE, 4), [11, 0, 0, 0]);
        assert_eq!(item(&mut device, CMDLINE_DATA, 12), b"x.flat one\0\0");
        assert_eq!(item(&mut device, KERNEL_SIZE, 4), [6, 0, 0, 0]);
        assert_eq!(item(&mut device, KERNEL_DATA, 8), b"kernel\0\0");
        assert_eq!(item(&mut device, INITRD_SIZE, 4), 5000_u32.to_le_bytes());
        // In one go, across the end.
        let select = u32::from(INITRD_DATA) << 16 | SELECT | READ;
        ram.write(Gpa(0x2000), &[0xff; 6000]).unwrap();
        assert_eq!(dma(&ram, &mut device, select, 5500, 0x2000), 0);
        let mut bytes = [0; 6000];
        ram.read(Gpa(0x2000), &mut bytes).unwrap();
        assert_eq!(bytes[..5000], [7; 5000]);
        assert_eq!(bytes[5000..5500], [0; 500]);
        assert_eq!(bytes[5500..], [0xff; 500]);
    }

    #[test]
    fn the_directory_leads_to_the_memory_map() {
        let (_, mut device) = rig();
        let directory = item(&mut device, FILE_DIRECTORY, 68);
        assert_eq!(directory[..4], [0, 0, 0, 1]);
        assert_eq!(directory[4..8], 40_u32.to_be_bytes());
        assert_eq!(&directory[12..21], b"etc/e820\0");
        let key = u16::from_be_bytes([directory[8], directory[9]]);
        let map = item(&mut device, key, 40);
        assert_eq!(map[20..28], (1_u64 << 32).to_le_bytes());
        assert_eq!(map[36..40], [1, 0, 0, 0]);
    }

    #[test]
    fn dma_selects_skips_and_reads() {
        let (ram, mut device) = rig();
        ram.write(Gpa(0x2000), &[0xff; 8]).unwrap();
        assert_eq!(dma(&ram, &mut device, SELECT | SKIP, 2, 0), 0);
        assert_eq!(dma(&ram, &mut device, READ, 6, 0x2000), 0);
        let mut bytes = [0; 8];
        ram.read(Gpa(0x2000), &mut bytes).unwrap();
        assert_eq!(&bytes, b"MU\0\0\0\0\xff\xff");
    }

    #[test]
    fn dma_that_writes_items_or_leaves_ram_ends_in_an_error() {
        let (ram, mut device) = rig();
        assert_eq!(dma(&ram, &mut device, WRITE, 1, 0x2000), ERROR);
        assert_eq!(dma(&ram, &mut device, READ, u32::MAX, 0x2000), ERROR);
        assert_eq!(dma(&ram, &mut device, READ, 1, u64::MAX), ERROR);
    }

    #[test]
    fn the_dma_address_reads_as_a_signature() {
        let (_, mut device) = rig();
        let all = Access {
            window: DMA_ADDRESS,
            ..at(0, Width::Qword)
        };
        let value = device.read(all, &mut Effects::new()).unwrap();
        assert_eq!(&value.to_le_bytes(), b"QEMU CFG");
    }
}
