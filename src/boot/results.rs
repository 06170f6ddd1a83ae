//! What a guest sent back: init's archive, unpacked to the paths `--get` named.
//!
//! The archive comes from a guest and is hostile: members go to the targets by number, never by a
//! path the guest chose outside of them, and no link is followed on the way.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};
use thiserror::Error;

/// Why something did not come back.
#[derive(Debug, Error)]
pub enum ResultsError {
    /// The archive stops in the middle, or is none.
    #[error("the guest's archive is damaged; its console says why init stopped sending")]
    Archive(#[source] io::Error),
    /// A member that belongs to nothing that was asked for.
    #[error("the guest's archive holds {0:?}, which was not asked for; nothing of it was written")]
    Stray(PathBuf),
    /// The host's side.
    #[error("cannot write {}, which the guest sent back", path.display())]
    Write {
        /// The file, folder or link.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Unpacks an archive: member `N`, and what is below it, becomes `targets[N]`. Gives the numbers of
/// the targets that came; the guest says on its console why others did not.
pub fn unpack(archive: impl Read, targets: &[PathBuf]) -> Result<Vec<usize>, ResultsError> {
    let mut came = Vec::new();
    let mut zeros = 0;
    let mut archive = Archive::new(Tail {
        from: archive,
        zeros: &mut zeros,
    });
    for entry in archive.entries().map_err(ResultsError::Archive)? {
        let mut entry = entry.map_err(ResultsError::Archive)?;
        let name = entry.path().map_err(ResultsError::Archive)?.into_owned();
        let (number, rest) = split(&name).ok_or_else(|| ResultsError::Stray(name.clone()))?;
        let target = targets
            .get(number)
            .ok_or_else(|| ResultsError::Stray(name.clone()))?;
        if !came.contains(&number) {
            came.push(number);
        }
        let path = if rest.as_os_str().is_empty() {
            target.clone()
        } else {
            reach(target, &rest)?
        };
        write(&mut entry, &path)?;
    }
    drop(archive);
    if zeros < END {
        return Err(ResultsError::Archive(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(came)
}

/// An empty block ends an archive (with a second one, which `tar` does not read); `tar` takes the end
/// of the stream for an end as well.
const END: usize = 512;

/// Counts the zeros at the end of what was read.
struct Tail<'a, R> {
    from: R,
    zeros: &'a mut usize,
}

impl<R: Read> Read for Tail<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        *self.zeros = match read.iter().rposition(|&b| b != 0) {
            Some(last) => count.saturating_sub(last).saturating_sub(1),
            None => self.zeros.saturating_add(count),
        };
        Ok(count)
    }
}

/// The number a member begins with, and the plain names after it.
fn split(name: &Path) -> Option<(usize, PathBuf)> {
    let mut components = name.components();
    let number = components.next()?.as_os_str().to_str()?.parse().ok()?;
    let mut rest = PathBuf::new();
    for component in components {
        let Component::Normal(name) = component else {
            return None;
        };
        rest.push(name);
    }
    Some((number, rest))
}

/// The place of `rest` below `target`. Folders on the way must be folders and no links: the guest
/// may have sent a link before, and what is beyond it is not its own.
fn reach(target: &Path, rest: &Path) -> Result<PathBuf, ResultsError> {
    let mut path = target.to_owned();
    let mut names = rest.iter().peekable();
    while let Some(name) = names.next() {
        path.push(name);
        if names.peek().is_none() {
            break;
        }
        let is_folder = fs::symlink_metadata(&path).map(|meta| meta.is_dir());
        let checked = match is_folder {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::ErrorKind::NotADirectory.into()),
            Err(e) => Err(e),
        };
        checked.map_err(|source| ResultsError::Write {
            path: path.clone(),
            source,
        })?;
    }
    Ok(path)
}

fn write(entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<(), ResultsError> {
    let kind = entry.header().entry_type();
    let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
    let written = match kind {
        EntryType::Directory => make_folder(path, mode),
        EntryType::Regular => {
            let size = entry.size();
            write_file(entry, path, mode, size)
        }
        EntryType::Symlink => entry
            .link_name()
            .and_then(|target| target.ok_or_else(|| io::ErrorKind::InvalidData.into()))
            .and_then(|target| clear(path).and_then(|()| std::os::unix::fs::symlink(target, path))),
        _ => return Err(ResultsError::Stray(path.to_owned())),
    };
    written.map_err(|source| ResultsError::Write {
        path: path.to_owned(),
        source,
    })
}

/// The owner keeps access, whatever the guest thinks of it.
fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o700)),
    }
}

