//! What the guest sends back for `--get`: spooled while it runs, unpacked after.
//!
//! The archive comes from the guest and is believed in nothing: members that no `--get` asked for are
//! passed over, and none can leave the folder it is unpacked into.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use crate::chipset::Parcels;
use crate::cli::values::Pair;

/// A result that could not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResultError {
    /// No place for the spool.
    #[error("cannot keep what the guest sends for --get in {}", path.display())]
    Spool {
        /// The folder of the first result.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive ends early or is none.
    #[error("what the guest sent for --get cannot be read; it stopped before it was done")]
    Archive {
        /// Why.
        source: io::Error,
    },
    /// A result cannot be written.
    #[error("cannot write {}, a result of the guest", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guest did not have it.
    #[error("the guest did not send {}", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
}

/// A spool of parcels: an unnamed file where the results will go, so that a guest that sends without
/// end fills a disk it may fill and not this machine's memory. Without one, parcels are refused.
#[derive(Debug, Default)]
pub(super) struct Spool(Option<File>);

impl Spool {
    /// A spool beside the first result; none when there are none.
    pub(super) fn for_results(get: &[Pair]) -> Result<Self, ResultError> {
        let Some(Pair(_, host)) = get.first() else {
            return Ok(Self(None));
        };
        let folder = folder_of(host);
        let file = tempfile::tempfile_in(&folder).map_err(|source| ResultError::Spool {
            path: folder,
            source,
        })?;
        Ok(Self(Some(file)))
    }

    /// Another handle on the same spool, to read it after the run.
    pub(super) fn reader(&self) -> Result<Option<File>, ResultError> {
        let again = self.0.as_ref().map(File::try_clone).transpose();
        again.map_err(|source| ResultError::Archive { source })
    }
}

impl Parcels for Spool {
    fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Some(file) => file.write_all(bytes),
            None => Err(io::Error::other("no results were asked for")),
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Puts the results where they were asked for, as `cp -a` does: into a folder that exists, else
/// under the new name.
pub(super) fn unpack(mut spool: File, get: &[Pair]) -> Result<(), ResultError> {
    let broken = |source| ResultError::Archive { source };
    spool.rewind().map_err(broken)?;
    let targets: Vec<_> = get.iter().map(target_of).collect();
    let mut came = vec![false; get.len()];
    let mut archive = Archive::new(spool);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let member = entry.path().map_err(broken)?.into_owned();
        let Some((number, rest)) = split(&member) else {
            continue;
        };
        let (Some(target), Some(came)) = (targets.get(number), came.get_mut(number)) else {
            continue;
        };
        place(&mut entry, target, &rest).map_err(|source| ResultError::Write {
            path: target.join(&rest),
            source,
        })?;
        *came = true;
    }
    match came
        .iter()
        .position(|came| !came)
        .and_then(|missing| get.get(missing))
    {
        Some(Pair(guest, _)) => Err(ResultError::Missing {
            path: guest.clone(),
        }),
        None => Ok(()),
    }
}

fn target_of(Pair(guest, host): &Pair) -> PathBuf {
    match guest.file_name() {
        Some(name) if host.is_dir() => host.join(name),
        _ => host.clone(),
    }
}

/// `NUMBER/REST`, with a rest that stays below whatever it is joined to.
fn split(member: &Path) -> Option<(usize, PathBuf)> {
    let mut components = member.components().filter(|c| *c != Component::CurDir);
    let Component::Normal(number) = components.next()? else {
        return None;
    };
    let rest: PathBuf = components
        .map(|c| matches!(c, Component::Normal(_)).then_some(c))
        .collect::<Option<_>>()?;
    Some((number.to_str()?.parse().ok()?, rest))
}

/// Writes one member. Only folders, files and symbolic links are made, and nothing is written
/// through a link: a folder on the way must be one.
fn place(entry: &mut Entry<'_, File>, target: &Path, rest: &Path) -> io::Result<()> {
    let mut path = target.to_owned();
    for component in rest.components() {
        if !fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
            return Err(io::Error::other(format!(
                "{} is not a folder",
                path.display()
            )));
        }
        path.push(component);
    }
    match entry.header().entry_type() {
        EntryType::Directory => match fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            done => done,
        },
        EntryType::Regular | EntryType::Symlink | EntryType::GNUSparse => {
            entry.set_preserve_permissions(false);
            entry.unpack(&path).map(|_| ())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, EntryType, &str)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            // Written by hand: the builder refuses what a hostile guest would send.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            if *kind == EntryType::Symlink || *kind == EntryType::Link {
                header.set_link_name_literal(content).unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, io::empty()).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn get(guest: &str, host: PathBuf) -> Vec<Pair> {
        vec![Pair(guest.into(), host)]
    }

    #[test]
    fn a_file_goes_under_its_new_name_or_into_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = || archive(&[("0", EntryType::Regular, "x")]);
        unpack(file(), &get("/tmp/log", dir.path().join("new"))).unwrap();
        unpack(file(), &get("/tmp/log", dir.path().into())).unwrap();
        assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"x");
        assert_eq!(fs::read(dir.path().join("log")).unwrap(), b"x");
    }

    #[test]
    fn folders_come_whole() {
        let dir = tempfile::tempdir().unwrap();
        let spool = archive(&[
            ("0", EntryType::Directory, ""),
            ("0/a", EntryType::Directory, ""),
            ("0/a/b", EntryType::Regular, "b"),
        ]);
        unpack(spool, &get("/out", dir.path().join("out"))).unwrap();
        assert_eq!(fs::read(dir.path().join("out/a/b")).unwrap(), b"b");
    }

    #[test]
    fn no_member_leaves_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        fs::create_dir(&inside).unwrap();
        for name in ["../evil", "0/../../evil", "/evil", "9/evil", "x/evil"] {
            let spool = archive(&[(name, EntryType::Regular, "evil")]);
            let error = unpack(spool, &get("/out", inside.join("out"))).unwrap_err();
            assert!(
                matches!(error, ResultError::Missing { .. }),
                "{name}: {error}"
            );
        }
        let spool = archive(&[
            ("0", EntryType::Directory, ""),
            ("0/link", EntryType::Symlink, ".."),
            ("0/link/evil", EntryType::Regular, "evil"),
        ]);
        assert!(unpack(spool, &get("/out", inside.join("out"))).is_err());
        assert!(!dir.path().join("evil").exists() && !inside.join("evil").exists());
    }

    #[test]
    fn what_did_not_come_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = unpack(archive(&[]), &get("/tmp/core", dir.path().join("c"))).unwrap_err();
        assert!(error.to_string().contains("/tmp/core"), "{error}");
    }
}
