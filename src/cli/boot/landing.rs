//! One result on its way to its target: unpacked beside it under a temporary name, and moved there
//! when it is whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{Entry, EntryType};
use tempfile::TempDir;

/// What a result is called until it is whole; in a folder of its own, gone when this is dropped.
const WHILE_IT_COMES: &str = "result";

/// A result that is coming.
#[derive(Debug)]
pub(super) struct Landing {
    target: PathBuf,
    /// None for a device, which takes the bytes as they come.
    beside: Option<TempDir>,
}

impl Landing {
    /// Whether `path` is there and is neither file nor folder: /dev/stdout, a pipe. Those are
    /// written to, not replaced.
    pub(super) fn is_device(path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
    }

    /// A result that is to be at `target`.
    pub(super) fn at(target: &Path) -> io::Result<Self> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let beside = match Self::is_device(target) {
            true => None,
            false => Some(
                tempfile::Builder::new()
                    .prefix(".trapline-")
                    .tempdir_in(folder)?,
            ),
        };
        Ok(Self {
            target: target.to_owned(),
            beside,
        })
    }

    pub(super) fn target(&self) -> &Path {
        &self.target
    }

    /// Takes one member. Only folders, files and symbolic links are made, and nothing is written
    /// through a link: a folder on the way must be one.
    pub(super) fn place(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        rest: &Path,
    ) -> io::Result<()> {
        let Some(beside) = &self.beside else {
            return pour(entry, &self.target);
        };
        let mut path = beside.path().join(WHILE_IT_COMES);
        for component in rest.components() {
            if !is_folder(&path) {
                let way = self.target.join(rest);
                let way = way.parent().unwrap_or(&self.target).display();
                return Err(io::Error::other(format!("{way} is not a folder")));
            }
            path.push(component);
        }
        match entry.header().entry_type() {
            EntryType::Directory => match fs::create_dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_folder(&path) => Ok(()),
                done => done,
            },
            EntryType::Regular | EntryType::Symlink => {
                entry.set_preserve_permissions(false);
                entry.unpack(&path).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Moves it to its target. A folder that is there already is joined, file by file.
    pub(super) fn finish(self) -> io::Result<()> {
        match &self.beside {
            Some(beside) => settle(&beside.path().join(WHILE_IT_COMES), &self.target),
            None => Ok(()),
        }
    }
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

fn pour(entry: &mut Entry<'_, impl Read>, device: &Path) -> io::Result<()> {
    if entry.header().entry_type() != EntryType::Regular {
        return Err(io::Error::other("only a file can be written there"));
    }
    let size = entry.size();
    let mut device = File::options().write(true).open(device)?;
    match io::copy(entry, &mut device)? {
        copied if copied == size => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn settle(from: &Path, to: &Path) -> io::Result<()> {
    if !is_folder(from) || !is_folder(to) {
        return fs::rename(from, to);
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        settle(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
