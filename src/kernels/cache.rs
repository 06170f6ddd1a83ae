//! The cache directory: what is in it and where things go.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::KernelError;
use super::kernel::{Kernel, Manifest};
use super::release;

/// `$TRAPLINE_CACHE`, else `trapline` in the user's cache directory (XDG base directories).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The caller's cache. It need not exist.
    ///
    /// # Errors
    /// [`KernelError::NoCache`] when the environment names no place.
    pub fn from_env() -> Result<Self, KernelError> {
        Self::choose(|name| env::var_os(name)).ok_or(KernelError::NoCache)
    }

    /// A cache in a directory of one's own.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn choose(get: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name| get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        // A relative XDG_CACHE_HOME is invalid and to be ignored, says the specification.
        path("TRAPLINE_CACHE")
            .or_else(|| {
                Some(
                    path("XDG_CACHE_HOME")
                        .filter(|p| p.is_absolute())?
                        .join("trapline"),
                )
            })
            .or_else(|| Some(path("HOME")?.join(".cache/trapline")))
            .map(Self::at)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where kernels are kept, one directory each.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.root.join("kernels")
    }

    /// Every kernel got or built, the newest first.
    ///
    /// # Errors
    /// When the cache cannot be read or an entry is damaged.
    pub fn list(&self) -> Result<Vec<Kernel>, KernelError> {
        let dir = self.kernels();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(KernelError::io("read", dir)(error)),
        };
        let mut kernels = Vec::new();
        for entry in entries {
            let path = entry.map_err(KernelError::io("read", &dir))?.path();
            if path.join(Manifest::FILE).is_file() {
                kernels.push(Kernel::from_entry(&path)?);
            }
        }
        kernels.sort_by(|a, b| {
            let key = |k: &Kernel| (k.made_at, k.name.clone());
            key(b).cmp(&key(a))
        });
        Ok(kernels)
    }

    /// The kernel of that name, else the one of that `uname -r`, else the latest release of that
    /// flavour.
    ///
    /// # Errors
    /// As [`Cache::list`].
    pub fn find(&self, name: &str) -> Result<Option<Kernel>, KernelError> {
        // Most are asked for by their name: its directory, and no look at all the others.
        let own = self.kernels().join(name);
        if !name.contains('/') && own.join(Manifest::FILE).is_file() {
            return Kernel::from_entry(&own).map(Some);
        }
        let kernels = self.list()?;
        let is = |what: &Option<String>| what.as_deref() == Some(name);
        let exact = kernels.iter().find(|k| k.name == name);
        let exact = exact.or_else(|| kernels.iter().find(|k| is(&k.version)));
        let version = |k: &&Kernel| k.version.clone().unwrap_or_default();
        let flavour = || {
            let of = kernels.iter().filter(|k| is(&k.flavour));
            of.max_by(|a, b| release::compare(&version(a), &version(b)))
        };
        Ok(exact.or_else(flavour).cloned())
    }

    /// The kernel got or built last.
    ///
    /// # Errors
    /// As [`Cache::list`].
    pub fn newest(&self) -> Result<Option<Kernel>, KernelError> {
        Ok(self.list()?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cache: &Cache, name: &str, flavour: &str, version: &str, made_at: u64) {
        let dir = cache.kernels().join(name);
        fs::create_dir_all(&dir).unwrap();
        let manifest = Manifest {
            name: name.into(),
            version: version.into(),
            flavour: flavour.into(),
            suite: None,
            package: "p 1".into(),
            made_at,
        };
        fs::write(
            dir.join(Manifest::FILE),
            serde_json::to_vec(&manifest).unwrap(),
        )
        .unwrap();
        fs::write(dir.join("vmlinuz"), "").unwrap();
    }

    #[test]
    fn the_environment_chooses_in_the_documented_order() {
        let choose = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into());
            Cache::choose(get).map(|c| c.root().display().to_string())
        };
        let home = ("HOME", "/h");
        assert_eq!(choose(&[("TRAPLINE_CACHE", "/c"), home]).unwrap(), "/c");
        assert_eq!(
            choose(&[("XDG_CACHE_HOME", "/x"), home]).unwrap(),
            "/x/trapline"
        );
        assert_eq!(
            choose(&[("XDG_CACHE_HOME", "rel"), home]).unwrap(),
            "/h/.cache/trapline"
        );
        assert_eq!(
            choose(&[("TRAPLINE_CACHE", ""), home]).unwrap(),
            "/h/.cache/trapline"
        );
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn an_absent_cache_is_an_empty_one() {
        assert_eq!(Cache::at("/nowhere/at/all").list().unwrap(), []);
    }

    #[test]
    fn find_takes_name_then_release_then_the_latest_of_a_flavour() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        put(&cache, "debian-6.1", "debian", "6.1.0-56-amd64", 30);
        put(&cache, "debian-6.12", "debian", "6.12.117-amd64", 20);
        put(&cache, "tiny-6.12", "tiny", "6.12.117", 10);
        let name = |what: &str| cache.find(what).unwrap().map(|k| k.name);
        assert_eq!(name("debian-6.1").as_deref(), Some("debian-6.1"));
        assert_eq!(name("6.12.117").as_deref(), Some("tiny-6.12"));
        assert_eq!(name("debian").as_deref(), Some("debian-6.12"));
        assert_eq!(name("lab"), None);
        assert_eq!(cache.newest().unwrap().unwrap().name, "debian-6.1");
    }

    #[test]
    fn a_directory_without_a_manifest_is_not_a_kernel_and_a_damaged_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        fs::create_dir_all(cache.kernels().join("half")).unwrap();
        assert_eq!(cache.list().unwrap(), []);
        fs::write(cache.kernels().join("half").join(Manifest::FILE), "{").unwrap();
        let text = cache.list().unwrap_err().to_string();
        assert!(text.contains("half/kernel.json is damaged"), "{text}");
    }
}
