//! A file or a block device as a medium.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::chipset::{Medium, MediumFault};

use super::error::DiskError;

/// Who else may have the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody: the run writes it.
    Alone,
    /// Others that only read it, as the run does.
    Readers,
}

/// The medium. Its file is locked against other runs, and synced when it is dropped.
#[derive(Debug)]
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
}

impl FileMedium {
    /// Opens `path` and locks it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(super) fn open(path: &Path, sharing: Sharing) -> Result<Self, DiskError> {
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
        self.read_at(at, bytes).map_err(|_| MediumFault::Unreadable)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), MediumFault> {
        let end = at.saturating_add(bytes.len() as u64);
        if self.sharing == Sharing::Readers || !self.reaches(end) {
            return Err(MediumFault::Unwritable);
        }
        self.dirty = true;
        self.file
            .write_all_at(bytes, at)
            .map_err(|_| MediumFault::Unwritable)
    }

    fn flush(&mut self) -> Result<(), MediumFault> {
        if self.lost {
            return Err(MediumFault::Unwritable);
        }
        if self.dirty {
            self.lost = self.file.sync_data().is_err();
            if self.lost {
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
