//! A kernel file, told by its content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;

use super::banner;
use super::bzimage::BzImage;
use super::elf::Elf;
use super::fault::{ImageError, ImageFault};
use super::flat::{FlatImage, Format};
use super::foreign;
use super::multiboot::Multiboot;

/// Enough for every header: a multiboot header lies in the first 8 KiB, the others before that.
const HEAD_LEN: usize = 8192;

/// The container a kernel comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A compressed kernel with a setup header: vmlinuz.
    BzImage,
    /// The kernel itself: vmlinux.
    Elf,
    /// A kernel with a multiboot header, ELF32 or flat.
    Multiboot,
    /// A flat binary, because the user said so.
    Flat,
}

impl Kind {
    /// The name users know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BzImage => "bzImage",
            Self::Elf => "ELF",
            Self::Multiboot => "multiboot",
            Self::Flat => "flat",
        }
    }
}

/// The boot protocols an image can be started by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// The 64-bit entry with `boot_params`.
    pub linux: bool,
    /// The 32-bit entry with `hvm_start_info`.
    pub pvh: bool,
}

#[derive(Debug)]
pub(super) enum Form {
    BzImage(BzImage),
    Elf(Elf),
    Multiboot(Multiboot),
    Flat(FlatImage),
}

/// A kernel file whose headers hold together.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    size: u64,
    form: Form,
}

impl Image {
    /// Opens `path` and reads its headers, nothing more.
    ///
    /// # Errors
    /// [`ImageError`], which says what the file is instead of a kernel that boots here.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        Self::open_as(path, Format::Auto)
    }

    /// The same of a file that is to be read in a format the user names.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open_as(path: impl AsRef<Path>, format: Format) -> Result<Self, ImageError> {
        let path = path.as_ref();
        Self::identify(path, format).map_err(|fault| ImageError {
            path: path.to_owned(),
            fault,
        })
    }

    /// The same of a kernel that is in memory: a bundled payload, or a vmlinux just unpacked. `name`
    /// stands for the path in messages.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self, ImageError> {
        let path = name.as_ref();
        let held = rustix::fs::memfd_create("trapline-kernel", MemfdFlags::CLOEXEC)
            .map(File::from)
            .map_err(io::Error::from)
            .and_then(|file| file.write_all_at(bytes, 0).map(|()| file));
        held.map_err(ImageFault::Open)
            .and_then(|file| Self::of_file(path, file, Format::Auto))
            .map_err(|fault| ImageError {
                path: path.to_owned(),
                fault,
            })
    }

    fn identify(path: &Path, format: Format) -> Result<Self, ImageFault> {
        // Not opened before it is known to be a file: opening a pipe without a writer hangs.
        let about = std::fs::metadata(path).map_err(opening)?;
        if about.is_dir() {
            return Err(ImageFault::Directory);
        }
        if !about.is_file() {
            return Err(ImageFault::NotRegular);
        }
        Self::of_file(path, File::open(path).map_err(opening)?, format)
    }

    fn of_file(path: &Path, file: File, format: Format) -> Result<Self, ImageFault> {
        let size = file.metadata().map_err(ImageFault::Open)?.len();
        if size == 0 {
            return Err(ImageFault::Empty);
        }
        let form = match format {
            Format::Auto => recognise(&file, size)?,
            Format::Flat(flat) => Form::Flat(FlatImage { flat, size }),
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            form,
        })
    }

    /// The file it was opened from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container it comes in.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.form {
            Form::BzImage(_) => Kind::BzImage,
            Form::Elf(_) => Kind::Elf,
            Form::Multiboot(_) => Kind::Multiboot,
            Form::Flat(_) => Kind::Flat,
        }
    }

    /// The protocols it can be started by.
    #[must_use]
    pub const fn protocols(&self) -> Protocols {
        match &self.form {
            Form::BzImage(_) => Protocols {
                linux: true,
                pvh: false,
            },
            Form::Elf(elf) => Protocols {
                linux: true,
                pvh: elf.pvh.is_some(),
            },
            Form::Multiboot(_) | Form::Flat(_) => Protocols {
                linux: false,
                pvh: false,
            },
        }
    }

    /// The kernel's version as its banner gives it: release, builder, build. A bzImage has it in its
    /// header; an ELF file is searched for it, which reads the file.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        match &self.form {
            Form::BzImage(image) => image.version.clone(),
            Form::Elf(elf) => {
                let segments = elf.segments.iter().map(|s| (s.offset, s.file_len));
                banner::find(&self.file, segments)
            }
            Form::Multiboot(_) | Form::Flat(_) => None,
        }
    }

    /// The first word of [`Image::version`], by which /lib/modules goes: `6.1.0-56-amd64`.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        self.version()?.split_whitespace().next().map(str::to_owned)
    }

    /// The file, once more, and its length.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub fn share(&self) -> io::Result<(File, u64)> {
        Ok((self.file.try_clone()?, self.size))
    }

    pub(super) const fn form(&self) -> &Form {
        &self.form
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }
}

