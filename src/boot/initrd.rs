//! The initial RAM disk as a file: kept out of Trapline's own memory and read straight into the guest's,
//! again at every reset.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::MemfdFlags;
use vm_memory::{Bytes, GuestAddress};

use crate::mem::{Gpa, GuestRam};

use super::load_error::LoadError;

/// An initial RAM disk. Its length is that of the time it was opened; a file that changes meanwhile
/// is the concern of whoever changes it.
#[derive(Debug, Clone)]
pub struct Initrd {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
}

impl Initrd {
    /// Opens the file at `path`. What is no regular file, a pipe for example, is read to its end.
    ///
    /// # Errors
    /// Whatever the host says when it cannot be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Self::held(path, &bytes);
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            len: about.len(),
        })
    }

    /// The same of bytes made just now.
    ///
    /// # Errors
    /// When the host has no memory for them.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        Self::held(Path::new("initramfs"), bytes)
    }

    /// The same of bytes that go by a name: a multiboot module, say.
    ///
    /// # Errors
    /// When the host has no memory for them.
    pub fn named(name: &str, bytes: &[u8]) -> io::Result<Self> {
        Self::held(Path::new(name), bytes)
    }

    /// The file's own name, without its folders.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The file, once more, and its length.
    ///
    /// # Errors
    /// When the host has no descriptor left.
    pub fn share(&self) -> io::Result<(File, u64)> {
        Ok((self.file.try_clone()?, self.len))
    }

    /// In a memfd: its pages are the host's cache, not memory of this process.
    fn held(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let mut file: File =
            rustix::fs::memfd_create("trapline-initrd", MemfdFlags::CLOEXEC)?.into();
        file.write_all(bytes)?;
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            len: bytes.len() as u64,
        })
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads all of it to guest memory at `at`.
    pub(super) fn read_to(&self, ram: &GuestRam, at: Gpa) -> Result<(), LoadError> {
        let failed = |source| LoadError::ReadInitrd {
            path: self.path.clone(),
            source,
        };
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        // A length above usize::MAX has been refused for want of RAM.
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        ram.memory()
            .read_exact_volatile_from(GuestAddress(at.0), &mut file, len)
            .map_err(|error| failed(io::Error::other(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::synthetic::ram;

    #[test]
    fn a_pipe_is_taken_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (to, sent) = (path.clone(), bytes.clone());
        let writer = std::thread::spawn(move || std::fs::write(to, sent).unwrap());
        let initrd = Initrd::open(&path).unwrap();
        writer.join().unwrap();
        let ram = ram(4);
        // Twice, as after a reset.
        for at in [0x1000, 0x10_0000] {
            initrd.read_to(&ram, Gpa(at)).unwrap();
            let mut read = vec![0; bytes.len()];
            ram.read(Gpa(at), &mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn a_file_that_shrank_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("initrd.img");
        std::fs::write(&path, [7; 5000]).unwrap();
        let initrd = Initrd::open(&path).unwrap();
        std::fs::write(&path, [7; 10]).unwrap();
        let error = initrd.read_to(&ram(4), Gpa(0x1000)).unwrap_err();
        assert!(error.to_string().contains("initrd.img"), "{error}");
    }
}
