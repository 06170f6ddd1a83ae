//! Where control sockets lie, and whose name is taken.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// A run's name: what `--name` takes and `trapline ctl` is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Text that is no name.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot name a run; use up to 64 letters, digits, dots, dashes and underscores, the first \
     a letter or digit"
)]
pub struct NameError(String);

impl Name {
    /// For a run that was given none: its process id keeps it apart from the others.
    #[must_use]
    pub fn generated() -> Self {
        Self(format!("run-{}", std::process::id()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let first = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.bytes().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.into()))
        }
    }
}

/// A control socket that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The folder cannot be made.
    #[error(
        "cannot make the folder for control sockets {path}; set XDG_RUNTIME_DIR to a folder of \
         yours"
    )]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is somebody else's, or open to others.
    #[error(
        "{path} must be a folder that only you can enter; remove it, or set XDG_RUNTIME_DIR to a \
         folder of yours"
    )]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// A run of that name is alive.
    #[error(
        "a run named {name} is alive; give this one another --name, or end that one with \
         `trapline ctl {name} stop`"
    )]
    Taken {
        /// Which.
        name: Name,
    },
    /// The socket cannot be made.
    #[error("cannot make the control socket {path}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder of control sockets: `$XDG_RUNTIME_DIR/trapline`, else `/run/user/UID/trapline`, else
/// `/tmp/trapline-UID`. Only its owner can enter it.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    folder: OwnedFd,
}

