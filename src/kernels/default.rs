//! Which kernel is meant when none, or only a name, is given.

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::error::KernelError;
use super::kernel::Kernel;
use super::release;

/// Why a kernel was chosen; reads as the end of a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `$TRAPLINE_KERNEL`.
    Environment,
    /// The newest got or built.
    Cache,
    /// The machine's own.
    Host,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "from $TRAPLINE_KERNEL",
            Self::Cache => "the newest in the cache",
            Self::Host => "this machine's own",
        })
    }
}

/// The kernel to boot when none is named: `$TRAPLINE_KERNEL`, the newest got or built, the newest
/// readable `/boot/vmlinuz-*`.
///
/// # Errors
/// [`KernelError::None`] with the line that gets one; what [`locate`] says of `$TRAPLINE_KERNEL`.
pub fn default_kernel() -> Result<(Kernel, Origin), KernelError> {
    let cache = Cache::from_env()?;
    if let Some(named) = env::var_os("TRAPLINE_KERNEL").filter(|v| !v.is_empty()) {
        let kernel = locate(&cache, &named.to_string_lossy())?;
        return Ok((kernel, Origin::Environment));
    }
    choose(&cache, Path::new("/boot"))
}

fn choose(cache: &Cache, boot: &Path) -> Result<(Kernel, Origin), KernelError> {
    if let Some(kernel) = cache.newest()? {
        return Ok((kernel, Origin::Cache));
    }
    match newest_image(boot) {
        Some(image) => Ok((Kernel::from_path(&image)?, Origin::Host)),
        None => Err(KernelError::None {
            cache: cache.root().into(),
        }),
    }
}

/// The kernel a user names: an existing path, else a name of the cache.
///
/// # Errors
/// [`KernelError::Unknown`] with the nearest name when it is neither.
pub fn locate(cache: &Cache, name: &str) -> Result<Kernel, KernelError> {
    let path = Path::new(name);
    if path.exists() || name.contains('/') {
        return Kernel::from_path(path);
    }
    if let Some(kernel) = cache.find(name)? {
        return Ok(kernel);
    }
    let mut names: Vec<_> = cache.list()?.into_iter().map(|k| k.name).collect();
    names.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
    Err(KernelError::Unknown {
        name: name.into(),
        cache: cache.kernels(),
        hint: if names.is_empty() {
            "; get one with: trapline kernel get debian-cloud".into()
        } else {
            format!(" (there: {})", names.join(", "))
        },
    })
}

fn newest_image(boot: &Path) -> Option<PathBuf> {
    let images = fs::read_dir(boot).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let release = path
            .file_name()?
            .to_str()?
            .strip_prefix("vmlinuz-")?
            .to_owned();
        // Ubuntu's are readable by root alone.
        File::open(&path).ok()?;
        Some((release, path))
    });
    images
        .max_by(|a, b| release::compare(&a.0, &b.0))
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_any_kernel_the_error_holds_the_line_that_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = choose(&Cache::at(dir.path()), dir.path()).unwrap_err();
        assert!(error.is_hosts_fault());
        assert!(
            error
                .to_string()
                .ends_with("\n  trapline kernel get debian-cloud"),
            "{error}"
        );
    }

    #[test]
    fn the_newest_host_kernel_is_taken_by_release_not_by_text() {
        let dir = tempfile::tempdir().unwrap();
        for release in ["6.1.0-9-amd64", "6.1.0-56-amd64", "5.10.0-99-amd64"] {
            fs::write(dir.path().join(format!("vmlinuz-{release}")), "x").unwrap();
        }
        let (kernel, origin) = choose(&Cache::at(dir.path().join("c")), dir.path()).unwrap();
        assert_eq!(origin, Origin::Host);
        assert!(kernel.image.ends_with("vmlinuz-6.1.0-56-amd64"));
    }

    #[test]
    fn an_unknown_name_is_told_from_a_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let name = locate(&cache, "debain").unwrap_err();
        assert!(matches!(name, KernelError::Unknown { .. }), "{name}");
        let path = locate(&cache, "./debain").unwrap_err();
        assert!(matches!(path, KernelError::Io { .. }), "{path}");
    }
}
