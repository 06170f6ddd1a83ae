//! What the guest sends back for `--get`: spooled while it runs, unpacked after.
//!
//! The archive comes from the guest and is believed in nothing: members that no `--get` asked for are
//! passed over, and none can leave the folder it is unpacked into. It may also end anywhere, for a
//! guest can die while it sends: a result counts when the one after it begins, or the archive's end.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use tar::Archive;

use super::landing::Landing;
use crate::chipset::Parcels;
use crate::cli::values::Pair;

/// A result that could not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResultError {
    /// No place for the spool, or none left.
    #[error("cannot keep what the guest sends for --get in {}", path.display())]
    Spool {
        /// The folder of the first result.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no archive.
    #[error(
        "what the guest sent for --get cannot be read; not brought back: {}",
        list(missing)
    )]
    Archive {
        /// What is not there for it.
        missing: Vec<PathBuf>,
        /// Why.
        source: io::Error,
    },
    /// The archive stops before its end.
    #[error(
        "the guest stopped sending before it was done; not brought back: {}",
        list(missing)
    )]
    Cut {
        /// What had not come whole.
        missing: Vec<PathBuf>,
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
    #[error("the guest did not send {}", list(paths))]
    Missing {
        /// What was asked for.
        paths: Vec<PathBuf>,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
    names.join(", ")
}

impl ResultError {
    /// Whether the run as such failed by it. A guest that failed, or was stopped, has said more by
    /// that than by what it then did not send.
    pub(super) const fn decides(&self, status: u8) -> bool {
        match self {
            Self::Missing { .. } => status == 0,
            Self::Cut { .. } => status < 64,
            Self::Spool { .. } | Self::Archive { .. } | Self::Write { .. } => true,
        }
    }
}

/// A spool of parcels: an unnamed file where the results will go, so that a guest that sends without
/// end fills a disk it may fill and not this machine's memory. Without one, parcels are refused.
#[derive(Debug, Default)]
pub(super) struct Spool {
    file: Option<File>,
    folder: PathBuf,
    /// Why a parcel was not kept. None is taken after that.
    failure: Arc<OnceLock<io::Error>>,
}

/// The spool as it is read after the run.
#[derive(Debug)]
pub(super) struct Sent {
    file: File,
    folder: PathBuf,
    failure: Arc<OnceLock<io::Error>>,
}

impl Spool {
    /// A spool beside the first result; none when there are none. The folders of all must be there:
    /// that is better known now than when the guest has worked for an hour.
    pub(super) fn for_results(get: &[Pair]) -> Result<Self, ResultError> {
        let Some(Pair(_, first)) = get.first() else {
            return Ok(Self::default());
        };
        for Pair(_, host) in get {
            let path = folder_of(host);
            if let Err(source) = fs::read_dir(&path) {
                return Err(ResultError::Spool { path, source });
            }
        }
        let folder = folder_of(first);
        let file = tempfile::tempfile_in(&folder).map_err(|source| ResultError::Spool {
            path: folder.clone(),
            source,
        })?;
        Ok(Self {
            file: Some(file),
            folder,
            failure: Arc::default(),
        })
    }

    /// Another handle on the same spool, to read it after the run.
    pub(super) fn reader(&self) -> Result<Option<Sent>, ResultError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let file = file.try_clone().map_err(|source| ResultError::Spool {
            path: self.folder.clone(),
            source,
        })?;
        Ok(Some(Sent {
            file,
            folder: self.folder.clone(),
            failure: Arc::clone(&self.failure),
        }))
    }
}

impl Parcels for Spool {
    fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("no results were asked for"));
        };
        file.write_all(bytes).map_err(|error| {
            let kind = error.kind();
            let _ = self.failure.set(error);
            kind.into()
        })
    }
}

