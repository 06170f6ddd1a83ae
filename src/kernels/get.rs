//! Getting the distribution's own kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::boot::vmlinux;

use super::apt::{Apt, AptError, Record};
use super::cache::Cache;
use super::deb::{self, UnpackError};
use super::depmod;
use super::error::KernelError;
use super::kernel::{Kernel, Manifest};
use super::layout::arrange;
use super::progress::Progress;
use super::staging::Staging;

/// The distribution's kernels that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// Debian's small kernel for virtual machines
    DebianCloud,
    /// Debian's kernel for every machine
    Debian,
    /// Ubuntu's kernel for virtual machines
    Cloud,
    /// Ubuntu's kernel for every machine
    Generic,
}

impl Flavour {
    /// The name on the command line and in the cache.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DebianCloud => "debian-cloud",
            Self::Debian => "debian",
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }

    /// The meta packages that stand for it, the preferred one first.
    fn metas(self, series: Option<&str>) -> Vec<String> {
        let series = series.map(|s| format!("{s}-")).unwrap_or_default();
        let names: &[&str] = match self {
            Self::DebianCloud => &["cloud-amd64"],
            Self::Debian => &["amd64"],
            // linux-kvm ended with 23.10; linux-virtual is generic without the modules for hardware.
            Self::Cloud => &["kvm", "virtual"],
            Self::Generic => &["generic"],
        };
        names
            .iter()
            .map(|name| format!("linux-image-{series}{name}"))
            .collect()
    }
}

/// What to get.
#[derive(Debug, Clone, Copy)]
pub struct GetRequest<'a> {
    /// Which kernel.
    pub flavour: Flavour,
    /// From which suite; none is the machine's own release.
    pub suite: Option<&'a str>,
    /// A series the suite has beside its default one, for example `6.12`.
    pub series: Option<&'a str>,
    /// With what external modules need to build.
    pub headers: bool,
}

/// A kernel that could not be got.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The distribution has no such kernel.
    #[error(
        "no {flavour} kernel; Debian has debian-cloud and debian, Ubuntu has cloud and generic, \
         other series are in other suites (--suite)"
    )]
    NoFlavour {
        /// Which was asked for.
        flavour: &'static str,
        /// What was looked for.
        source: AptError,
    },
    /// apt.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A damaged package.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The package held no image.
    #[error("the package {package} holds no boot/vmlinuz-*; another --suite may have a usable one")]
    NoImage {
        /// Which package.
        package: String,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] KernelError),
}

/// A kernel got, and whether anything had to be downloaded for it.
#[derive(Debug)]
pub struct Got {
    /// The kernel, in the cache.
    pub kernel: Kernel,
    /// Whether it was there already, as new as the suite has it.
    pub already: bool,
}

/// Gets a kernel into the cache, or finds it there.
///
/// # Errors
/// When there is no apt, no such package, or the package cannot be downloaded and unpacked.
pub fn get(
    cache: &Cache,
    request: &GetRequest<'_>,
    progress: &dyn Progress,
) -> Result<Got, GetError> {
    let flavour = request.flavour.name();
    let apt = Apt::open(cache, request.suite, progress)?;
    let metas = request.flavour.metas(request.series);
    let metas: Vec<&str> = metas.iter().map(String::as_str).collect();
    let meta = apt
        .first(&metas)
        .map_err(|source| GetError::NoFlavour { flavour, source })?;
    let mut packages = closure(&apt, vec![meta], &IMAGE_PARTS)?;
    // The meta package itself is empty.
    packages.retain(|r| !metas.contains(&&*r.package));
    let image = packages.iter().find(|r| release_of(&r.package).is_some());
    let image = image
        .or(packages.first())
        .cloned()
        .ok_or_else(|| no_image(&metas))?;
    let named = format!("{} {}", image.package, image.version);
    let same =
        |k: &Kernel| k.package.as_deref() == Some(&named) && k.flavour.as_deref() == Some(flavour);
    let there = cache.list()?.into_iter().find(same);
    if let Some(kernel) = there.filter(|k| !request.headers || k.headers.is_some()) {
        return Ok(Got {
            kernel,
            already: true,
        });
    }
    if let Some(release) = release_of(&image.package).filter(|_| request.headers) {
        let headers = apt.first(&[&format!("linux-headers-{release}")])?;
        packages.extend(closure(&apt, vec![headers], &HEADER_PARTS)?);
    }

    let staging = Staging::new(cache)?;
    unpack(&apt, &packages, staging.path(), progress)?;
    let version = arrange(staging.path())?.ok_or_else(|| no_image(&[&image.package]))?;
    extract(staging.path(), progress)?;
    let modules = staging.path().join("lib/modules").join(&version);
    if modules.is_dir() {
        progress.step("indexing modules");
        depmod::index(&modules).map_err(KernelError::io("index the modules in", modules))?;
    }
    let manifest = Manifest {
        name: format!("{flavour}-{}", series_of(&version)),
        version,
        flavour: flavour.into(),
        suite: Some(apt.suite().into()),
        package: named,
        made_at: now(),
    };
    let kernel = keep(cache, staging, &manifest)?;
    Ok(Got {
        kernel,
        already: false,
    })
}

