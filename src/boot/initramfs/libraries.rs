//! The libraries of packed programs, searched for as ld.so would (ld.so(8)): `DT_RPATH` of the
//! program and of whoever loaded it, `DT_RUNPATH`, the cache, the default folders. What is already
//! in the initramfs comes before what is on the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::elf::Program;
use super::host_files::read_error;
use super::tree::Kind;
use super::{Initramfs, InitramfsError, ld_cache};

const CACHE: &str = "/etc/ld.so.cache";

/// The folders built into the ld.so of Debian, Fedora and Arch.
const DEFAULT_FOLDERS: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// A place to look: the folder in the guest, and the folder of the host it would be filled from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    guest: PathBuf,
    host: PathBuf,
}

impl Place {
    fn same(path: impl Into<PathBuf>) -> Self {
        let guest = path.into();
        Self {
            host: guest.clone(),
            guest,
        }
    }

    fn entry(&self, name: &str) -> Self {
        Self {
            guest: self.guest.join(name),
            host: self.host.join(name),
        }
    }
}

/// One program with the libraries it loads.
struct Search<'a> {
    initramfs: &'a mut Initramfs,
    cache: &'a [u8],
    loaded: BTreeSet<String>,
    /// A library came from a folder only the cache knows, so the guest needs the cache.
    by_cache: bool,
}

impl Initramfs {
    /// Packs the interpreter and the libraries of every program packed so far. Libraries a program
    /// opens by itself (`dlopen`, name services) cannot be seen here.
    pub fn add_libraries(&mut self) -> Result<&mut Self, InitramfsError> {
        let programs = std::mem::take(&mut self.programs);
        if programs.is_empty() {
            return Ok(self);
        }
        let cache = fs::read(CACHE).unwrap_or_default();
        let mut by_cache = false;
        for (guest, host) in programs {
            let mut search = Search {
                initramfs: self,
                cache: &cache,
                loaded: BTreeSet::new(),
                by_cache: false,
            };
            search.load(Place { guest, host }, &[])?;
            by_cache |= search.by_cache;
        }
        if by_cache && self.kind(Path::new(CACHE))?.is_none() {
            self.file(CACHE, 0o644, &cache)?;
        }
        Ok(self)
    }
}

impl Search<'_> {
    /// Follows one object; `inherited` are the `DT_RPATH` folders of those that loaded it.
    fn load(&mut self, object: Place, inherited: &[Place]) -> Result<(), InitramfsError> {
        let bytes = fs::read(&object.host).map_err(|e| read_error(&object.host, e))?;
        let Some(program) = Program::read(&object.host, &bytes)? else {
            return Ok(());
        };
        if let Some(interpreter) = &program.interpreter {
            if !self.pack(&Place::same(interpreter))? {
                return Err(missing(interpreter, &object));
            }
            // libc needs it too, by its name alone, and ld.so never loads itself again.
            let name = Path::new(interpreter).file_name().unwrap_or_default();
            self.loaded.insert(name.to_string_lossy().into_owned());
        }
        let mut rpath = inherited.to_vec();
        let mut runpath = Vec::new();
        match (&program.runpath, &program.rpath) {
            (Some(list), _) => runpath = folders(list, &object),
            (None, Some(list)) => rpath.splice(0..0, folders(list, &object)).for_each(drop),
            (None, None) => {}
        }
        // An object with DT_RUNPATH is searched without any DT_RPATH.
        let first = if program.runpath.is_some() {
            &[]
        } else {
            rpath.as_slice()
        };
        for name in &program.needed {
            if !self.loaded.insert(name.clone()) {
                continue;
            }
            let found = self
                .find(name, first.iter().chain(&runpath))?
                .ok_or_else(|| missing(name, &object))?;
            self.load(found, &rpath)?;
        }
        Ok(())
    }

    fn find<'p>(
        &mut self,
        name: &str,
        first: impl Iterator<Item = &'p Place>,
    ) -> Result<Option<Place>, InitramfsError> {
        if name.contains('/') {
            return self.try_pack(Place::same(name));
        }
        for place in first {
            if let Some(found) = self.try_pack(place.entry(name))? {
                return Ok(Some(found));
            }
        }
        for path in ld_cache::lookup(self.cache, name) {
            let path = PathBuf::from(path);
            let by_default = path
                .parent()
                .is_some_and(|folder| DEFAULT_FOLDERS.iter().any(|d| Path::new(d) == folder));
            if let Some(found) = self.try_pack(Place::same(path))? {
                self.by_cache |= !by_default;
                return Ok(Some(found));
            }
        }
        for folder in DEFAULT_FOLDERS {
            if let Some(found) = self.try_pack(Place::same(folder).entry(name))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Packs the file unless the guest has it; gives where its bytes are on the host.
    fn try_pack(&mut self, at: Place) -> Result<Option<Place>, InitramfsError> {
        if !self.pack(&at)? {
            return Ok(None);
        }
        let host = match self.initramfs.kind(&at.guest)? {
            Some(Kind::File(Some(host))) => host.clone(),
            _ => at.host,
        };
        Ok(Some(Place {
            guest: at.guest,
            host,
        }))
    }

    /// Whether the file is in the guest now.
    fn pack(&mut self, at: &Place) -> Result<bool, InitramfsError> {
        match self.initramfs.kind(&at.guest)? {
            Some(Kind::File(_)) => return Ok(true),
            Some(_) => return Ok(false),
            None => {}
        }
        let Ok(bytes) = fs::read(&at.host) else {
            return Ok(false);
        };
        // ld.so goes on where it meets a library of another machine.
        if Program::read(&at.host, &bytes)?.is_none() {
            return Ok(false);
        }
        self.initramfs
            .file_from(&at.guest, 0o755, &bytes, Some(&at.host))?;
        Ok(true)
    }
}

fn missing(library: &str, object: &Place) -> InitramfsError {
    InitramfsError::MissingLibrary {
        library: library.to_owned(),
        needed_by: object.host.clone(),
    }
}

/// The folders of a `DT_RPATH` or `DT_RUNPATH`. `$ORIGIN` is where the object lies: one folder in
/// the guest, another on the host.
fn folders(list: &str, object: &Place) -> Vec<Place> {
    let host = object.host.canonicalize();
    let host = host.as_deref().unwrap_or(&object.host);
    let (guest_origin, host_origin) = (parent(&object.guest), parent(host));
    let mut places = Vec::new();
    for entry in list.split(':').filter(|entry| !entry.is_empty()) {
        let entry = entry.replace("${", "$").replace('}', "");
        for lib in ["lib/x86_64-linux-gnu", "lib64", "lib"] {
            let path = entry.replace("$LIB", lib).replace("$PLATFORM", "x86_64");
            let place = Place {
                guest: path.replace("$ORIGIN", &guest_origin).into(),
                host: path.replace("$ORIGIN", &host_origin).into(),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

fn parent(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new("/"));
    folder.to_string_lossy().into_owned()
}
