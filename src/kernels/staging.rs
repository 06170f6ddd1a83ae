//! Directories that are made aside and appear in the cache whole, by one rename.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::cache::Cache;
use super::error::KernelError;

/// A directory being filled. Dropped, it is removed; the process killed, the next one removes it.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// An exclusive lock on the directory: whoever holds it is alive and still filling.
    _alive: File,
}

impl Staging {
    /// A new empty directory in the cache; what earlier, killed processes left is removed first.
    pub(super) fn new(cache: &Cache) -> Result<Self, KernelError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = cache.root().join("tmp");
        fs::create_dir_all(&root).map_err(KernelError::io("create", &root))?;
        let make = || -> io::Result<Self> {
            // Between a mkdir and its flock a sweep would take the directory for an orphan.
            let _whole = lock(&root, FlockOperation::LockExclusive)?;
            sweep(&root)?;
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = root.join(format!("{}-{number}", std::process::id()));
            fs::create_dir(&path)?;
            let alive = lock(&path, FlockOperation::NonBlockingLockExclusive)?;
            Ok(Self {
                path,
                _alive: alive,
            })
        };
        make().map_err(KernelError::io("create a directory in", &root))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames the directory to `to`; what was there is removed afterwards.
    pub(super) fn publish(self, to: &Path) -> Result<(), KernelError> {
        let parent = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(KernelError::io("create", parent))?;
        match renameat_with(CWD, &self.path, CWD, to, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => fs::rename(&self.path, to),
            // A file system that cannot exchange (9p, some FUSE): for a moment neither is there.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let old = self.path.with_extension("old");
                fs::rename(to, &old)
                    .and_then(|()| fs::rename(&self.path, to))
                    .and_then(|()| fs::rename(&old, &self.path))
            }
            Err(error) => Err(error.into()),
        }
        .map_err(KernelError::io("put in place", to))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn lock(path: &Path, how: FlockOperation) -> io::Result<File> {
    let file = File::open(path)?;
    flock(&file, how)?;
    Ok(file)
}

fn sweep(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if lock(&path, FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Takes the lock on `path`, which is created, and keeps it until the file is closed. `wait` is
/// called when another process has it.
pub(super) fn lock_file(path: &Path, wait: impl FnOnce()) -> Result<File, KernelError> {
    let take = || -> io::Result<File> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = File::create(path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            wait();
            flock(&file, FlockOperation::LockExclusive)?;
        }
        Ok(file)
    };
    take().map_err(KernelError::io("lock", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_replaces_what_was_there_and_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let to = cache.kernels().join("k");
        for text in ["one", "two"] {
            let staging = Staging::new(&cache).unwrap();
            fs::write(staging.path().join("f"), text).unwrap();
            staging.publish(&to).unwrap();
            assert_eq!(fs::read_to_string(to.join("f")).unwrap(), text);
        }
        assert_eq!(fs::read_dir(cache.root().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_dropped_staging_is_gone_and_an_orphan_is_swept_but_not_a_living_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        drop(Staging::new(&cache).unwrap());
        let orphan = cache.root().join("tmp/1-0");
        fs::create_dir_all(orphan.join("half")).unwrap();
        let living = Staging::new(&cache).unwrap();
        let other = Staging::new(&cache).unwrap();
        assert!(!orphan.exists());
        assert!(living.path().exists() && other.path().exists());
    }
}