/// Under another name first, so that a full disk leaves no half of a file under its own.
fn write_file(from: &mut impl Read, path: &Path, mode: u32, size: u64) -> io::Result<()> {
    let part = part_of(path);
    let done = fs::File::create(&part)
        .and_then(|mut file| io::copy(from, &mut file))
        .and_then(|copied| match copied == size {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        })
        .and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(mode | 0o600)))
        .and_then(|()| fs::rename(&part, path));
    if done.is_err() {
        // The reason of the failure is the one to report.
        let _ = fs::remove_file(&part);
    }
    done
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    path.with_file_name(name)
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn member(kind: EntryType, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_size(data.len() as u64);
        // Written as it is: the builder would refuse the names a hostile guest sends.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, data).unwrap();
        let whole = builder.into_inner().unwrap();
        whole[..whole.len() - 1024].to_vec()
    }

    fn archive(members: &[Vec<u8>]) -> Vec<u8> {
        [members.concat(), vec![0; 1024]].concat()
    }

    #[test]
    fn members_go_to_the_targets_by_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let targets = [
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("c"),
        ];
        let bytes = archive(&[
            member(EntryType::Regular, "2", "", b"file"),
            member(EntryType::Directory, "0", "", b""),
            member(EntryType::Regular, "0/x", "", b"inner"),
        ]);
        assert_eq!(unpack(bytes.as_slice(), &targets).unwrap(), [2, 0]);
        assert_eq!(fs::read(dir.path().join("c")).unwrap(), b"file");
        assert_eq!(fs::read(dir.path().join("a/x")).unwrap(), b"inner");
        assert!(!dir.path().join("b").exists());
    }

    #[test]
    fn nothing_leaves_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let targets = [dir.path().join("t")];
        for (members, what) in [
            (
                vec![member(EntryType::Regular, "0/../out", "", b"1")],
                "a climb",
            ),
            (
                vec![member(EntryType::Regular, "1", "", b"1")],
                "another number",
            ),
            (
                vec![member(EntryType::Regular, "out", "", b"1")],
                "no number",
            ),
            (
                vec![member(EntryType::Link, "0", "/etc/passwd", b"")],
                "a hard link",
            ),
            (vec![member(EntryType::Char, "0", "", b"")], "a device"),
            (
                vec![
                    member(EntryType::Directory, "0", "", b""),
                    member(EntryType::Symlink, "0/l", dir.path().to_str().unwrap(), b""),
                    member(EntryType::Regular, "0/l/out", "", b"1"),
                ],
                "a way through a link",
            ),
        ] {
            assert!(
                unpack(archive(&members).as_slice(), &targets).is_err(),
                "{what}"
            );
            assert!(!dir.path().join("out").exists(), "{what}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced_and_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (target, other) = (dir.path().join("t"), dir.path().join("other"));
        fs::write(&other, b"mine").unwrap();
        let bytes = archive(&[
            member(EntryType::Directory, "0", "", b""),
            member(EntryType::Symlink, "0/f", other.to_str().unwrap(), b""),
            member(EntryType::Regular, "0/f", "", b"theirs"),
        ]);
        unpack(bytes.as_slice(), std::slice::from_ref(&target)).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"mine");
        assert_eq!(fs::read(target.join("f")).unwrap(), b"theirs");
    }

    #[test]
    fn an_archive_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = archive(&[member(EntryType::Regular, "0", "", &[7; 2000])]);
        let target = dir.path().join("t");
        for end in (0..whole.len() - 512).step_by(37) {
            let result = unpack(&whole[..end], std::slice::from_ref(&target));
            assert!(result.is_err(), "cut at {end}");
            assert_eq!(target.exists(), end >= 512 + 2000, "cut at {end}");
        }
    }
}
