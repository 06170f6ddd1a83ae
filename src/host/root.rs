//! The file system that facts are read from.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// `/`, or a made-up machine in a directory.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
    open: fn(&Path) -> io::Result<()>,
}

impl Root {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// A machine made up of the files below `path`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            open: |path| {
                OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(path)
                    .map(drop)
            },
        }
    }

    /// The same machine, on which no device node may be opened: root's own tests cannot make one.
    #[cfg(test)]
    pub(crate) fn locked(mut self) -> Self {
        self.open = |path| {
            fs::metadata(path)?;
            Err(io::ErrorKind::PermissionDenied.into())
        };
        self
    }

    /// Where a file of the machine lies.
    #[must_use]
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Whether there is such a file or folder.
    #[must_use]
    pub fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }

    /// The text of a file without white space around it; none when it cannot be read.
    #[must_use]
    pub fn text(&self, absolute: &str) -> Option<String> {
        let bytes = fs::read(self.path(absolute)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names in a folder, sorted; none when there is no such folder.
    #[must_use]
    pub fn names(&self, absolute: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(absolute)) else {
            return Vec::new();
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        names
    }

    /// Opens a device node for reading and writing, and closes it again.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_open(&self, absolute: &str) -> io::Result<()> {
        (self.open)(&self.path(absolute))
    }

    /// The first file of that name in a search path (`$PATH`).
    #[must_use]
    pub fn search(&self, program: &str, search_path: &OsStr) -> Option<PathBuf> {
        std::env::split_paths(search_path)
            .map(|dir| self.path(dir).join(program))
            .find(|file| file.is_file())
    }
}
