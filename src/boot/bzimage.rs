//! The setup header of a bzImage: Documentation/arch/x86/boot.rst.

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::fault::ImageFault;
use super::image::read_up_to;

/// Where the header starts in the file and in `boot_params`.
const HEADER_OFFSET: usize = 0x1f1;
/// "HdrS" at 0x202.
const HDRS: &[u8] = b"HdrS";
const HDRS_OFFSET: usize = 0x202;
/// First version with `xloadflags`.
const VERSION_XLOADFLAGS: u16 = 0x020c;
/// `loadflags`: the protected-mode code is loaded at 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry at 0x200.
const XLF_KERNEL_64: u16 = 1 << 0;
/// What `setup_sects` 0 means.
const DEFAULT_SETUP_SECTS: u8 = 4;
/// No kernel version string is longer than this.
const VERSION_LEN: usize = 512;

/// A bzImage, as far as its headers tell.
#[derive(Debug, Clone)]
pub(super) struct BzImage {
    /// The header with nothing after its own end.
    pub(super) header: setup_header,
    /// Bytes before the protected-mode code: boot sector and setup.
    pub(super) setup_len: u64,
    /// What `kernel_version` points at.
    pub(super) version: Option<String>,
}

impl BzImage {
    /// Whether these first bytes of a file are a bzImage's, whole or not.
    pub(super) fn recognises(head: &[u8]) -> bool {
        head.get(HDRS_OFFSET..)
            .is_some_and(|rest| rest.starts_with(HDRS))
    }

    /// Reads the header of a file that starts with `head` and is `size` bytes long.
    pub(super) fn parse(file: &File, head: &[u8], size: u64) -> Result<Self, ImageFault> {
        let (header, setup_len) = Self::header(head, size)?;
        let version = Self::version(file, &header, setup_len)?;
        Ok(Self {
            header,
            setup_len,
            version,
        })
    }

    /// The header, checked, and the length of the setup part.
    pub(super) fn header(head: &[u8], size: u64) -> Result<(setup_header, u64), ImageFault> {
        // The jump at 0x200 leaps over the header, so its distance is the header's length.
        let jump = head
            .get(HDRS_OFFSET.wrapping_sub(1))
            .copied()
            .unwrap_or_default();
        let end = HDRS_OFFSET.saturating_add(usize::from(jump));
        let truncated = |part, need| ImageFault::Truncated {
            part,
            need,
            have: size,
        };
        let known = HEADER_OFFSET.saturating_add(size_of::<setup_header>());
        let bytes = head
            .get(HEADER_OFFSET..end.min(known))
            .ok_or_else(|| truncated("the setup header", end.min(known) as u64))?;
        let mut header = setup_header::default();
        // What follows a shorter, older header is code; it must not pass for fields.
        for (to, from) in header.as_mut_slice().iter_mut().zip(bytes) {
            *to = *from;
        }
        Self::check(&header)?;

        let sectors = match header.setup_sects {
            0 => DEFAULT_SETUP_SECTS,
            n => n,
        };
        let setup_len = u64::from(sectors).saturating_add(1).saturating_mul(512);
        let code_len = u64::from(header.syssize).saturating_mul(16);
        let need = setup_len.saturating_add(code_len);
        if size < need || code_len == 0 {
            return Err(truncated(
                "the protected-mode code",
                need.max(setup_len.saturating_add(1)),
            ));
        }
        Ok((header, setup_len))
    }

    fn check(header: &setup_header) -> Result<(), ImageFault> {
        let version = header.version;
        if version < VERSION_XLOADFLAGS {
            return Err(ImageFault::OldProtocol { version });
        }
        if header.loadflags & LOADED_HIGH == 0 {
            return Err(ImageFault::ZImage);
        }
        if header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(ImageFault::NoEntry64);
        }
        Ok(())
    }

    /// The string that `kernel_version` plus 0x200 points at, if it lies in the setup part.
    fn version(
        file: &File,
        header: &setup_header,
        setup_len: u64,
    ) -> Result<Option<String>, ImageFault> {
        let at = u64::from(header.kernel_version).saturating_add(0x200);
        if header.kernel_version == 0 || at >= setup_len {
            return Ok(None);
        }
        let text = read_up_to(file, at, VERSION_LEN)?;
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(std::str::from_utf8(text)
            .ok()
            .filter(|t| !t.is_empty())
            .map(str::to_owned))
    }
}