/// Writes the manifest, puts the directory in its place and reads it from there.
pub(super) fn keep(
    cache: &Cache,
    staging: Staging,
    manifest: &Manifest,
) -> Result<Kernel, KernelError> {
    let file = staging.path().join(Manifest::FILE);
    let text = serde_json::to_vec_pretty(manifest).map_err(|source| KernelError::Manifest {
        path: file.clone(),
        source,
    })?;
    fs::write(&file, text).map_err(KernelError::io("write", file))?;
    let to = cache.kernels().join(&manifest.name);
    staging.publish(&to)?;
    Kernel::from_path(&to)
}

fn no_image(names: &[&str]) -> GetError {
    GetError::NoImage {
        package: names.join(" or "),
    }
}

/// Packages whose files make up a bootable kernel with its modules. Debian splits image and modules
/// from 6.16 on; Ubuntu always has.
const IMAGE_PARTS: [&str; 5] = [
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-main-modules-",
    "linux-base-",
];
/// Packages that external modules need to build.
const HEADER_PARTS: [&str; 2] = ["linux-headers-", "linux-kbuild-"];

/// These packages and what they depend on, as far as it is part of the kernel.
fn closure(apt: &Apt, roots: Vec<Record>, parts: &[&str]) -> Result<Vec<Record>, AptError> {
    let mut seen: BTreeSet<String> = roots.iter().map(|r| r.package.clone()).collect();
    let mut all = Vec::new();
    let mut next = roots;
    while !next.is_empty() {
        let needs = next.iter().flat_map(|r| &r.depends);
        let parts: Vec<String> = needs
            .filter(|name| parts.iter().any(|part| name.starts_with(part)))
            .filter(|name| seen.insert((*name).clone()))
            .cloned()
            .collect();
        all.append(&mut next);
        if !parts.is_empty() {
            let names: Vec<&str> = parts.iter().map(String::as_str).collect();
            next = apt.show(&names)?;
        }
    }
    Ok(all)
}

/// The release in the name of a package that holds one; meta packages name none.
fn release_of(package: &str) -> Option<&str> {
    let rest = package.strip_prefix("linux-image-")?;
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let dots = rest.split('-').next()?.matches('.').count();
    // linux-image-6.12-amd64 is a meta package: a release has three numbers.
    (rest.starts_with(|c: char| c.is_ascii_digit()) && dots >= 2).then_some(rest)
}

/// `6.1` of `6.1.0-56-amd64`.
pub(super) fn series_of(release: &str) -> String {
    let numbers = release.split(['-', '+', '~']).next().unwrap_or(release);
    numbers.split('.').take(2).collect::<Vec<_>>().join(".")
}

pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn unpack(
    apt: &Apt,
    packages: &[Record],
    root: &Path,
    progress: &dyn Progress,
) -> Result<(), GetError> {
    let debs = root.join("debs");
    fs::create_dir_all(&debs).map_err(KernelError::io("create", &debs))?;
    for record in packages {
        let file = apt.download(record, &debs, progress)?;
        progress.step(&format!("unpacking {}", record.package));
        deb::unpack(&file, root, is_wanted)?;
        fs::remove_file(&file).map_err(KernelError::io("remove", &file))?;
    }
    fs::remove_dir_all(&debs).map_err(KernelError::io("remove", &debs))?;
    Ok(())
}

fn is_wanted(path: &Path) -> bool {
    let roots = ["boot", "lib/modules", "usr/lib/modules", "usr/src"];
    let kbuild = path
        .to_str()
        .is_some_and(|p| p.starts_with("usr/lib/linux-kbuild-"));
    kbuild || roots.iter().any(|root| path.starts_with(root))
}

/// Adds the vmlinux, which starts faster and has the PVH entry. An image that does not give it up
/// still boots, so that is no failure.
fn extract(root: &Path, progress: &dyn Progress) -> Result<(), KernelError> {
    progress.step("extracting the vmlinux");
    let image = root.join("vmlinuz");
    let bytes = fs::read(&image).map_err(KernelError::io("read", &image))?;
    match vmlinux::extract(&bytes) {
        Ok(elf) => {
            let to = root.join("vmlinux");
            fs::write(&to, elf).map_err(KernelError::io("write", to))
        }
        Err(error) => {
            progress.warn(&format!("no vmlinux: {error}"));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_packages_name_a_release_and_meta_packages_do_not() {
        let of = release_of;
        assert_eq!(
            of("linux-image-6.1.0-56-cloud-amd64"),
            Some("6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            of("linux-image-6.12.117+deb12-amd64"),
            Some("6.12.117+deb12-amd64")
        );
        assert_eq!(
            of("linux-image-unsigned-6.8.0-31-generic"),
            Some("6.8.0-31-generic")
        );
        for meta in [
            "linux-image-amd64",
            "linux-image-6.12-amd64",
            "linux-image-generic",
        ] {
            assert_eq!(of(meta), None, "{meta}");
        }
    }

    #[test]
    fn the_series_is_two_numbers() {
        for (release, series) in [
            ("6.1.0-56-amd64", "6.1"),
            ("6.12.117+deb12-amd64", "6.12"),
            ("6.12", "6.12"),
            ("7.0-rc1", "7.0"),
        ] {
            assert_eq!(series_of(release), series);
        }
    }

    #[test]
    fn a_series_selects_debians_versioned_meta_package() {
        assert_eq!(
            Flavour::DebianCloud.metas(Some("6.12")),
            ["linux-image-6.12-cloud-amd64"]
        );
        assert_eq!(
            Flavour::Cloud.metas(None),
            ["linux-image-kvm", "linux-image-virtual"]
        );
    }
}
