//! Names for addresses in a kernel: from System.map, from a vmlinux's symbol table, or from the
//! tables that a kernel carries for its own oops messages.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, ReadCache, SymbolKind};

use super::kallsyms;

/// Past the last symbol nothing is known; an address this far beyond one is not in it.
const FARTHEST: u64 = 1 << 20;

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub enum SymbolsError {
    /// The file cannot be read.
    #[error("cannot read symbols from {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not ELF.
    #[error("cannot read symbols from {}: it is not a 64-bit ELF file", path.display())]
    NotElf {
        /// The file.
        path: PathBuf,
        /// Why.
        source: object::Error,
    },
    /// Neither a symbol table nor kallsyms.
    #[error(
        "{} has neither a symbol table nor kallsyms; build with CONFIG_KALLSYMS=y, or do not strip it",
        path.display()
    )]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// A line of System.map that is not one.
    #[error("line {line} of System.map is not `ADDRESS TYPE NAME`")]
    BadLine {
        /// Its number, from 1.
        line: usize,
    },
    /// Debian's System.map is a pointer to another package.
    #[error(
        "this System.map holds no symbols; Debian keeps the real one in linux-image-VERSION-dbg, and \
         the kernel image has them too, as kallsyms"
    )]
    Placeholder,
}

/// One symbol; its name is a piece of the text that all share.
#[derive(Debug, Clone, Copy)]
struct Entry {
    address: u64,
    /// Its length, 0 where the source does not say.
    size: u64,
    name: (usize, usize),
}

/// A kernel's symbols, by address.
#[derive(Debug, Clone)]
pub struct Symbols {
    text: String,
    entries: Vec<Entry>,
    /// What KASLR added to every address.
    slide: i64,
}

impl Symbols {
    /// From the text of a System.map, or of a guest's /proc/kallsyms.
    ///
    /// # Errors
    /// [`SymbolsError`] when a line is something else, or there are no symbols.
    pub fn from_system_map(text: &str) -> Result<Self, SymbolsError> {
        let mut found = Builder::default();
        for (number, line) in (1_usize..=usize::MAX).zip(text.lines()) {
            let mut words = line.split_ascii_whitespace();
            let parts = (words.next(), words.next(), words.next());
            let (address, kind, name) = match parts {
                (None, ..) => continue,
                (Some(address), Some(kind), Some(name)) if kind.len() == 1 => {
                    (u64::from_str_radix(address, 16), kind, name)
                }
                _ => return Err(SymbolsError::BadLine { line: number }),
            };
            let address = address.map_err(|_| SymbolsError::BadLine { line: number })?;
            // Its text starts with "The real System.map is in".
            if address == u64::MAX && name == "The" {
                return Err(SymbolsError::Placeholder);
            }
            found.add(address, 0, name, kind != "A" && kind != "a");
        }
        found.finish().ok_or(SymbolsError::Placeholder)
    }

    /// From the symbol table of an ELF file, else from its kallsyms. Only the sections needed are
    /// read, for a vmlinux with debug information has hundreds of MiB.
    ///
    /// # Errors
    /// [`SymbolsError`] when the file is something else, or has neither.
    pub fn from_vmlinux(path: impl AsRef<Path>) -> Result<Self, SymbolsError> {
        let path = path.as_ref();
        let reading = |source| SymbolsError::Read {
            path: path.to_owned(),
            source,
        };
        let cache = ReadCache::new(File::open(path).map_err(reading)?);
        let elf = ElfFile64::<object::LittleEndian, _>::parse(&cache).map_err(|source| {
            SymbolsError::NotElf {
                path: path.to_owned(),
                source,
            }
        })?;
        let mut found = Builder::default();
        for symbol in elf.symbols() {
            // Absolute ones are constants, not places; file and section symbols have no place.
            let useful = symbol.section_index().is_some()
                && matches!(
                    symbol.kind(),
                    SymbolKind::Text | SymbolKind::Data | SymbolKind::Label | SymbolKind::Unknown
                );
            if let (true, Ok(name)) = (useful, symbol.name()) {
                found.add(symbol.address(), symbol.size(), name, true);
            }
        }
        if let Some(symbols) = found.finish() {
            return Ok(symbols);
        }
        let bytes = std::fs::read(path).map_err(reading)?;
        Self::from_kallsyms(&bytes).ok_or_else(|| SymbolsError::NoTable {
            path: path.to_owned(),
        })
    }

