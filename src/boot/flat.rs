//! Flat binaries: no header, so whoever starts one says how (`--format`).

use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use linux_loader::loader::bootparam::setup_header;

use crate::mem::{Gpa, GuestRam, HOLE_START};

use super::e820::{self, LEGACY_HOLE};
use super::elf::Segment;
use super::linux;
use super::load::{LoadRequest, Start};
use super::load_error::LoadError;
use super::place::Span;
use super::plan::{check_cmdline, low_ram_end, place_initrd_of};
use super::segments;

/// Where a BIOS loads a boot sector.
const LOAD_16: u64 = 0x7c00;
/// Where 64-bit code goes unless told: clear of everything below 1 MiB.
const LOAD_64: u64 = 0x10_0000;

/// The mode a flat binary starts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlatMode {
    /// Real mode, as a boot sector.
    Real16,
    /// 64-bit mode with the low 4 GiB mapped one to one and `boot_params` in RSI.
    Long64,
}

/// How to start a flat binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flat {
    /// The mode it starts in.
    pub mode: FlatMode,
    /// Where its first byte goes.
    pub load: u64,
    /// Where it starts.
    pub entry: u64,
}

/// How a kernel file is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// By its content.
    #[default]
    Auto,
    /// As a flat binary, whatever is in it.
    Flat(Flat),
}

/// Text that is not a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFormat {
    /// No format of that name.
    #[error(
        "there is no format {0:?}; there are: auto, flat16, flat64 (ELF, bzImage and multiboot are \
             told by content)"
    )]
    Name(String),
    /// Nothing that can be said of it.
    #[error("a flat format has no option {0:?}; it has: load=ADDRESS, entry=ADDRESS")]
    Option(String),
    /// Not a number.
    #[error("{0:?} is not an address; write it like 0x7c00")]
    Address(String),
}

impl FromStr for Format {
    type Err = BadFormat;

    fn from_str(text: &str) -> Result<Self, BadFormat> {
        let mut words = text.split(',');
        let (mode, default) = match words.next() {
            Some("auto") if text == "auto" => return Ok(Self::Auto),
            Some("flat16") => (FlatMode::Real16, LOAD_16),
            Some("flat64") => (FlatMode::Long64, LOAD_64),
            name => return Err(BadFormat::Name(name.unwrap_or_default().into())),
        };
        let (mut load, mut entry) = (default, None);
        for option in words {
            match option.split_once('=') {
                Some(("load", value)) => load = address(value)?,
                Some(("entry", value)) => entry = Some(address(value)?),
                _ => return Err(BadFormat::Option(option.into())),
            }
        }
        let entry = entry.unwrap_or(load);
        Ok(Self::Flat(Flat { mode, load, entry }))
    }
}

fn address(text: &str) -> Result<u64, BadFormat> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| BadFormat::Address(text.into()))
}

/// A flat binary of a known size.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlatImage {
    pub(super) flat: Flat,
    pub(super) size: u64,
}

impl FlatImage {
    fn span(&self) -> Result<Span, LoadError> {
        let start = self.flat.load;
        Span::new(start, self.size).ok_or(LoadError::KernelMisplaced {
            start,
            end: u64::MAX,
            why: "which wraps",
        })
    }

    /// Puts it, and in 64-bit mode what the Linux protocol hands over, into `ram`.
    pub(super) fn load(
        &self,
        ram: &GuestRam,
        (file, path): (&File, &Path),
        request: &LoadRequest<'_>,
    ) -> Result<Start, LoadError> {
        let span = self.span()?;
        let Flat { mode, entry, .. } = self.flat;
        let ram_end = low_ram_end(ram);
        let Span { start, end } = span;
        let misplaced = |why| LoadError::KernelMisplaced { start, end, why };
        if mode == FlatMode::Real16 && end > LEGACY_HOLE.start {
            return Err(misplaced("beyond the 640 KiB that real mode has for RAM"));
        }
        if end > HOLE_START {
            return Err(misplaced(
                "beyond the 3 GiB of RAM that lie below the device hole",
            ));
        }
        if end > ram_end {
            return Err(LoadError::KernelTooLarge { end, ram_end });
        }
        if span.overlaps(LEGACY_HOLE) {
            return Err(misplaced("over the hole at 0xa0000..0x100000 of every PC"));
        }
        if !span.contains(entry) {
            return Err(LoadError::EntryOutside { entry });
        }
        let segment = Segment {
            offset: 0,
            file_len: self.size,
            memory: span,
        };
        match mode {
            FlatMode::Real16 => {
                if request.initrd.is_some() {
                    return Err(LoadError::InitrdOfFlat16);
                }
                segments::read(ram, file, path, &[segment])?;
                Ok(real_mode(start, entry))
            }
            FlatMode::Long64 => {
                let places = &request.places;
                if places.spans().any(|(_, place)| place.overlaps(span)) {
                    return Err(misplaced("over the structures handed to it below 640 KiB"));
                }
                let header = linux::header_of_elf();
                check_cmdline(request.cmdline, header.cmdline_size)?;
                let initrd = place_initrd_of(&[span], header.initrd_addr_max, ram, request)?;
                segments::read(ram, file, path, &[segment])?;
                hand_over(ram, request, header, initrd)?;
                Ok(Start::Long64 {
                    rip: entry,
                    rsi: places.boot_params.0,
                })
            }
        }
    }
}