/// A device, as /dev/stdout may be one, lies in a folder where nothing is to be made.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        _ if Landing::is_device(path) => std::env::temp_dir(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Puts the results where they were asked for, as `cp -a` does: into a folder that exists, else
/// under the new name. All that came whole are there afterwards, whatever became of the others.
pub(super) fn unpack(sent: Sent, get: &[Pair]) -> Result<(), ResultError> {
    let mut harvest = Harvest {
        get,
        landed: vec![false; get.len()],
        failed: None,
    };
    let read = harvest.gather(sent.file);
    let landed = harvest.landed.into_iter();
    let missing: Vec<PathBuf> = get
        .iter()
        .zip(landed)
        .filter(|(_, landed)| !landed)
        .map(|(Pair(guest, _), _)| guest.clone())
        .collect();
    if let Some(failure) = sent.failure.get() {
        let kind = || failure.kind().into();
        let again = failure.raw_os_error().map(io::Error::from_raw_os_error);
        return Err(ResultError::Spool {
            path: sent.folder,
            source: again.unwrap_or_else(kind),
        });
    }
    if let Some(failed) = harvest.failed {
        return Err(failed);
    }
    match read {
        Err(source) => Err(ResultError::Archive { missing, source }),
        Ok(Reached::MidStream) => Err(ResultError::Cut { missing }),
        Ok(Reached::End) if missing.is_empty() => Ok(()),
        Ok(Reached::End) => Err(ResultError::Missing { paths: missing }),
    }
}

/// How far an archive could be read.
enum Reached {
    /// To the empty block that ends it.
    End,
    /// To the end of the file, which came before.
    MidStream,
}

/// A reader that knows when it has run out.
struct Watched(File, Rc<Cell<bool>>);

impl Read for Watched {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(bytes)?;
        if count == 0 && !bytes.is_empty() {
            self.1.set(true);
        }
        Ok(count)
    }
}

struct Harvest<'a> {
    get: &'a [Pair],
    landed: Vec<bool>,
    /// The first result that could not be written.
    failed: Option<ResultError>,
}

