//! The vmlinux inside a bzImage. scripts/extract-vmlinux searches for magic numbers; the setup header
//! says where the payload is (`payload_offset`, protocol 2.08).

use std::io::{self, Read};

use liblzma::read::XzDecoder;
use liblzma::stream::Stream;

use super::bzimage::BzImage;
use super::fault::ImageFault;

/// No kernel is larger than this unpacked; a header that claims more is damaged.
const MAX_LEN: u32 = 1 << 30;
/// liblzma's own bound on a decoder's memory: xz -9 takes 65 MiB.
const LZMA_MEMORY: u64 = 1 << 30;
/// The uncompressed length: gzip's own trailer, appended by `size_append` of scripts/Makefile.lib to
/// the others.
const SIZE_LEN: usize = 4;
/// Uncompressed length of a full lz4 legacy block.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

/// A bzImage whose vmlinux cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// Not a bzImage at all.
    #[error("cannot extract a vmlinux: the image {0}")]
    NotBzImage(#[source] ImageFault),
    /// The header's payload is not in the file.
    #[error(
        "cannot extract a vmlinux: the setup header puts the compressed kernel at bytes \
         {start:#x}..{end:#x}, the file ends at {size:#x}; copy or download it again"
    )]
    PayloadOutside {
        /// First byte.
        start: u64,
        /// First byte after it.
        end: u64,
        /// The file's length.
        size: u64,
    },
    /// A compression that is not built in.
    #[error(
        "cannot extract a vmlinux: {format} compression is not supported; unpack it with the kernel's \
         scripts/extract-vmlinux, or build with CONFIG_KERNEL_ZSTD=y"
    )]
    Unsupported {
        /// The compression.
        format: &'static str,
    },
    /// No known magic.
    #[error("cannot extract a vmlinux: the payload starts {start:02x?}, which no compression does")]
    UnknownFormat {
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// The decompressor gave up.
    #[error("cannot extract a vmlinux: its {format} data is damaged; copy or download it again")]
    Damaged {
        /// The compression.
        format: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It came out with another length than it went in.
    #[error(
        "cannot extract a vmlinux: it should unpack to {expected} bytes, but {found} came out; copy or \
         download it again"
    )]
    Length {
        /// What the payload says.
        expected: u64,
        /// What was unpacked, at most one more than expected.
        found: u64,
    },
    /// Something else was inside.
    #[error("cannot extract a vmlinux: what was unpacked is not an ELF file")]
    NotElf,
}

