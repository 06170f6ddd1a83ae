//! A file or a block device as a medium.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::chipset::{Medium, MediumFault};

use super::Tell;
use super::error::DiskError;

/// Errors told by name; a guest tries again and again.
const TOLD: u32 = 8;

/// Who else may have the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody: the run writes it.
    Alone,
    /// Others that only read it, as the run does.
    Readers,
}

/// The medium. Its file is locked against other runs, and synced when it is dropped.
pub(super) struct FileMedium {
    path: PathBuf,
    file: File,
    len: u64,
    sharing: Sharing,
    /// Whether something was written since the last flush.
    dirty: bool,
    /// A flush has failed: the kernel has dropped what it could not write and forgets about it, so no
    /// later flush can mend that.
    lost: bool,
    tell: Tell,
    /// How many errors there were.
    errors: u32,
}

impl fmt::Debug for FileMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileMedium").field(&self.path).finish()
    }
}

impl FileMedium {
    /// Opens `path` and locks it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(super) fn open(path: &Path, sharing: Sharing, tell: Tell) -> Result<Self, DiskError> {
        let of = |source: io::Error| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    if sharing == Sharing::Alone && File::open(&path).is_ok() =>
                {
                    DiskError::ReadOnly { path, source }
                }
                io::ErrorKind::IsADirectory => DiskError::Kind { path },
                _ => DiskError::Open { path, source },
            }
        };
        let metadata = std::fs::metadata(path).map_err(of)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::Kind { path: path.into() });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(sharing == Sharing::Alone);
        let file = options.open(path).map_err(of)?;
        lock(&file, path, sharing)?;
        // A block device has no length of its own; its end does.
        let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(of)?;
        if len == 0 {
            return Err(DiskError::Empty { path: path.into() });
        }
        Ok(Self {
            path: path.into(),
            file,
            len,
            sharing,
            dirty: false,
            lost: false,
            tell,
            errors: 0,
        })
    }

    /// Refuses a file that is not whole sectors.
    pub(super) fn check_sectors(&self) -> Result<(), DiskError> {
        if self.len.is_multiple_of(512) {
            return Ok(());
        }
        Err(DiskError::Sectors {
            path: self.path.clone(),
            len: self.len,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    /// Tells the user of an error; what the guest is told comes after it.
    fn error(&mut self, what: &str, error: &dyn fmt::Display) {
        self.errors = self.errors.saturating_add(1);
        let path = self.path.display();
        match self.errors {
            ..TOLD => (self.tell)(format!("disk {path}: cannot {what}: {error}")),
            TOLD => (self.tell)(format!(
                "disk {path}: cannot {what}: {error}; no more of this is said"
            )),
            _ => {}
        }
    }

    /// Whether the file still reaches `end`. A write past the end of one that was cut would make it
    /// grow again, with a hole where data was.
    fn reaches(&self, end: u64) -> bool {
        match self.file.metadata() {
            Ok(metadata) if metadata.is_file() => end <= metadata.len(),
            Ok(_) => end <= self.len,
            Err(_) => false,
        }
    }
}

/// An open file description's lock: it goes with the medium, however the process ends, and holds
/// against other descriptions of this process too.
fn lock(file: &File, path: &Path, sharing: Sharing) -> Result<(), DiskError> {
    let kind = match sharing {
        Sharing::Alone => libc::F_WRLCK,
        Sharing::Readers => libc::F_RDLCK,
    };
    let whole = libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Err(DiskError::InUse {
            path: path.into(),
            readers: sharing == Sharing::Readers,
        }),
        // A filesystem without locks: nobody can have one there.
        Err(nix::Error::ENOLCK | nix::Error::EOPNOTSUPP | nix::Error::ENOSYS) => Ok(()),
        Err(errno) => Err(DiskError::Lock {
            path: path.into(),
            source: errno.into(),
        }),
    }
}

impl Medium for FileMedium {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), MediumFault> {
        self.read_at(at, bytes).map_err(|error| {
            self.error(&format!("read {} bytes at {at}", bytes.len()), &error);
            MediumFault::Unreadable
        })
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), MediumFault> {
        let end = at.saturating_add(bytes.len() as u64);
        let written = match self.sharing {
            // The guest does what it was told not to; nobody but the guest needs to hear of it.
            Sharing::Readers => return Err(MediumFault::Unwritable),
            Sharing::Alone if self.reaches(end) => {
                self.dirty = true;
                self.file.write_all_at(bytes, at)
            }
            Sharing::Alone => Err(io::Error::other("the file has shrunk")),
        };
        written.map_err(|error| {
            self.error(&format!("write {} bytes at {at}", bytes.len()), &error);
            MediumFault::Unwritable
        })
    }

    fn flush(&mut self) -> Result<(), MediumFault> {
        if self.lost {
            return Err(MediumFault::Unwritable);
        }
        if self.dirty {
            if let Err(error) = self.file.sync_data() {
                self.lost = true;
                self.error("make sure of what was written", &error);
                return Err(MediumFault::Unwritable);
            }
            self.dirty = false;
        }
        Ok(())
    }
}

impl Drop for FileMedium {
    /// However the run ended, what the guest has written reaches the disk.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
