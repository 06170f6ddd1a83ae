//! Files and folders of the host on their way into the initramfs.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::elf::Program;
use super::{Initramfs, InitramfsError};

impl Initramfs {
    /// Packs a file, or a folder with all that is in it. `guest` is the path it gets; a `guest` that
    /// ends in a slash, or is a folder already, is the folder it goes into.
    ///
    /// A link in a folder stays a link when it leads to something in the same folder; otherwise what
    /// it leads to is packed in its place, because its target would not be there in the guest.
    pub fn add_host(
        &mut self,
        host: impl AsRef<Path>,
        guest: impl AsRef<Path>,
    ) -> Result<&mut Self, InitramfsError> {
        let (host, guest) = (host.as_ref(), guest.as_ref());
        let meta = fs::metadata(host).map_err(|e| read_error(host, e))?;
        if !meta.is_dir() {
            let into_folder = guest.as_os_str().as_encoded_bytes().ends_with(b"/");
            let guest = match host.file_name() {
                Some(name) if into_folder || self.is_folder(guest)? => guest.join(name),
                _ => guest.to_owned(),
            };
            return self.add_file(host, &guest, &meta, true);
        }
        let root = host.canonicalize().map_err(|e| read_error(host, e))?;
        let mut folders = vec![id(&meta)];
        self.add_folder(host, guest, &root, &meta, &mut folders)?;
        Ok(self)
    }

    fn is_folder(&self, guest: &Path) -> Result<bool, InitramfsError> {
        Ok(matches!(self.kind(guest)?, Some(super::tree::Kind::Folder)))
    }

    fn add_folder(
        &mut self,
        host: &Path,
        guest: &Path,
        root: &Path,
        meta: &Metadata,
        around: &mut Vec<(u64, u64)>,
    ) -> Result<(), InitramfsError> {
        self.dir(guest, permissions(meta))?;
        let entries = fs::read_dir(host).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut entries = entries.map_err(|e| read_error(host, e))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (host, guest) = (entry.path(), guest.join(entry.file_name()));
            let meta = fs::symlink_metadata(&host).map_err(|e| read_error(&host, e))?;
            if meta.is_symlink()
                && let Some(target) = kept_link(&host, root)?
            {
                self.symlink(guest, target)?;
                continue;
            }
            let meta = fs::metadata(&host).map_err(|e| read_error(&host, e))?;
            if meta.is_dir() {
                if around.contains(&id(&meta)) {
                    return Err(InitramfsError::Cycle(host));
                }
                around.push(id(&meta));
                self.add_folder(&host, &guest, root, &meta, around)?;
                around.pop();
            } else {
                self.add_file(&host, &guest, &meta, false)?;
            }
        }
        Ok(())
    }

    /// `named` says that the caller named this very file, so that even a library's needs are met.
    fn add_file(
        &mut self,
        host: &Path,
        guest: &Path,
        meta: &Metadata,
        named: bool,
    ) -> Result<&mut Self, InitramfsError> {
        if !meta.is_file() {
            return Err(InitramfsError::Kind(host.to_owned()));
        }
        if u32::try_from(meta.len()).is_err() {
            return Err(InitramfsError::TooLarge(host.to_owned()));
        }
        let bytes = fs::read(host).map_err(|e| read_error(host, e))?;
        if Program::read(host, &bytes)?
            .is_some_and(|program| named || program.interpreter.is_some())
        {
            self.programs.push((guest.to_owned(), host.to_owned()));
        }
        self.file_from(guest, permissions(meta), &bytes, Some(host))
    }
}

pub(super) fn read_error(path: &Path, source: std::io::Error) -> InitramfsError {
    InitramfsError::Read {
        path: path.to_owned(),
        source,
    }
}

fn permissions(meta: &Metadata) -> u32 {
    meta.permissions().mode() & 0o7777
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The target of a link that means the same in the guest: relative, and not leading out of `root`,
/// or leading nowhere on the host either.
fn kept_link(link: &Path, root: &Path) -> Result<Option<PathBuf>, InitramfsError> {
    let target = fs::read_link(link).map_err(|e| read_error(link, e))?;
    let stays = match link.canonicalize() {
        Ok(end) => end.starts_with(root) && never_climbs_out(link, &target, root),
        Err(_) => true,
    };
    Ok(stays.then_some(target))
}

/// Whether the folders named on the way to `target` lie in `root` as well as its end does.
fn never_climbs_out(link: &Path, target: &Path, root: &Path) -> bool {
    if target.is_absolute() {
        return false;
    }
    let Some(Ok(mut at)) = link.parent().map(Path::canonicalize) else {
        return false;
    };
    for component in target.components() {
        match component {
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => at.push(name),
            _ => {}
        }
        if !at.starts_with(root) {
            return false;
        }
    }
    true
}
