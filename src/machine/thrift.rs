//! Gives back the code that made the guest: most of what Trapline is runs once, before the first KVM_RUN,
//! and would stay mapped beside the guest to its end.
#![expect(
    unsafe_code,
    reason = "madvise(2) takes addresses; that these are safe to drop only /proc/self/maps can tell"
)]

use std::ffi::c_void;
use std::fs;
use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of this program's code and constants. What still runs is mapped again from the page cache as it
/// is reached, a few dozen faults.
pub(super) fn drop_code() {
    let (Ok(maps), Ok(program)) = (
        fs::read_to_string("/proc/self/maps"),
        fs::read_link("/proc/self/exe"),
    ) else {
        return;
    };
    for (start, len) in maps.lines().filter_map(|line| code_of(line, &program)) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
        // SAFETY: the mapping is one of a file and was never written (see `code_of`), so its pages are the
        // file's: dropped, they are read again. A running program's file cannot be written (ETXTBSY).
        let _ = unsafe { madvise(start, len, Advice::LinuxDontNeed) };
    }
}

/// Start and length of the mapping when it is code or constants of `program`: a line of maps (proc(5)),
/// `start-end perms offset device inode path`. What the loader relocates and then protects is read-only
/// too, but never the file's beginning.
fn code_of(line: &str, program: &Path) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, perms, offset) = (words.next()?, words.next()?, words.next()?);
    let path = line.get(line.find('/')?..)?;
    let constant = perms == "r-xp" || perms == "r--p" && offset.bytes().all(|b| b == b'0');
    if !constant || Path::new(path) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_constants_of_the_program_are_dropped() {
        let program = Path::new("/opt/my tools/trapline");
        let code = "1000-3000 r-xp 00200000 fe:00 42   /opt/my tools/trapline";
        assert_eq!(code_of(code, program), Some((0x1000, 0x2000)));
        let constants = "1000-3000 r--p 00000000 fe:00 42   /opt/my tools/trapline";
        assert_eq!(code_of(constants, program), Some((0x1000, 0x2000)));
        for other in [
            // Relocated data: what is dropped of it is lost.
            "1000-3000 r--p 00200000 fe:00 42   /opt/my tools/trapline",
            "1000-3000 rwxp 00200000 fe:00 42   /opt/my tools/trapline",
            "1000-3000 r-xp 00200000 fe:00 42   /usr/lib/libc.so.6",
            "1000-3000 r-xp 00200000 fe:00 42   /opt/my tools/trapline (deleted)",
            "1000-3000 r-xp 00000000 00:00 0    [vdso]",
            "1000-3000 rw-p 00000000 00:00 0",
        ] {
            assert_eq!(code_of(other, program), None, "{other}");
        }
    }

    #[test]
    fn a_program_without_its_code_goes_on() {
        drop_code();
        let mut numbers: Vec<u32> = (0..1000).rev().collect();
        numbers.sort_unstable();
        assert_eq!(numbers[999], 999);
    }
}