    /// From the kallsyms tables in the bytes of a vmlinux, as [`super::vmlinux::extract`] gives them.
    #[must_use]
    pub fn from_kallsyms(vmlinux: &[u8]) -> Option<Self> {
        let mut found = Builder::default();
        kallsyms::find(vmlinux, &mut |address, kind, name| {
            found.add(address, 0, name, !kind.eq_ignore_ascii_case(&b'a'));
        })?;
        found.finish()
    }

    /// The same symbols for a kernel that runs `slide` bytes higher than it was linked: KASLR, the
    /// `Kernel Offset` of a panic.
    #[must_use]
    pub fn with_slide(self, slide: i64) -> Self {
        Self { slide, ..self }
    }

    /// The slide at which the symbol `name` is at `address`; a register of the running kernel that
    /// holds an entry point (LSTAR: `entry_SYSCALL_64`) gives KASLR's offset this way.
    #[must_use]
    pub fn slide_of(&self, name: &str, address: u64) -> Option<i64> {
        let found = self.entries.iter().find(|entry| self.name(entry) == name)?;
        Some(address.wrapping_sub(found.address).cast_signed())
    }

    /// Where the symbol `name` is in the running kernel.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<u64> {
        let found = self.entries.iter().find(|entry| self.name(entry) == name)?;
        Some(found.address.wrapping_add_signed(self.slide))
    }

    /// The symbol that `address` of the running kernel lies in, and how far in.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<(&str, u64)> {
        let linked = address.wrapping_sub(self.slide.cast_unsigned());
        let after = self
            .entries
            .partition_point(|entry| entry.address <= linked);
        let nearest = self.entries.get(after.checked_sub(1)?)?.address;
        // Of several names of one address the first stands for it.
        let first = self
            .entries
            .partition_point(|entry| entry.address < nearest);
        let found = self.entries.get(first)?;
        let offset = linked.wrapping_sub(found.address);
        let end = if found.size == 0 {
            FARTHEST
        } else {
            found.size
        };
        (offset < end).then(|| (self.name(found), offset))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn name(&self, entry: &Entry) -> &str {
        let (start, end) = entry.name;
        self.text.get(start..end).unwrap_or_default()
    }
}

#[derive(Default)]
struct Builder {
    text: String,
    entries: Vec<Entry>,
}

impl Builder {
    fn add(&mut self, address: u64, size: u64, name: &str, relocated: bool) {
        if name.is_empty() || !relocated {
            return;
        }
        let start = self.text.len();
        self.text.push_str(name);
        self.entries.push(Entry {
            address,
            size,
            name: (start, self.text.len()),
        });
    }

    fn finish(mut self) -> Option<Symbols> {
        // Per-CPU symbols are offsets from 0: next to the kernel's they name no address.
        let start = self.address_of("_text").unwrap_or(0);
        self.entries.retain(|entry| entry.address >= start);
        // Of several names of one address, one with a size is a function and not a label.
        self.entries
            .sort_by_key(|entry| (entry.address, entry.size == 0));
        let symbols = Symbols {
            text: self.text,
            entries: self.entries,
            slide: 0,
        };
        (!symbols.is_empty()).then_some(symbols)
    }

