//! `/etc/ld.so.cache`: where ld.so finds libraries outside its default folders.
//!
//! Layout of glibc's sysdeps/generic/dl-cache.h, `struct cache_file_new`: a 20-byte magic and
//! version, the number of entries, then from byte 48 entries of 24 bytes {flags, key, value,
//! osversion, hwcap}; key and value are offsets of strings from the start of the structure.

/// Magic and version. Older systems keep an older table in front of it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const COUNT: usize = 20;
const ENTRIES: usize = 48;
const ENTRY_LEN: usize = 24;
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`.
const X86_64: u32 = 0x0303;

/// The paths the cache knows for a library, in its order; entries for special CPUs are left out.
/// Damage ends the list early.
pub(super) fn lookup(cache: &[u8], library: &str) -> Vec<String> {
    let Some(start) = cache.windows(MAGIC.len()).position(|at| at == MAGIC) else {
        return Vec::new();
    };
    let table = cache.get(start..).unwrap_or_default();
    let count = word(table, COUNT).map_or(0, |n| usize::try_from(n).unwrap_or(0));
    let mut found = Vec::new();
    let (entries, _) = table.get(ENTRIES..).unwrap_or_default().as_chunks();
    for entry in entries.iter().take(count) {
        let entry: &[u8; ENTRY_LEN] = entry;
        let special = entry.get(16..24).is_none_or(|hwcap| hwcap != [0; 8]);
        if word(entry, 0) != Some(X86_64) || special {
            continue;
        }
        if string(table, word(entry, 4)).as_deref() == Some(library) {
            found.extend(string(table, word(entry, 8)));
        }
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn string(table: &[u8], offset: Option<u32>) -> Option<String> {
    let tail = table.get(usize::try_from(offset?).ok()?..)?;
    let end = tail.iter().position(|&b| b == 0)?;
    String::from_utf8(tail.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(u32, &str, &str, u64)]) -> Vec<u8> {
        let mut strings = Vec::new();
        let mut table = MAGIC.to_vec();
        let base = ENTRIES + ENTRY_LEN * entries.len();
        table.extend(u32::try_from(entries.len()).unwrap().to_le_bytes());
        table.resize(ENTRIES, 0);
        for (flags, key, value, hwcap) in entries {
            table.extend(flags.to_le_bytes());
            for text in [key, value] {
                let offset = u32::try_from(base + strings.len()).unwrap();
                table.extend(offset.to_le_bytes());
                strings.extend(text.as_bytes());
                strings.push(0);
            }
            table.extend(0_u32.to_le_bytes());
            table.extend(hwcap.to_le_bytes());
        }
        table.extend(strings);
        table
    }

    #[test]
    fn only_plain_x86_64_entries_count() {
        let bytes = cache(&[
            (0x0303, "liba.so.1", "/opt/v3/liba.so.1", 1 << 62),
            (0x0003, "liba.so.1", "/lib32/liba.so.1", 0),
            (0x0303, "liba.so.1", "/opt/a/liba.so.1", 0),
            (0x0303, "libb.so.1", "/opt/b/libb.so.1", 0),
        ]);
        assert_eq!(lookup(&bytes, "liba.so.1"), ["/opt/a/liba.so.1"]);
        let behind_an_old_table = [b"ld.so-1.7.0\0\0\0\0\0".as_slice(), &bytes].concat();
        assert_eq!(
            lookup(&behind_an_old_table, "libb.so.1"),
            ["/opt/b/libb.so.1"]
        );
    }

    #[test]
    fn a_cache_cut_anywhere_is_harmless() {
        let bytes = cache(&[(0x0303, "liba.so.1", "/opt/a/liba.so.1", 0)]);
        for end in 0..bytes.len() {
            assert!(lookup(&bytes[..end], "liba.so.1").is_empty());
        }
    }
}
