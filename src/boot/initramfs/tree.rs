//! The tree an archive unpacks to. The kernel unpacks entry by entry and drops in silence what does
//! not fit what is already there, so the fit is checked here.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::InitramfsError;
use super::cpio::{self, Entry, PATH_MAX, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG};

/// As the kernel's limit (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// With the file of the host it came from.
    File(Option<PathBuf>),
    Link(PathBuf),
    Node,
}

/// An initramfs in the making. Paths are absolute in the guest; folders on the way appear by
/// themselves, and links already in the tree are followed.
#[derive(Debug, Default)]
pub struct Initramfs {
    out: Vec<u8>,
    tree: BTreeMap<PathBuf, Kind>,
    /// Programs whose libraries are still to be found: paths in the guest and on the host.
    pub(super) programs: Vec<(PathBuf, PathBuf)>,
}

impl Initramfs {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or puts it in the place of another.
    pub fn file(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        bytes: &[u8],
    ) -> Result<&mut Self, InitramfsError> {
        self.file_from(path.as_ref(), mode, bytes, None)
    }

    pub(super) fn file_from(
        &mut self,
        path: &Path,
        mode: u32,
        bytes: &[u8],
        host: Option<&Path>,
    ) -> Result<&mut Self, InitramfsError> {
        let kind = Kind::File(host.map(Path::to_owned));
        self.put(path, kind, S_IFREG | mode, (0, 0), bytes)
    }

    /// Adds a folder; one that is there stays as it is.
    pub fn dir(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<&mut Self, InitramfsError> {
        let path = path.as_ref();
        if self.kind(path)? == Some(&Kind::Folder) {
            return Ok(self);
        }
        self.put(path, Kind::Folder, S_IFDIR | mode, (0, 0), &[])
    }

    /// Adds a symbolic link.
    pub fn symlink(
        &mut self,
        path: impl AsRef<Path>,
        target: impl AsRef<Path>,
    ) -> Result<&mut Self, InitramfsError> {
        let target = target.as_ref();
        let bytes = target.as_os_str().as_bytes();
        check_length(target)?;
        let kind = Kind::Link(target.to_owned());
        self.put(path.as_ref(), kind, S_IFLNK | 0o777, (0, 0), bytes)
    }

    /// Adds a character device.
    pub fn node(
        &mut self,
        path: impl AsRef<Path>,
        mode: u32,
        device: (u32, u32),
    ) -> Result<&mut Self, InitramfsError> {
        self.put(path.as_ref(), Kind::Node, S_IFCHR | mode, device, &[])
    }

    /// The archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        cpio::finish(&mut self.out);
        self.out
    }

    /// What lies at `path`, all links followed; nothing where a link leads nowhere.
    pub(super) fn kind(&self, path: &Path) -> Result<Option<&Kind>, InitramfsError> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let place = self.resolve_parents(&path)?;
            match self.tree.get(&place) {
                Some(Kind::Link(target)) => path = beside(&place, target),
                found => return Ok(found),
            }
        }
        Err(InitramfsError::Loop(path))
    }

    fn put(
        &mut self,
        path: &Path,
        kind: Kind,
        mode: u32,
        device: (u32, u32),
        data: &[u8],
    ) -> Result<&mut Self, InitramfsError> {
        let place = self.resolve_parents(path)?;
        check_length(&place)?;
        let occupied = match self.tree.get(&place) {
            Some(Kind::Folder) => kind != Kind::Folder,
            Some(_) => kind == Kind::Folder,
            None => place.as_os_str().is_empty() && kind != Kind::Folder,
        };
        if occupied {
            return Err(InitramfsError::Occupied(path.to_owned()));
        }
        let size =
            u32::try_from(data.len()).map_err(|_| InitramfsError::TooLarge(path.to_owned()))?;
        self.make_parents(&place)?;
        if !place.as_os_str().is_empty() {
            let name = place.as_os_str().as_bytes();
            cpio::append(&mut self.out, &Entry { name, mode, device }, data, size);
            self.tree.insert(place, kind);
        }
        Ok(self)
    }

    fn make_parents(&mut self, place: &Path) -> Result<(), InitramfsError> {
        let Some(parent) = place.parent().filter(|p| !p.as_os_str().is_empty()) else {
            return Ok(());
        };
        match self.tree.get(parent) {
            Some(Kind::Folder) => Ok(()),
            Some(_) => Err(InitramfsError::Occupied(parent.to_owned())),
            None => {
                self.put(parent, Kind::Folder, S_IFDIR | 0o755, (0, 0), &[])?;
                Ok(())
            }
        }
    }

    /// Where `path` comes to lie: relative to the root, without `.` and `..`, and with the links in
    /// its folders followed. The last component is left alone.
    fn resolve_parents(&self, path: &Path) -> Result<PathBuf, InitramfsError> {
        let mut place = normal(path);
        for _ in 0..MAX_LINKS {
            let link = place.ancestors().skip(1).find_map(|folder| {
                if let Kind::Link(target) = self.tree.get(folder)? {
                    let rest = place.strip_prefix(folder).ok()?;
                    Some(normal(&beside(folder, target).join(rest)))
                } else {
                    None
                }
            });
            match link {
                Some(next) => place = next,
                None => return Ok(place),
            }
        }
        Err(InitramfsError::Loop(path.to_owned()))
    }
}

/// A link's target as seen from the folder the link lies in.
fn beside(link: &Path, target: &Path) -> PathBuf {
    link.parent()
        .map_or_else(|| target.to_owned(), |folder| folder.join(target))
}

/// Relative to the root, without `.` and `..`; nothing leads above the root.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn check_length(path: &Path) -> Result<(), InitramfsError> {
    let length = path.as_os_str().len();
    if length >= PATH_MAX {
        return Err(InitramfsError::TooLong {
            path: path.to_owned(),
            length,
        });
    }
    Ok(())
}