    fn address_of(&self, name: &str) -> Option<u64> {
        let named = |entry: &&Entry| self.text.get(entry.name.0..entry.name.1) == Some(name);
        self.entries.iter().find(named).map(|entry| entry.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::synthetic::{Scratch, put, vmlinux};

    const MAP: &str = "\
0000000000000000 A __per_cpu_start
0000000000001000 D cpu_info
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t do_one_thing
ffffffff81000080 T entry_SYSCALL_64
ffffffff82000000 D jiffies
";

    #[test]
    fn an_address_is_named_by_the_symbol_before_it() {
        let symbols = Symbols::from_system_map(MAP).unwrap();
        assert_eq!(
            symbols.lookup(0xffff_ffff_8100_0040),
            Some(("do_one_thing", 0))
        );
        assert_eq!(
            symbols.lookup(0xffff_ffff_8100_007f),
            Some(("do_one_thing", 0x3f))
        );
        assert_eq!(
            symbols.lookup(0xffff_ffff_8100_0010),
            Some(("_stext", 0x10))
        );
        assert_eq!(symbols.lookup(0xffff_ffff_80ff_ffff), None);
        assert_eq!(
            symbols.lookup(0xffff_ffff_c000_0000),
            None,
            "far past the last one"
        );
        assert_eq!(symbols.lookup(u64::MAX), None);
    }

    #[test]
    fn per_cpu_offsets_name_no_address() {
        let symbols = Symbols::from_system_map(MAP).unwrap();
        assert_eq!(symbols.lookup(0x1000), None);
        assert_eq!(symbols.len(), 5);
    }

    #[test]
    fn a_slide_found_from_one_entry_point_moves_every_symbol() {
        let symbols = Symbols::from_system_map(MAP).unwrap();
        let slide = symbols
            .slide_of("entry_SYSCALL_64", 0xffff_ffff_9a20_0080)
            .unwrap();
        assert_eq!(slide, 0x1920_0000);
        let symbols = symbols.with_slide(slide);
        assert_eq!(
            symbols.lookup(0xffff_ffff_9a20_0044),
            Some(("do_one_thing", 4))
        );
        assert_eq!(symbols.address_of("_text"), Some(0xffff_ffff_9a20_0000));
        assert_eq!(symbols.lookup(0xffff_ffff_8100_0044), None);
        let down = symbols.with_slide(-0x100_0000);
        assert_eq!(
            down.lookup(0xffff_ffff_8000_0044),
            Some(("do_one_thing", 4))
        );
    }

    #[test]
    fn lines_of_something_else_are_refused_by_number() {
        let error = Symbols::from_system_map("ffffffff81000000 T _text\n# CONFIG_X=y\n");
        assert!(error.unwrap_err().to_string().contains("line 2"));
        let stub = "ffffffffffffffff B The real System.map is in the linux-image-6.1-dbg package\n";
        let message = Symbols::from_system_map(stub).unwrap_err().to_string();
        assert!(message.contains("-dbg"), "{message}");
    }

    #[test]
    fn the_symbols_of_this_very_program_are_read_from_its_elf_file() {
        let symbols = Symbols::from_vmlinux("/proc/self/exe").unwrap();
        // Cargo links tests with their symbols; main is the one that every program has.
        let main = symbols.address_of("main").unwrap();
        assert_eq!(symbols.lookup(main).map(|(_, offset)| offset), Some(0));
        assert_eq!(symbols.lookup(main + 1), Some(("main", 1)));
    }

    #[test]
    fn a_file_without_any_symbols_says_what_to_build() {
        let scratch = Scratch::new(&vmlinux(b""));
        let message = Symbols::from_vmlinux(&scratch.path)
            .unwrap_err()
            .to_string();
        assert!(message.contains("CONFIG_KALLSYMS=y"), "{message}");
        let mut broken = vmlinux(b"");
        put(&mut broken, 40, &u64::MAX.to_le_bytes());
        for bytes in [&b"text"[..], &broken] {
            let _ = Symbols::from_vmlinux(&Scratch::new(bytes).path).unwrap_err();
        }
    }
}