/// What a file is, by its content. A kernel that is Linux's or has a PVH note is that first: some carry
/// a multiboot header besides.
fn recognise(file: &File, size: u64) -> Result<Form, ImageFault> {
    let head = read_up_to(file, 0, HEAD_LEN)?;
    if BzImage::recognises(&head) {
        return Ok(Form::BzImage(BzImage::parse(file, &head, size)?));
    }
    if Elf::recognises(&head) {
        let elf = Elf::parse(file, &head, size);
        if elf.as_ref().is_ok_and(|elf| elf.linux || elf.pvh.is_some()) {
            return elf.map(Form::Elf);
        }
        return match (Multiboot::parse(file, &head, size), elf) {
            (Ok(Some(kernel)), _) => Ok(Form::Multiboot(kernel)),
            // Broken as an ELF file says more than what a multiboot header in it would have meant.
            (_, Err(fault @ (ImageFault::Truncated { .. } | ImageFault::BrokenElf { .. }))) => {
                Err(fault)
            }
            (Err(fault), _) | (Ok(None), Err(fault)) => Err(fault),
            (Ok(None), Ok(elf)) => Ok(Form::Elf(elf)),
        };
    }
    match Multiboot::parse(file, &head, size)? {
        Some(kernel) => Ok(Form::Multiboot(kernel)),
        None => Err(foreign::name(&head)),
    }
}

fn opening(error: io::Error) -> ImageFault {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ImageFault::Missing,
        io::ErrorKind::PermissionDenied => ImageFault::Unreadable(error),
        _ => ImageFault::Open(error),
    }
}

