//! Kernel releases (`uname -r`): read from an image, and put in order.

use std::cmp::Ordering;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// "HdrS", Documentation/arch/x86/boot.rst: the setup header's magic at 0x202.
const HDRS: (u64, &[u8; 4]) = (0x202, b"HdrS");
/// `kernel_version` at 0x20e: offset of the version text, less 0x200.
const KERNEL_VERSION: u64 = 0x20e;
/// How much of an ELF is searched for its banner at a time.
const CHUNK: usize = 1 << 20;
/// `linux_banner` of init/version.c.
const BANNER: &[u8] = b"Linux version ";

/// The release an image says it is: a bzImage in its header, an ELF in its banner.
#[must_use]
pub fn of_image(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).ok()?;
    if magic == *b"\x7fELF" {
        return banner(file);
    }
    file.read_exact_at(&mut magic, HDRS.0).ok()?;
    if magic != *HDRS.1 {
        return None;
    }
    let mut offset = [0; 2];
    file.read_exact_at(&mut offset, KERNEL_VERSION).ok()?;
    let mut text = [0; 128];
    let from = u64::from(u16::from_le_bytes(offset)) + 0x200;
    let len = file.read_at(&mut text, from).ok()?;
    first_word(text.get(..len)?)
}

fn banner(mut file: File) -> Option<String> {
    // The tail of one chunk is kept, so that a banner across two is seen.
    let mut window = Vec::with_capacity(2 * CHUNK);
    loop {
        let keep = window.len().min(256);
        window.drain(..window.len() - keep);
        let read = file
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut window)
            .ok()?;
        if read == 0 {
            return None;
        }
        for at in memmem(&window, BANNER) {
            let word = first_word(window.get(at + BANNER.len()..)?);
            // The same words stand in format strings: "Linux version %s".
            if let Some(release) = word.filter(|w| w.starts_with(|c: char| c.is_ascii_digit())) {
                return Some(release);
            }
        }
    }
}

fn memmem<'a>(hay: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    hay.windows(needle.len())
        .enumerate()
        .filter(move |(_, window)| *window == needle)
        .map(|(at, _)| at)
}

fn first_word(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| b" \0\n".contains(b))?;
    let word = std::str::from_utf8(bytes.get(..end)?).ok()?;
    (!word.is_empty()).then(|| word.to_owned())
}

/// Orders releases and package versions as people read them: runs of digits as numbers, a `~` before
/// the end of the text (Debian policy 5.6.12).
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let text = |s: &[u8]| s.iter().position(u8::is_ascii_digit).unwrap_or(s.len());
        let ((at, ar), (bt, br)) = (a.split_at(text(a)), b.split_at(text(b)));
        let order = compare_text(at, bt);
        if order != Ordering::Equal {
            return order;
        }
        if ar.is_empty() || br.is_empty() {
            return ar.len().cmp(&br.len());
        }
        let digits = |s: &[u8]| {
            s.iter()
                .position(|c| !c.is_ascii_digit())
                .unwrap_or(s.len())
        };
        let ((an, ar), (bn, br)) = (ar.split_at(digits(ar)), br.split_at(digits(br)));
        let order = compare_number(an, bn);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (ar, br);
    }
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |text: &[u8], at: usize| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    (0..a.len().max(b.len()))
        .map(|at| weight(a, at).cmp(&weight(b, at)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn compare_number(a: &[u8], b: &[u8]) -> Ordering {
    let trim = |n: &[u8]| n.iter().position(|c| *c != b'0').unwrap_or(n.len());
    let (a, b) = (a.split_at(trim(a)).1, b.split_at(trim(b)).1);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The first kilobyte of a bzImage that calls itself `version`.
    pub(crate) fn bzimage(version: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(HDRS.1);
        image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        image[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
        image
    }

    fn of(bytes: &[u8]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, bytes).unwrap();
        of_image(&path)
    }

    #[test]
    fn a_bzimage_tells_its_release_in_the_header() {
        assert_eq!(
            of(&bzimage("6.1.0-56-amd64 (a@b) #1 SMP")).as_deref(),
            Some("6.1.0-56-amd64")
        );
    }

    #[test]
    fn an_elf_tells_its_release_in_the_banner_wherever_it_lies() {
        for at in [4, CHUNK - 20, CHUNK - 5, CHUNK, 3 * CHUNK + 7] {
            let mut image = b"\x7fELF Linux version %s (%s)".to_vec();
            image.resize(at.max(64), 0);
            image.extend_from_slice(b"Linux version 6.12.9-x (me) \0");
            assert_eq!(of(&image).as_deref(), Some("6.12.9-x"), "at {at}");
        }
    }

    #[test]
    fn a_header_cut_anywhere_gives_none_and_no_panic() {
        let whole = bzimage("6.1.0 (a@b)");
        for len in 0..0x305 {
            assert_eq!(of(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(of(b"just text, nothing that boots"), None);
    }

    #[test]
    fn releases_order_as_numbers_not_as_text() {
        let sorted = [
            "5.10.0-9",
            "6.1.0-9-amd64",
            "6.1.0-56-amd64",
            "6.12~rc1",
            "6.12",
            "6.12.9",
            "6.12.117",
            "6.12.117+deb12-amd64",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            assert_eq!(compare(pair[0], pair[0]), Ordering::Equal);
        }
    }
}
