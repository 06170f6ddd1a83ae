//! The banner of a kernel in its ELF file: `Linux version 6.1.0 (builder) #1 SMP ...`.

use std::fs::File;

use memchr::memmem;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadCache, elf};

use super::image::read_up_to;

/// What comes before the release.
const BANNER: &[u8] = b"Linux version ";
/// How much is read at a time.
const CHUNK: usize = 64 << 10;
/// No banner is longer. One that starts this close to a chunk's end is whole in the next.
const LONGEST: usize = 1024;

/// The banner without its first two words. Linux has it near the start of `.rodata`; a file without
/// section headers is searched through its `segments` (offset and length).
pub(super) fn find(file: &File, segments: impl IntoIterator<Item = (u64, u64)>) -> Option<String> {
    let rodata = rodata(file);
    let mut places = rodata.into_iter().chain(segments);
    places.find_map(|(offset, len)| find_in(file, offset, len))
}

/// Where the section headers say that constants lie.
fn rodata(file: &File) -> Option<(u64, u64)> {
    let data = &ReadCache::new(file);
    let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".rodata")?;
    section.file_range(endian)
}

fn find_in(file: &File, offset: u64, len: u64) -> Option<String> {
    let end = offset.checked_add(len)?;
    let mut at = offset;
    while at < end {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = read_up_to(file, at, left.min(CHUNK)).ok()?;
        let last = left <= CHUNK;
        let starts = if last {
            bytes.len()
        } else {
            bytes.len().saturating_sub(LONGEST)
        };
        for index in memmem::find_iter(&bytes, BANNER).take_while(|index| *index < starts) {
            let text = bytes
                .get(index.saturating_add(BANNER.len())..)
                .unwrap_or_default();
            let line = text
                .split(|&b| b == b'\n' || b == 0)
                .next()
                .unwrap_or_default();
            // The format strings in the same section say "Linux version %s".
            if line.first().is_some_and(u8::is_ascii_digit) {
                return String::from_utf8(line.to_vec()).ok();
            }
        }
        if last || starts == 0 {
            return None;
        }
        at = at.saturating_add(starts as u64);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::synthetic::Scratch;

    #[test]
    fn a_banner_across_the_chunks_of_the_search_is_found_whole() {
        for before in [CHUNK - 1030, CHUNK - 1024, CHUNK - 5, CHUNK] {
            let mut bytes = vec![b'L'; before];
            bytes.extend(b"Linux version 6.12.1-x (b@h) #3 SMP\n");
            let scratch = Scratch::new(&bytes);
            let file = File::open(&scratch.path).unwrap();
            let found = find_in(&file, 0, bytes.len() as u64);
            assert_eq!(
                found.as_deref(),
                Some("6.12.1-x (b@h) #3 SMP"),
                "at {before}"
            );
        }
    }
}