/// The vmlinux of a bzImage, with the relocations that follow it in a relocatable kernel.
///
/// # Errors
/// [`ExtractError`].
pub fn extract(image: &[u8]) -> Result<Vec<u8>, ExtractError> {
    if !BzImage::recognises(image) {
        return Err(ExtractError::NotBzImage(super::foreign::name(image)));
    }
    let size = image.len() as u64;
    let (header, setup_len) = BzImage::header(image, size).map_err(ExtractError::NotBzImage)?;
    let start = setup_len.saturating_add(u64::from(header.payload_offset));
    let end = start.saturating_add(u64::from(header.payload_length));
    let payload = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| image.get(start..end))
        .filter(|payload| payload.len() > SIZE_LEN)
        .ok_or(ExtractError::PayloadOutside { start, end, size })?;
    unpack(payload)
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>, ExtractError> {
    let (body, tail) = payload.split_at(payload.len().saturating_sub(SIZE_LEN));
    let expected = tail
        .first_chunk::<4>()
        .map_or(0, |size| u32::from_le_bytes(*size));
    let lzma = |stream: Result<Stream, _>, format| {
        stream
            .map(|stream| XzDecoder::new_stream(body, stream))
            .map_err(|e: liblzma::stream::Error| damaged(format)(e.into()))
    };
    let vmlinux = match payload {
        // Here the length is part of the stream.
        [0x1f, 0x8b, ..] => read("gzip", flate2::read::GzDecoder::new(payload), expected),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => read(
            "xz",
            lzma(Stream::new_stream_decoder(LZMA_MEMORY, 0), "xz")?,
            expected,
        ),
        [0x5d, 0, 0, ..] => read(
            "lzma",
            lzma(Stream::new_lzma_decoder(LZMA_MEMORY), "lzma")?,
            expected,
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::new(body).map_err(damaged("zstd"))?;
            read("zstd", decoder, expected)
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => lz4(body, expected),
        [b'B', b'Z', b'h', ..] => Err(ExtractError::Unsupported { format: "bzip2" }),
        [0x89, b'L', b'Z', b'O', ..] => Err(ExtractError::Unsupported { format: "lzo" }),
        _ => Err(ExtractError::UnknownFormat {
            start: payload.iter().take(8).copied().collect(),
        }),
    }?;
    if vmlinux.len() as u64 != u64::from(expected) {
        let found = vmlinux.len() as u64;
        return Err(ExtractError::Length {
            expected: expected.into(),
            found,
        });
    }
    if !vmlinux.starts_with(b"\x7fELF") {
        return Err(ExtractError::NotElf);
    }
    Ok(vmlinux)
}

fn damaged(format: &'static str) -> impl Fn(io::Error) -> ExtractError {
    move |source| ExtractError::Damaged { format, source }
}

/// Room for `expected` bytes, refused where no kernel is that large.
fn room(expected: u32) -> Result<Vec<u8>, ExtractError> {
    if expected > MAX_LEN {
        return Err(ExtractError::Length {
            expected: expected.into(),
            found: 0,
        });
    }
    Ok(Vec::with_capacity(usize::try_from(expected).unwrap_or(0)))
}

fn read(format: &'static str, decoder: impl Read, expected: u32) -> Result<Vec<u8>, ExtractError> {
    let mut out = room(expected)?;
    // One more than expected is enough to know that there is more.
    let mut bounded = decoder.take(u64::from(expected).saturating_add(1));
    bounded.read_to_end(&mut out).map_err(damaged(format))?;
    Ok(out)
}

/// lz4's legacy frame, which is what the kernel's decompressor reads: a magic number, then blocks of
/// 8 MiB, each after its compressed length. lz4_flex reads the newer frame only.
fn lz4(body: &[u8], expected: u32) -> Result<Vec<u8>, ExtractError> {
    let wrong = |what: String| damaged("lz4")(io::Error::new(io::ErrorKind::InvalidData, what));
    let mut out = room(expected)?;
    let mut rest = body;
    while let Some((len, after)) = rest.split_first_chunk::<4>() {
        rest = after;
        // Concatenated frames, as lz4 -l makes of several inputs.
        if *len == LZ4_MAGIC {
            continue;
        }
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (block, after) = rest
            .split_at_checked(len)
            .ok_or_else(|| wrong("a block is cut off".into()))?;
        rest = after;
        let unpacked =
            lz4_flex::block::decompress(block, LZ4_BLOCK).map_err(|e| wrong(e.to_string()))?;
        out.extend(unpacked);
        if out.len() as u64 > u64::from(expected) {
            break;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use liblzma::read::XzEncoder;
    use liblzma::stream::{Check, Filters, LzmaOptions};
    use proptest::prelude::*;

    use super::*;
    use crate::boot::synthetic::{bzimage, put};

    /// Something to compress: an ELF magic, then calls, which is what BCJ filters rewrite.
    fn kernel(len: usize) -> Vec<u8> {
        let calls = (0..=u8::MAX).flat_map(|i| [0xe8, i, 1, 0, 0, 0x90]);
        b"\x7fELF"
            .iter()
            .copied()
            .chain(calls.cycle())
            .take(len)
            .collect()
    }

    fn sized(mut payload: Vec<u8>, len: usize) -> Vec<u8> {
        payload.extend(u32::try_from(len).unwrap().to_le_bytes());
        payload
    }

    fn encode(stream: Stream, kernel: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        XzEncoder::new_stream(kernel, stream)
            .read_to_end(&mut out)
            .unwrap();
        sized(out, kernel.len())
    }

    fn gzip(kernel: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(kernel).unwrap();
        encoder.finish().unwrap()
    }

    fn xz_bcj(kernel: &[u8]) -> Vec<u8> {
        let mut filters = Filters::new();
        filters.x86().lzma2(&LzmaOptions::new_preset(6).unwrap());
        encode(
            Stream::new_stream_encoder(&filters, Check::Crc32).unwrap(),
            kernel,
        )
    }

    fn lzma(kernel: &[u8]) -> Vec<u8> {
        encode(
            Stream::new_lzma_encoder(&LzmaOptions::new_preset(6).unwrap()).unwrap(),
            kernel,
        )
    }

    fn zstd(kernel: &[u8]) -> Vec<u8> {
        sized(zstd::encode_all(kernel, 3).unwrap(), kernel.len())
    }

    fn lz4_legacy(kernel: &[u8]) -> Vec<u8> {
        let mut out = LZ4_MAGIC.to_vec();
        for block in kernel.chunks(LZ4_BLOCK) {
            let packed = lz4_flex::block::compress(block);
            out.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            out.extend(packed);
        }
        sized(out, kernel.len())
    }

    type Encoder = fn(&[u8]) -> Vec<u8>;
    const ENCODERS: [Encoder; 5] = [gzip, xz_bcj, lzma, zstd, lz4_legacy];

    #[test]
    fn every_supported_compression_gives_the_kernel_back() {
        let kernel = kernel(100_000);
        for encoder in ENCODERS {
            let payload = encoder(&kernel);
            assert!(payload.len() < kernel.len());
            assert_eq!(extract(&bzimage(&payload)).unwrap(), kernel);
        }
    }

    #[test]
    fn lz4_kernels_of_more_than_one_block_come_out_whole() {
        let kernel = kernel(LZ4_BLOCK + 12345);
        assert_eq!(extract(&bzimage(&lz4_legacy(&kernel))).unwrap(), kernel);
    }

    #[test]
    fn bytes_after_the_payload_are_not_part_of_it() {
        let kernel = kernel(5000);
        let mut image = bzimage(&zstd(&kernel));
        image.extend([0xaa; 1000]);
        assert_eq!(extract(&image).unwrap(), kernel);
    }

    #[test]
    fn compressions_that_are_not_built_in_are_named() {
        for (payload, name) in [
            (&b"BZh91AY&SY12345"[..], "bzip2"),
            (b"\x89LZO\0\r\n\x1a\n123", "lzo"),
        ] {
            let message = extract(&bzimage(payload)).unwrap_err().to_string();
            assert!(
                message.contains(name) && message.contains("extract-vmlinux"),
                "{message}"
            );
        }
        let message = extract(&bzimage(b"\x01\x02 no magic"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("01, 02"), "{message}");
    }

    #[test]
    fn a_payload_outside_the_file_is_refused() {
        for (field, value) in [(0x248, u32::MAX), (0x24c, u32::MAX), (0x24c, 0)] {
            let mut image = bzimage(&zstd(&kernel(100)));
            put(&mut image, field, &value.to_le_bytes());
            let error = extract(&image).unwrap_err();
            assert!(
                matches!(error, ExtractError::PayloadOutside { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_length_that_does_not_match_is_an_error_and_bounds_what_is_unpacked() {
        for encoder in ENCODERS {
            let mut payload = encoder(&kernel(9000));
            let at = payload.len() - SIZE_LEN;
            for (claim, bound) in [(10_u32, LZ4_BLOCK as u64), (u32::MAX, 0)] {
                put(&mut payload, at, &claim.to_le_bytes());
                match extract(&bzimage(&payload)).unwrap_err() {
                    ExtractError::Length { found, .. } => assert!(found <= bound.max(11)),
                    // gzip checks its own trailer.
                    ExtractError::Damaged { format, .. } => assert_eq!(format, "gzip"),
                    other => panic!("{other}"),
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_bzimage_or_holds_no_elf_says_so() {
        let message = extract(b"\x7fELF").unwrap_err().to_string();
        assert!(message.contains("the image"), "{message}");
        let error = extract(&bzimage(&zstd(b"not an ELF file"))).unwrap_err();
        assert!(matches!(error, ExtractError::NotElf), "{error}");
    }

    proptest! {
        #[test]
        fn damage_anywhere_is_an_error_or_the_kernel(
            which in 0..ENCODERS.len(), at in 0_usize..4000, flip in 1_u8.., cut in 0_usize..400,
        ) {
            let kernel = kernel(3000);
            let mut payload = ENCODERS[which](&kernel);
            payload.truncate(payload.len().saturating_sub(cut).max(5));
            let at = at % payload.len();
            payload[at] ^= flip;
            // Not all of a stream is covered by a checksum; the length always is.
            if let Ok(found) = extract(&bzimage(&payload)) {
                prop_assert_eq!(found.len(), u32::from_le_bytes(*payload.last_chunk().unwrap()) as usize);
            }
        }
    }
}