/// Segments of zero where the entry is within reach, as a BIOS leaves them; the stack grows down from
/// where the code begins.
fn real_mode(load: u64, entry: u64) -> Start {
    let word = |value: u64| u16::try_from(value & 0xffff).unwrap_or_default();
    let cs = match entry {
        0..0x1_0000 => 0,
        _ => word(entry >> 4 & 0xf000),
    };
    Start::Real16 {
        cs,
        ip: word(entry.wrapping_sub(u64::from(cs) << 4)),
        sp: word(load.min(0xfffe)),
    }
}

fn hand_over(
    ram: &GuestRam,
    request: &LoadRequest<'_>,
    header: setup_header,
    initrd: Option<Span>,
) -> Result<(), LoadError> {
    let map = e820::map(ram.regions(), request.reserved).ok_or(LoadError::MapTooLong)?;
    let cmdline = request.places.cmdline;
    let text = [request.cmdline.as_bytes(), &[0]].concat();
    ram.write(cmdline, &text)
        .map_err(|source| LoadError::Write {
            what: "command line",
            source,
        })?;
    if let (Some(span), Some(initrd)) = (initrd, request.initrd) {
        initrd.read_to(ram, Gpa(span.start))?;
    }
    linux::write(
        ram,
        request.places.boot_params,
        &linux::Handover {
            header,
            cmdline,
            initrd,
            rsdp: request.rsdp,
            map: &map,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::synthetic::{Scratch, ram, request};
    use crate::boot::{Image, Initrd, load};

    fn start(text: &str, bytes: &[u8], request: &LoadRequest<'_>) -> Result<Start, String> {
        let scratch = Scratch::new(bytes);
        let image = Image::open_as(&scratch.path, text.parse().unwrap()).unwrap();
        load(&ram(8), &image, request).map_err(|error| error.to_string())
    }

    #[test]
    fn a_format_is_a_mode_with_addresses() {
        let flat = |mode, load, entry| Ok(Format::Flat(Flat { mode, load, entry }));
        assert_eq!("auto".parse(), Ok(Format::Auto));
        assert_eq!("flat16".parse(), flat(FlatMode::Real16, 0x7c00, 0x7c00));
        assert_eq!(
            "flat64,entry=0x200010,load=2097152".parse(),
            flat(FlatMode::Long64, 0x20_0000, 0x20_0010)
        );
        for (text, says) in [
            ("flat32", "flat16, flat64"),
            ("auto,entry=1", "there is no format"),
            ("flat16,org=1", "load=ADDRESS"),
            ("flat16,entry=7c00h", "not an address"),
            ("flat16,entry=0x1ffffffffffffffff", "not an address"),
        ] {
            let error = text.parse::<Format>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn real_mode_starts_in_segment_0_while_that_reaches() {
        let real = |cs, ip, sp| Ok(Start::Real16 { cs, ip, sp });
        assert_eq!(
            start("flat16", &[0xf4], &request()),
            real(0, 0x7c00, 0x7c00)
        );
        assert_eq!(
            start("flat16,load=0x10000,entry=0x10002", &[0xf4; 4], &request()),
            real(0x1000, 2, 0xfffe)
        );
        assert_eq!(
            start("flat16,load=0x8fff0", &[0xf4; 4], &request()),
            real(0x8000, 0xfff0, 0xfffe)
        );
    }

    #[test]
    fn a_64_bit_binary_gets_boot_params_and_an_initrd() {
        let disk = Initrd::from_bytes(&[1; 100]).unwrap();
        let asked = LoadRequest {
            initrd: Some(&disk),
            ..request()
        };
        let started = start("flat64,entry=0x100001", &[0xf4; 4], &asked);
        let rsi = request().places.boot_params.0;
        assert_eq!(
            started,
            Ok(Start::Long64 {
                rip: 0x10_0001,
                rsi
            })
        );
        let error = start("flat16", &[0xf4], &asked).unwrap_err();
        assert!(error.contains("--initrd"), "{error}");
    }

    #[test]
    fn addresses_outside_what_the_mode_reaches_are_refused() {
        for (text, says) in [
            ("flat16,load=0x9fffd", "640 KiB"),
            ("flat64,load=0x9fffd", "0xa0000"),
            ("flat64,load=0x7000", "handed to it"),
            ("flat64,load=0xbffffffe", "device hole"),
            ("flat64,load=0xffffffffffffffff", "wraps"),
            ("flat64,load=0x7ffffe", "--mem 9"),
            ("flat64,entry=0x100004", "none of its loaded segments"),
            ("flat16,entry=0", "none of its loaded segments"),
        ] {
            let error = start(text, &[0xf4; 4], &request()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
