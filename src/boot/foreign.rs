//! Files that are not kernels, told by their first bytes, so that the error can say what they are.

use super::fault::ImageFault;

/// Compressed formats: magic, name, command that unpacks it.
const COMPRESSED: [(&[u8], &str, &str); 8] = [
    (b"\x1f\x8b", "gzip", "gzip -d"),
    (b"\xfd7zXZ\0", "xz", "xz -d"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"),
    (b"\x02\x21\x4c\x18", "lz4", "lz4 -d"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
    (b"BZh", "bzip2", "bzip2 -d"),
    (b"\x5d\0\0", "lzma", "xz --format=lzma -d"),
    (b"\x89LZO\0\r\n\x1a\n", "lzop", "lzop -d"),
];

/// newc, newc with checksums, and the old portable format.
const CPIO: [&[u8]; 3] = [b"070701", b"070702", b"070707"];

/// `image_type_magic` of Documentation/arch/{arm64/booting,riscv/boot-image-header}.rst, at 0x38.
const IMAGE_MAGIC: [(&[u8], &str); 2] = [(b"ARM\x64", "arm64"), (b"RSC\x05", "RISC-V")];

/// Where the magic of the setup header ends.
const SETUP_HEADER_END: usize = 0x206;

/// What a file that is neither a bzImage nor ELF is.
pub(super) fn name(head: &[u8]) -> ImageFault {
    if CPIO.iter().any(|magic| head.starts_with(magic)) {
        return ImageFault::Initramfs;
    }
    if let Some((_, format, tool)) = COMPRESSED
        .iter()
        .find(|(magic, ..)| head.starts_with(magic))
    {
        return ImageFault::Compressed { format, tool };
    }
    let at_0x38 = head.get(0x38..).unwrap_or_default();
    if let Some((_, machine)) = IMAGE_MAGIC
        .iter()
        .find(|(magic, _)| at_0x38.starts_with(magic))
    {
        return ImageFault::Machine { machine };
    }
    if is_text(head) {
        return ImageFault::Text;
    }
    if head.starts_with(b"MZ") {
        let have = head.len() as u64;
        // Too short to tell a bzImage with an EFI stub from another EFI program.
        return match head.get(..SETUP_HEADER_END) {
            Some(_) => ImageFault::Efi,
            None => ImageFault::Truncated {
                part: "the setup header",
                need: SETUP_HEADER_END as u64,
                have,
            },
        };
    }
    if head.get(0x1fe..0x200) == Some(b"\x55\xaa") {
        return ImageFault::BootSector;
    }
    let start = head
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>();
    ImageFault::Unknown {
        start: start.join(" "),
    }
}

/// UTF-8 without control characters other than white space. The last character may be cut.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            let whole = head.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_control() || c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_is_sent_to_the_initrd_flag() {
        let message = name(b"070701000002D1000041ED").to_string();
        assert!(
            message.contains("initramfs") && message.contains("--initrd"),
            "{message}"
        );
    }

    #[test]
    fn compressed_files_name_the_tool_that_unpacks_them() {
        for (magic, format, tool) in COMPRESSED {
            let message = name(&[magic, &[0x80, 0x01, 0xff, 0]].concat()).to_string();
            assert!(
                message.contains(format) && message.contains(tool),
                "{message}"
            );
        }
    }

    #[test]
    fn an_arm64_image_is_not_taken_for_an_efi_program() {
        let mut head = vec![0; 0x400];
        head[..2].copy_from_slice(b"MZ");
        assert!(matches!(name(&head), ImageFault::Efi));
        head[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let message = name(&head).to_string();
        assert!(
            message.contains("arm64") && message.contains("x86-64"),
            "{message}"
        );
    }

    #[test]
    fn text_with_a_character_cut_at_the_end_is_still_text() {
        assert!(matches!(name("# CONFIG_ö".as_bytes()), ImageFault::Text));
        assert!(matches!(name(&"für".as_bytes()[..2]), ImageFault::Text));
        assert!(matches!(name(b"text\0"), ImageFault::Unknown { .. }));
    }

    #[test]
    fn unknown_content_shows_its_first_bytes() {
        assert!(
            name(&[0xde, 0xad, 0, 1])
                .to_string()
                .contains("de ad 00 01")
        );
    }
}