/// `len` bytes from `offset`, fewer where the file ends.
pub(super) fn read_up_to(file: &File, offset: u64, len: usize) -> Result<Vec<u8>, ImageFault> {
    let mut bytes = vec![0; len];
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled = filled.saturating_add(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ImageFault::Read(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::synthetic::{Scratch, bzimage, elf, note, put, pvh_note, vmlinux};

    fn fault(bytes: &[u8]) -> ImageFault {
        Image::open(&Scratch::new(bytes).path).unwrap_err().fault
    }

    #[test]
    fn a_bzimage_is_told_by_content_and_gives_its_version() {
        let scratch = Scratch::new(&bzimage(b"payload"));
        let image = scratch.open();
        assert_eq!(image.kind(), Kind::BzImage);
        assert_eq!(
            image.protocols(),
            Protocols {
                linux: true,
                pvh: false
            }
        );
        assert_eq!(image.version().unwrap(), "6.1.0-test (builder@host) #1 SMP");
        assert_eq!(image.release().unwrap(), "6.1.0-test");
    }

    #[test]
    fn a_kernel_in_memory_is_told_by_content_too() {
        let image = Image::from_bytes(":test", &vmlinux(b"")).unwrap();
        assert_eq!(
            (image.kind(), image.path()),
            (Kind::Elf, Path::new(":test"))
        );
        let error = Image::from_bytes(":test", b"text").unwrap_err();
        assert!(
            error.to_string().starts_with("kernel :test: is a text"),
            "{error}"
        );
    }

    #[test]
    fn a_bzimage_without_efi_stub_is_one_too() {
        let mut image = bzimage(b"");
        put(&mut image, 0, &[0xea, 5]);
        assert_eq!(Scratch::new(&image).open().kind(), Kind::BzImage);
    }

    #[test]
    fn a_vmlinux_gives_its_version_and_its_pvh_entry() {
        let image = Scratch::new(&vmlinux(b"")).open();
        assert_eq!(image.kind(), Kind::Elf);
        assert_eq!(
            image.protocols(),
            Protocols {
                linux: true,
                pvh: false
            }
        );
        assert_eq!(image.release().unwrap(), "6.1.0-elf");
        let notes = [note(b"GNU\0", 3, b"0123"), pvh_note(0x10_0000)].concat();
        assert!(Scratch::new(&vmlinux(&notes)).open().protocols().pvh);
        // The same number under another name is not Xen's.
        assert!(
            !Scratch::new(&vmlinux(&note(b"GNU\0", 18, &[0; 8])))
                .open()
                .protocols()
                .pvh
        );
    }

    /// What is wrong with each proper prefix of `image`, longest first.
    fn prefixes(image: &[u8]) -> Vec<(usize, ImageFault)> {
        let scratch = Scratch::new(image);
        let file = File::options().write(true).open(&scratch.path).unwrap();
        let fault = |len| {
            file.set_len(len as u64).unwrap();
            (len, Image::open(&scratch.path).unwrap_err().fault)
        };
        (0..image.len()).rev().map(fault).collect()
    }

    #[test]
    fn every_prefix_of_a_bzimage_is_a_clean_error() {
        for (len, fault) in prefixes(&bzimage(b"the payload")) {
            let clean = match len {
                0 => matches!(fault, ImageFault::Empty),
                // The letters M and MZ.
                1 | 2 => matches!(fault, ImageFault::Text),
                _ => matches!(fault, ImageFault::Truncated { .. }),
            };
            assert!(clean, "{len}: {fault}");
        }
    }

    #[test]
    fn every_prefix_of_a_vmlinux_is_a_clean_error() {
        for (len, fault) in prefixes(&vmlinux(&pvh_note(0x10_0020))) {
            assert!(
                matches!(fault, ImageFault::Truncated { .. } | ImageFault::Empty),
                "{len}: {fault}"
            );
        }
    }

    #[test]
    fn paths_that_are_not_files_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Image::open(path).unwrap_err().to_string();
        let message = open(&dir.path().join("nothing"));
        assert!(message.contains("nothing: no such file"), "{message}");
        assert!(open(dir.path()).contains("is a directory"));
        assert!(open(Path::new("/dev/null")).contains("not a regular file"));
        assert!(matches!(fault(b""), ImageFault::Empty));
        assert!(matches!(
            fault(b"#!/bin/sh\necho hello\n"),
            ImageFault::Text
        ));
    }

    #[test]
    fn a_file_this_user_may_not_read_says_what_to_do() {
        let error = opening(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(error.to_string().contains("may not read"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn other_machines_kernels_are_named() {
        let with = |at: usize, value: &[u8]| {
            let mut image = vmlinux(b"");
            put(&mut image, at, value);
            fault(&image).to_string()
        };
        assert!(with(18, &183_u16.to_le_bytes()).contains("arm64"));
        assert!(with(5, &[2]).contains("big-endian"));
        let mut i386 = vmlinux(b"");
        put(&mut i386, 4, &[1]);
        put(&mut i386, 18, &3_u16.to_le_bytes());
        let message = fault(&i386).to_string();
        assert!(
            message.contains("32-bit i386") && message.contains("CONFIG_64BIT"),
            "{message}"
        );
        assert!(with(16, &1_u16.to_le_bytes()).contains("kernel module"));
        assert!(with(64, &3_u32.to_le_bytes()).contains("program"));
    }

    #[test]
    fn bzimages_without_the_64_bit_entry_say_which_one_would_do() {
        let with = |at: usize, value: &[u8]| {
            let mut image = bzimage(b"");
            put(&mut image, at, value);
            fault(&image).to_string()
        };
        assert!(with(0x236, &[0]).contains("CONFIG_64BIT"));
        assert!(with(0x206, &0x020b_u16.to_le_bytes()).contains("protocol 2.11"));
        assert!(with(0x211, &[0]).contains("zImage"));
    }

    #[test]
    fn a_version_pointer_outside_the_setup_part_is_no_version() {
        let mut image = bzimage(b"");
        put(&mut image, 0x20e, &0xffff_u16.to_le_bytes());
        assert_eq!(Scratch::new(&image).open().version(), None);
    }

    #[test]
    fn elf_headers_that_contradict_each_other_are_refused() {
        let broken = |at: usize, value: &[u8]| {
            let mut image = vmlinux(b"");
            put(&mut image, at, value);
            let fault = fault(&image);
            assert!(
                matches!(
                    fault,
                    ImageFault::BrokenElf { .. } | ImageFault::Truncated { .. }
                ),
                "{fault}"
            );
        };
        broken(54, &55_u16.to_le_bytes());
        broken(56, &0_u16.to_le_bytes());
        broken(56, &u16::MAX.to_le_bytes());
        broken(32, &u64::MAX.to_le_bytes());
        for field in [8, 24, 32, 40] {
            broken(64 + field, &u64::MAX.to_le_bytes());
        }
        assert!(matches!(fault(&elf(0, &[])), ImageFault::BrokenElf { .. }));
    }
}