impl Place {
    /// The user's, made when it is not there.
    ///
    /// # Errors
    /// [`PlaceError::Folder`], [`PlaceError::NotOurs`].
    pub fn find() -> Result<Self, PlaceError> {
        let uid = rustix::process::getuid().as_raw();
        let given = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let given = given.filter(|path| path.is_absolute());
        let usual = || Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|path| is_ours(path));
        let path = match given.or_else(usual) {
            Some(runtime) => runtime.join("trapline"),
            None => PathBuf::from(format!("/tmp/trapline-{uid}")),
        };
        Self::at(path)
    }

    /// This folder.
    ///
    /// # Errors
    /// As [`Place::find`].
    pub fn at(path: PathBuf) -> Result<Self, PlaceError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        let refused = |source| PlaceError::Folder {
            path: path.clone(),
            source,
        };
        made.map_err(refused)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&path, flags, Mode::empty());
        let folder = folder.map_err(|e| refused(e.into()))?;
        let facts = rustix::fs::fstat(&folder).map_err(|e| refused(e.into()))?;
        // In /tmp somebody else may have been there first.
        if facts.st_uid != rustix::process::getuid().as_raw() || facts.st_mode & 0o077 != 0 {
            return Err(PlaceError::NotOurs { path });
        }
        Ok(Self { path, folder })
    }

    /// The socket of `name`.
    #[must_use]
    pub fn socket(&self, name: &Name) -> PathBuf {
        self.path.join(format!("{name}.sock"))
    }

    /// The same for bind(2) and connect(2), whose paths end at 107 bytes.
    fn short(&self, name: &Name) -> PathBuf {
        let path = self.socket(name);
        if path.as_os_str().len() <= 107 {
            return path;
        }
        PathBuf::from(format!(
            "/proc/self/fd/{}/{name}.sock",
            self.folder.as_raw_fd()
        ))
    }

    /// Every name there is a socket for, alive or not.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, PlaceError> {
        let refused = |source| PlaceError::Folder {
            path: self.path.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let is_socket = entry.file_type().is_ok_and(|t| t.is_socket());
            let name = entry.file_name();
            let name = name.to_str().and_then(|n| n.strip_suffix(".sock"));
            if let Some(Ok(name)) = name.map(str::parse)
                && is_socket
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Takes `name`. A socket that a dead run left behind is replaced.
    ///
    /// # Errors
    /// [`PlaceError::Taken`], [`PlaceError::Socket`].
    pub fn listen(&self, name: &Name) -> Result<Listening, PlaceError> {
        let path = self.socket(name);
        let refused = |source| PlaceError::Socket {
            path: path.clone(),
            source,
        };
        let _lock = self.lock().map_err(refused)?;
        if self.remove_when_dead(name).map_err(refused)? {
            return Err(PlaceError::Taken { name: name.clone() });
        }
        let socket = UnixListener::bind(self.short(name)).map_err(refused)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(refused)?;
        socket.set_nonblocking(true).map_err(refused)?;
        let inode = fs::symlink_metadata(&path).map_err(refused)?.ino();
        Ok(Listening {
            socket,
            path,
            inode,
        })
    }

    /// A connection to the run `name`; none when there is no such run. What a dead run left behind
    /// is removed.
    ///
    /// # Errors
    /// When the socket is there and answers neither way.
    pub(super) fn connect(&self, name: &Name) -> io::Result<Option<UnixStream>> {
        match UnixStream::connect(self.short(name)) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_dead(&error) => {
                let _lock = self.lock()?;
                self.remove_when_dead(name)?;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a run of that name is alive; if not, nothing is left of it. Call under the lock.
    fn remove_when_dead(&self, name: &Name) -> io::Result<bool> {
        match UnixStream::connect(self.short(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if is_dead(&error) => {
                fs::remove_file(self.socket(name))?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Held while a name is taken or a dead run's socket removed, so that two runs never both find
    /// it dead.
    fn lock(&self) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&self.folder, ".lock", flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock.into())
    }
}

fn is_dead(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

fn is_ours(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::getuid().as_raw())
}

/// A name that is taken, until this is dropped.
#[derive(Debug)]
pub struct Listening {
    pub(super) socket: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Listening {
    /// The socket, for somebody else to accept from. It does not block.
    ///
    /// # Errors
    /// When there is no descriptor left for a copy.
    pub fn socket(&self) -> io::Result<UnixListener> {
        self.socket.try_clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Another run may have replaced a socket that somebody removed.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(at: &Path) -> Place {
        Place::at(at.join("trapline")).unwrap()
    }

    #[test]
    fn names_are_words_that_cannot_leave_the_folder() {
        for good in ["a", "run-1", "A.b_c-9", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-x",
            "a/b",
            "a b",
            "ä",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!(Name::generated().as_str().parse::<Name>().is_ok());
    }

    #[test]
    fn a_name_is_taken_while_its_run_lives_and_free_after() {
        let dir = tempfile::tempdir().unwrap();
        let (place, name) = (place(dir.path()), "a".parse().unwrap());
        let first = place.listen(&name).unwrap();
        let error = place.listen(&name).unwrap_err().to_string();
        assert!(
            error.contains("run named a is alive") && error.contains("--name"),
            "{error}"
        );
        drop(first);
        assert_eq!(place.names().unwrap(), []);
        place.listen(&name).unwrap();
    }

    #[test]
    fn what_a_dead_run_left_is_replaced_and_not_listed_as_alive() {
        let dir = tempfile::tempdir().unwrap();
        let (place, name) = (place(dir.path()), "a".parse().unwrap());
        // A socket whose process died: bound, closed, never unlinked.
        drop(UnixListener::bind(place.socket(&name)).unwrap());
        assert_eq!(place.names().unwrap(), std::slice::from_ref(&name));
        let run = place.listen(&name).unwrap();
        assert!(place.connect(&name).unwrap().is_some());
        drop(run);
        drop(UnixListener::bind(place.socket(&name)).unwrap());
        assert!(place.connect(&name).unwrap().is_none());
        assert_eq!(place.names().unwrap(), []);
    }

    #[test]
    fn only_the_owner_can_reach_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let (place, name) = (place(dir.path()), "a".parse().unwrap());
        let _run = place.listen(&name).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&place.socket(&name)), 0o600);
        assert_eq!(mode(&place.path), 0o700);
        fs::set_permissions(&place.path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Place::at(place.path).unwrap_err();
        assert!(matches!(error, PlaceError::NotOurs { .. }));
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", dir.path().join("trapline")).unwrap();
        assert!(Place::at(dir.path().join("trapline")).is_err());
    }

    #[test]
    fn a_path_longer_than_a_socket_address_works() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120)).join("e".repeat(120));
        let (place, name) = (place(&deep), "x".repeat(64).parse().unwrap());
        let _run = place.listen(&name).unwrap();
        assert!(place.connect(&name).unwrap().is_some());
        assert_eq!(place.names().unwrap(), [name]);
    }

    #[test]
    fn a_socket_that_another_run_replaced_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (place, name) = (place(dir.path()), "a".parse().unwrap());
        let first = place.listen(&name).unwrap();
        fs::remove_file(place.socket(&name)).unwrap();
        let _second = place.listen(&name).unwrap();
        drop(first);
        assert!(place.connect(&name).unwrap().is_some());
    }
}
