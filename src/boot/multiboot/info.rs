//! The multiboot information that the kernel finds through EBX (specification 0.6.96, section 3.3).

use crate::boot::e820;
use crate::boot::place::Span;

/// `MULTIBOOT_BOOTLOADER_MAGIC`: what EAX holds at the entry.
pub(super) const LOADER_MAGIC: u32 = 0x2bad_b002;

/// Fields that are there. kvm-unit-tests reads +8, +16, +20 and +24 whatever these say.
const MEMORY: u32 = 1 << 0;
const CMDLINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;
const MEMORY_MAP: u32 = 1 << 6;
const LOADER_NAME: u32 = 1 << 9;

/// Through `boot_loader_name`.
const INFO_LEN: usize = 88;
/// `size` of a map entry does not count itself.
const MAP_ENTRY: u32 = 20;
const NAME: &[u8] = b"Trapline\0";

/// A module in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlacedModule<'a> {
    pub(super) span: Span,
    pub(super) string: &'a str,
}

/// Everything the structure tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) cmdline: &'a str,
    pub(super) modules: &'a [PlacedModule<'a>],
    pub(super) map: &'a [e820::Entry],
    /// First address after the RAM that starts at 0.
    pub(super) ram_end: u64,
}

/// Bytes under construction for a known address.
struct Block {
    at: u32,
    bytes: Vec<u8>,
}

impl Block {
    /// Adds `bytes` and gives their address.
    fn add(&mut self, bytes: &[u8]) -> u32 {
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(bytes);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
        self.at.wrapping_add(offset)
    }

    fn text(&mut self, text: &str) -> u32 {
        self.add(&[text.as_bytes(), &[0]].concat())
    }

    fn set(&mut self, offset: usize, value: u32) {
        let end = offset.saturating_add(4);
        if let Some(field) = self.bytes.get_mut(offset..end) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }
}

fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The structure and all it points to, to lie at `at`. Its length does not depend on where that is.
pub(super) fn build(at: u32, facts: &Facts<'_>) -> Vec<u8> {
    let mut block = Block {
        at,
        bytes: vec![0; INFO_LEN],
    };
    let cmdline = block.text(facts.cmdline);
    let name = block.add(NAME);
    let mut list = Vec::new();
    for module in facts.modules {
        let string = block.text(module.string);
        let fields = [low(module.span.start), low(module.span.end), string, 0];
        list.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    }
    let modules = block.add(&list);
    let mut map = Vec::new();
    for entry in facts.map {
        map.extend(MAP_ENTRY.to_le_bytes());
        map.extend(entry.span.start.to_le_bytes());
        map.extend(entry.span.len().to_le_bytes());
        map.extend(entry.kind.to_le_bytes());
    }
    let map_len = u32::try_from(map.len()).unwrap_or(u32::MAX);
    let map = block.add(&map);

    let kib = |span: Span| low(span.len() >> 10);
    let lower = Span {
        start: 0,
        end: facts.ram_end.min(e820::LEGACY_HOLE.start),
    };
    let upper = Span {
        start: e820::LEGACY_HOLE.end,
        end: facts.ram_end,
    };
    let count = u32::try_from(facts.modules.len()).unwrap_or(u32::MAX);
    let flags = MEMORY | CMDLINE | MODULES | MEMORY_MAP | LOADER_NAME;
    for (offset, value) in [
        (0, flags),
        (4, kib(lower)),
        (8, kib(upper)),
        (16, cmdline),
        (20, count),
        (24, modules),
        (44, map_len),
        (48, map),
        (64, name),
    ] {
        block.set(offset, value);
    }
    block.bytes
}
