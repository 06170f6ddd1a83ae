//! What a dynamic ELF program says it needs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::elf::{
    self, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_STRSZ, DT_STRTAB, EM_X86_64, FileHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, StringTable};

use super::InitramfsError;

/// The dynamic section of an x86-64 program or library, as far as ld.so searches by it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// `PT_INTERP`: only programs have one.
    pub(super) interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub(super) needed: Vec<String>,
    /// `DT_RPATH`, which counts only where there is no `DT_RUNPATH`.
    pub(super) rpath: Option<String>,
    /// `DT_RUNPATH`.
    pub(super) runpath: Option<String>,
}

impl Program {
    /// Reads a file; none when it is no dynamic x86-64 ELF file.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Option<Self>, InitramfsError> {
        if !bytes.starts_with(&elf::ELFMAG) {
            return Ok(None);
        }
        parse(bytes).map_err(|reason| InitramfsError::Elf {
            path: path.to_owned(),
            reason,
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Program>, &'static str> {
    // Another class or another machine: a file like any other here.
    let Ok(header) = FileHeader64::<Endianness>::parse(bytes) else {
        return Ok(None);
    };
    let Ok(endian) = header.endian() else {
        return Ok(None);
    };
    if header.e_machine(endian) != EM_X86_64 {
        return Ok(None);
    }
    let segments = header
        .program_headers(endian, bytes)
        .map_err(|_| "its program headers lie outside the file")?;
    let mut program = Program::default();
    let mut entries = None;
    for segment in segments {
        let interpreter = segment
            .interpreter(endian, bytes)
            .map_err(|_| "its interpreter's name lies outside the file")?;
        if let Some(name) = interpreter {
            program.interpreter = Some(text(name)?);
        }
        let dynamic = segment
            .dynamic(endian, bytes)
            .map_err(|_| "its dynamic section lies outside the file")?;
        entries = entries.or(dynamic);
    }
    let Some(entries) = entries else {
        return Ok(None);
    };
    let value = |tag: u32| {
        let mut found = entries.iter().filter(move |e| e.tag32(endian) == Some(tag));
        found.next().map(|e| e.d_val(endian))
    };
    let (Some(address), Some(size)) = (value(DT_STRTAB), value(DT_STRSZ)) else {
        return Ok(Some(program));
    };
    let strings = segments
        .iter()
        .find_map(|segment| segment.data_range(endian, bytes, address, size).ok()?)
        .map(|data| StringTable::new(data, 0, data.len() as u64))
        .ok_or("its dynamic strings lie outside the file")?;
    for entry in entries {
        let Some(tag) = entry.tag32(endian) else {
            continue;
        };
        if tag == DT_NULL {
            break;
        }
        if !matches!(tag, DT_NEEDED | DT_RPATH | DT_RUNPATH) {
            continue;
        }
        let name = u32::try_from(entry.d_val(endian))
            .ok()
            .and_then(|offset| strings.get(offset).ok())
            .ok_or("a name in its dynamic section lies outside the file")?;
        let name = text(name)?;
        match tag {
            DT_NEEDED => program.needed.push(name),
            DT_RPATH => program.rpath = Some(name),
            _ => program.runpath = Some(name),
        }
    }
    Ok(Some(program))
}

fn text(bytes: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name in it is no UTF-8")
}

/// Whether `path` is an x86-64 program that runs without an interpreter and libraries, such as a
/// busybox that can be packed alone.
#[must_use]
pub fn is_static_elf(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    if read.is_err() {
        return false;
    }
    let Ok(header) = FileHeader64::<Endianness>::parse(&*bytes) else {
        return false;
    };
    let Ok(endian) = header.endian() else {
        return false;
    };
    let runs = matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN)
        && header.e_machine(endian) == EM_X86_64
        && header.e_entry(endian) != 0;
    let alone = parse(&bytes).is_ok_and(|program| {
        program.is_none_or(|p| p.interpreter.is_none() && p.needed.is_empty())
    });
    runs && alone
}