impl Harvest<'_> {
    fn gather(&mut self, mut file: File) -> io::Result<Reached> {
        file.rewind()?;
        let ran_out = Rc::new(Cell::new(false));
        let mut archive = Archive::new(Watched(file, Rc::clone(&ran_out)));
        let mut current: Option<(usize, Landing)> = None;
        for entry in archive.entries()? {
            let mut entry = match entry {
                Err(_) if ran_out.get() => return Ok(Reached::MidStream),
                entry => entry?,
            };
            let Some((number, rest)) = split(&entry.path()?) else {
                continue;
            };
            if current.as_ref().is_none_or(|(open, _)| *open != number) {
                self.land(current.take());
                current = self.begin(number);
            }
            let Some((_, landing)) = &mut current else {
                continue;
            };
            if let Err(source) = landing.place(&mut entry, &rest) {
                if ran_out.get() {
                    return Ok(Reached::MidStream);
                }
                self.fail(landing.target().join(&rest), source);
                current = None;
            }
        }
        if ran_out.get() {
            return Ok(Reached::MidStream);
        }
        self.land(current);
        Ok(Reached::End)
    }

    /// None for what nobody asked for, and for what is there already.
    fn begin(&mut self, number: usize) -> Option<(usize, Landing)> {
        let pair = self.get.get(number)?;
        if *self.landed.get(number)? {
            return None;
        }
        let target = target_of(pair);
        match Landing::at(&target) {
            Ok(landing) => Some((number, landing)),
            Err(source) => {
                self.fail(target, source);
                None
            }
        }
    }

    fn land(&mut self, done: Option<(usize, Landing)>) {
        let Some((number, landing)) = done else {
            return;
        };
        let target = landing.target().to_owned();
        match landing.finish() {
            Ok(()) => {
                if let Some(landed) = self.landed.get_mut(number) {
                    *landed = true;
                }
            }
            Err(source) => self.fail(target, source),
        }
    }

    fn fail(&mut self, path: PathBuf, source: io::Error) {
        self.failed
            .get_or_insert(ResultError::Write { path, source });
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

#[cfg(test)]
mod tests {
    use tar::EntryType;

    use super::*;

    fn archive(members: &[(&str, EntryType, &str)]) -> Sent {
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
        sent(builder.into_inner().unwrap())
    }

    fn sent(file: File) -> Sent {
        Sent {
            file,
            folder: PathBuf::new(),
            failure: Arc::default(),
        }
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

    /// Two results, a folder and a file, cut to `length` bytes.
    fn cut(length: usize) -> (Sent, usize) {
        let content = "x".repeat(700);
        let mut whole = archive(&[
            ("0", EntryType::Directory, ""),
            ("0/a", EntryType::Regular, &content),
            ("1", EntryType::Regular, &content),
        ]);
        let mut bytes = Vec::new();
        whole.file.rewind().unwrap();
        whole.file.read_to_end(&mut bytes).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes[..length.min(bytes.len())]).unwrap();
        (sent(file), bytes.len())
    }

    #[test]
    fn a_stream_cut_anywhere_leaves_whole_results_and_names_the_others() {
        let (_, whole) = cut(0);
        let last_header = 4 * 512;
        let end_mark = whole - 1024;
        for length in (0..end_mark).step_by(64).chain([end_mark - 1, end_mark]) {
            let dir = tempfile::tempdir().unwrap();
            let both = [
                get("/out", dir.path().join("out")),
                get("/log", dir.path().join("log")),
            ]
            .concat();
            let error = unpack(cut(length).0, &both).unwrap_err();
            let ResultError::Cut { missing } = &error else {
                panic!("{length}: {error}");
            };
            // The folder is whole once the file's header has come after it.
            let folder = length >= last_header + 512;
            let expected: &[_] = if folder { &["/log"] } else { &["/out", "/log"] };
            assert_eq!(list(missing), expected.join(", "), "{length}");
            assert_eq!(dir.path().join("out/a").exists(), folder, "{length}");
            let left = fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(left, usize::from(folder), "{length}: something half-made");
        }
        let dir = tempfile::tempdir().unwrap();
        let both = [
            get("/out", dir.path().join("out")),
            get("/log", dir.path().join("log")),
        ]
        .concat();
        unpack(cut(end_mark + 512).0, &both).unwrap();
        assert_eq!(fs::read(dir.path().join("log")).unwrap().len(), 700);
    }

    #[test]
    fn a_result_replaces_a_file_and_joins_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("out/a")).unwrap();
        fs::write(dir.path().join("out/a/b"), "old").unwrap();
        fs::write(dir.path().join("out/a/kept"), "kept").unwrap();
        let spool = archive(&[
            ("0", EntryType::Directory, ""),
            ("0/a", EntryType::Directory, ""),
            ("0/a/b", EntryType::Regular, "new"),
        ]);
        unpack(spool, &get("/out", dir.path().into())).unwrap();
        assert_eq!(fs::read(dir.path().join("out/a/b")).unwrap(), b"new");
        assert_eq!(fs::read(dir.path().join("out/a/kept")).unwrap(), b"kept");
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        let file = || archive(&[("0", EntryType::Regular, "x")]);
        unpack(file(), &get("/log", "/dev/null".into())).unwrap();
        assert!(Landing::is_device(Path::new("/dev/null")));
        let error = unpack(file(), &get("/log", "/dev/full".into())).unwrap_err();
        let text = crate::cli::chain(&error);
        assert!(
            text.contains("/dev/full") && text.contains("No space left"),
            "{text}"
        );
    }

    #[test]
    fn one_result_that_cannot_be_written_keeps_no_other_back() {
        let dir = tempfile::tempdir().unwrap();
        let both = [
            get("/a", "/dev/full".into()),
            get("/b", dir.path().join("b")),
        ]
        .concat();
        let spool = archive(&[
            ("0", EntryType::Regular, "a"),
            ("1", EntryType::Regular, "b"),
        ]);
        let error = unpack(spool, &both).unwrap_err();
        assert!(matches!(error, ResultError::Write { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"b");
    }

    #[test]
    fn what_was_not_kept_is_told_with_its_reason() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut spool = Spool {
            file: Some(full),
            folder: "/results".into(),
            failure: Arc::default(),
        };
        spool.deliver(b"parcel").unwrap_err();
        let sent = Sent {
            file: tempfile::tempfile().unwrap(),
            ..spool.reader().unwrap().unwrap()
        };
        drop(spool);
        let error = unpack(sent, &get("/log", "/results/log".into())).unwrap_err();
        let text = crate::cli::chain(&error);
        assert!(
            text.contains("/results") && text.contains("No space left"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_known_before_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let both = [
            get("/a", dir.path().join("a")),
            get("/b", "/nowhere/b".into()),
        ]
        .concat();
        let error = Spool::for_results(&both).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }

    #[test]
    fn what_does_not_come_from_a_guest_that_failed_leaves_its_status() {
        let (missing, cut) = (
            ResultError::Missing { paths: vec![] },
            ResultError::Cut { missing: vec![] },
        );
        let decides = |status| (missing.decides(status), cut.decides(status));
        assert_eq!(decides(0), (true, true));
        assert_eq!(decides(7), (false, true));
        assert_eq!(decides(70), (false, false));
    }
}
