//! Compressed files told by their first bytes.

use std::io::{self, Read};

/// Wraps `source` in the decompressor its first bytes ask for; anything unknown passes through.
pub(super) fn reader<'a>(mut source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(6);
    source.by_ref().take(6).read_to_end(&mut magic)?;
    let whole = |source| io::Cursor::new(magic.clone()).chain(source);
    Ok(match magic.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(liblzma::read::XzDecoder::new(whole(source))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(whole(source))?),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole(source))),
        _ => Box::new(whole(source)),
    })
}

/// All of `bytes`, unpacked.
pub(super) fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader(bytes)?.read_to_end(&mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_format_is_told_by_content() {
        let text = b"the same bytes, four ways".as_slice();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text).unwrap();
        let xz = liblzma::encode_all(text, 1).unwrap();
        let zst = zstd::encode_all(text, 1).unwrap();
        for packed in [gz.finish().unwrap(), xz, zst, text.to_vec()] {
            assert_eq!(unpack(&packed).unwrap(), text);
            if packed != text {
                assert!(unpack(&packed[..packed.len() - 3]).is_err(), "cut short");
            }
        }
        assert_eq!(unpack(b"").unwrap(), b"");
    }
}
