//! Whether the host has the huge pages that `--hugepages` asks for.
//!
//! Asked before the guest is built: guest RAM is mapped without reservation, as all of it is shared
//! memory that a guest may never touch, and a huge page that is missing is then SIGBUS.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::mem::HugePages;

/// A folder for each size that the host's kernel knows.
const SIZES: &str = "/sys/kernel/mm/hugepages";

/// Huge pages that are not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HugePagesError {
    /// The processor or the kernel does not have this size.
    #[error("this host has no huge pages of {0} KiB: there is no {SIZES}/hugepages-{0}kB")]
    Size(u64),
    /// Too few are free.
    #[error(
        "{free} huge pages of {size} KiB are free, and the guest needs {needed}; reserve them: \
         echo {} | sudo tee {}", total.saturating_add(needed.saturating_sub(*free)), pool.display()
    )]
    TooFew {
        size: u64,
        free: u64,
        needed: u64,
        total: u64,
        pool: PathBuf,
    },
}

/// Whether `memory` bytes can be had in huge pages.
pub(super) fn check(memory: u64, pages: HugePages) -> Result<(), HugePagesError> {
    match pages {
        HugePages::None => Ok(()),
        // Said with the other things that a size can be wrong in.
        _ if !memory.is_multiple_of(pages.bytes()) => Ok(()),
        _ => check_in(Path::new(SIZES), memory, pages.bytes()),
    }
}

fn check_in(sizes: &Path, memory: u64, page: u64) -> Result<(), HugePagesError> {
    let size = page >> 10;
    let pool = sizes.join(format!("hugepages-{size}kB"));
    let count = |name: &str| -> io::Result<u64> {
        let text = fs::read_to_string(pool.join(name))?;
        text.trim().parse().map_err(io::Error::other)
    };
    let all = count("nr_hugepages").and_then(|total| {
        // Pages that others have reserved are still free, but not for us.
        let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
        Ok((total, free))
    });
    let (total, free) = all.map_err(|_| HugePagesError::Size(size))?;
    let needed = memory.div_ceil(page);
    if free >= needed {
        return Ok(());
    }
    Err(HugePagesError::TooFew {
        size,
        free,
        needed,
        total,
        pool: pool.join("nr_hugepages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_missing_are_counted_and_the_mend_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path().join("hugepages-2048kB");
        fs::create_dir(&pool).unwrap();
        for (name, count) in [("nr", "10\n"), ("free", "6\n"), ("resv", "2\n")] {
            fs::write(pool.join(format!("{name}_hugepages")), count).unwrap();
        }
        let check = |memory: u64, page: u64| check_in(dir.path(), memory, page);
        assert_eq!(check(8 << 20, 2 << 20), Ok(()));
        let text = check(10 << 20, 2 << 20).unwrap_err().to_string();
        assert!(
            text.contains("4 huge pages of 2048 KiB are free, and the guest needs 5"),
            "{text}"
        );
        assert!(
            text.contains("echo 11 | sudo tee") && text.ends_with("2048kB/nr_hugepages"),
            "{text}"
        );
        let text = check(1 << 30, 1 << 30).unwrap_err().to_string();
        assert!(text.contains("no huge pages of 1048576 KiB"), "{text}");
    }
}
