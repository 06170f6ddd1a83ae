//! The lab's kernel.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::LabError;
use crate::boot::{Image, vmlinux};
use crate::kernels::{self, Cache, Kernel, compare_releases};

/// What a kernel must have, built in or as a module: one of each row.
const NEEDED: [&[&str]; 10] = [
    &["KVM_AMD", "KVM_INTEL"],
    &["9P_FS"],
    &["NET_9P_VIRTIO"],
    &["VIRTIO_PCI"],
    &["VIRTIO_CONSOLE"],
    &["OVERLAY_FS"],
    &["DEVTMPFS"],
    &["TMPFS"],
    &["UNIX98_PTYS"],
    &["BLK_DEV_INITRD"],
];

/// The lab's kernel: the one named, `$TRAPLINE_LAB_KERNEL`, a kernel built to be a lab's, else the
/// latest in the cache that can be one.
///
/// # Errors
/// [`LabError::NoKernel`] with the line that gets one; [`LabError::Unsuitable`] when the one named
/// lacks something, and what.
pub fn choose(named: Option<&str>) -> Result<Kernel, LabError> {
    let cache = Cache::from_env()?;
    let variable = env::var("TRAPLINE_LAB_KERNEL").ok();
    let variable = variable.as_deref().filter(|name| !name.is_empty());
    match named.or(variable) {
        Some(name) => {
            let kernel = kernels::locate(&cache, name)?;
            match missing(&kernel) {
                Some(missing) => Err(unsuitable(&kernel, missing)),
                None => Ok(kernel),
            }
        }
        None => best(cache.list()?).ok_or_else(|| LabError::NoKernel {
            cache: cache.kernels(),
        }),
    }
}

/// Built for it before anything else, then the latest release.
fn best(mut kernels: Vec<Kernel>) -> Option<Kernel> {
    kernels.retain(|kernel| missing(kernel).is_none());
    kernels.into_iter().max_by(|a, b| {
        let built = |k: &Kernel| k.flavour.as_deref() == Some("lab");
        let version = |k: &Kernel| k.version.clone().unwrap_or_default();
        built(a)
            .cmp(&built(b))
            .then_with(|| compare_releases(&version(a), &version(b)))
    })
}

/// What a kernel lacks, by its configuration; nothing when that is not at hand.
fn missing(kernel: &Kernel) -> Option<String> {
    let config = fs::read_to_string(kernel.config.as_ref()?).ok()?;
    lacks(&config)
}

fn lacks(config: &str) -> Option<String> {
    let has = |option: &str| {
        let is = |line: &str| {
            line.strip_prefix("CONFIG_")
                .and_then(|line| line.strip_prefix(option))
                .is_some_and(|value| value == "=y" || value == "=m")
        };
        config.lines().any(is)
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|row| !row.iter().any(|option| has(option)))
        .filter_map(|row| Some(format!("CONFIG_{}", row.first()?)))
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

fn unsuitable(kernel: &Kernel, missing: String) -> LabError {
    let version = kernel.version.as_deref().unwrap_or_default();
    LabError::Unsuitable {
        kernel: kernel.name.clone(),
        missing,
        hint: if version.contains("-cloud-") {
            " (Debian's cloud kernels are guests, not hosts)"
        } else {
            ""
        },
    }
}

/// A kernel as QEMU takes it.
#[derive(Debug)]
pub(super) struct LabKernel {
    pub(super) kernel: Kernel,
    /// For `-kernel`.
    pub(super) image: PathBuf,
}

impl LabKernel {
    /// Finds or makes the uncompressed image, which starts two seconds earlier under TCG than one
    /// that decompresses itself there. QEMU takes one by its PVH note; a kernel without is taken as
    /// it is.
    pub(super) fn prepare(kernel: Kernel, cache: &Cache) -> Result<Self, LabError> {
        let image = match &kernel.vmlinux {
            Some(vmlinux) => pvh(vmlinux)?.then(|| vmlinux.clone()),
            None => unpacked(&kernel.image, cache)?,
        };
        let image = image.unwrap_or_else(|| kernel.image.clone());
        Ok(Self { kernel, image })
    }
}

fn pvh(path: &Path) -> Result<bool, LabError> {
    Ok(Image::open(path)?.protocols().pvh)
}

/// The vmlinux of a bzImage, kept in the cache under what tells one image from another.
fn unpacked(image: &Path, cache: &Cache) -> Result<Option<PathBuf>, LabError> {
    let read = |source| LabError::Image {
        path: image.into(),
        source,
    };
    let meta = fs::metadata(image).map_err(read)?;
    let name = format!(
        "vmlinux-{:x}-{:x}-{:x}",
        meta.dev(),
        meta.ino(),
        meta.mtime_nsec() ^ meta.mtime()
    );
    let dir = cache.root().join("lab");
    let path = dir.join(name);
    if !path.exists() {
        let Ok(bytes) = vmlinux::extract(&fs::read(image).map_err(read)?) else {
            // An ELF, or a compression that only the kernel itself can undo.
            return Ok(None);
        };
        // Under a name of its own until it is whole: another lab may be starting.
        let part = path.with_extension(std::process::id().to_string());
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(&part, bytes))
            .and_then(|()| fs::rename(&part, &path))
            .map_err(LabError::io("keep an unpacked kernel"))?;
    }
    Ok(pvh(&path)?.then_some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> String {
        NEEDED
            .iter()
            .map(|row| format!("CONFIG_{}=m\n", row[0]))
            .collect()
    }

    #[test]
    fn a_kernel_without_9p_is_refused_by_name_of_the_option() {
        assert_eq!(lacks(&whole()), None);
        let config = whole().replace("CONFIG_9P_FS=m", "# CONFIG_9P_FS is not set");
        assert_eq!(lacks(&config).as_deref(), Some("CONFIG_9P_FS"));
    }

    #[test]
    fn either_vendors_kvm_will_do() {
        let config = whole().replace("CONFIG_KVM_AMD=m", "CONFIG_KVM_INTEL=y");
        assert_eq!(lacks(&config), None);
        let neither = config.replace("CONFIG_KVM_INTEL=y", "CONFIG_KVM_INTEL_EXTRA=y");
        assert!(lacks(&neither).is_some());
    }

    #[test]
    fn a_kernel_built_for_the_lab_comes_before_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config");
        fs::write(&config, whole()).unwrap();
        let kernel = |flavour: &str, version: &str| {
            let mut kernel = Kernel::from_path(&config).unwrap();
            kernel.flavour = Some(flavour.into());
            kernel.version = Some(version.into());
            kernel.config = Some(config.clone());
            kernel
        };
        let all = vec![
            kernel("debian", "6.12.9"),
            kernel("lab", "6.1.0"),
            kernel("debian", "6.1.0-56"),
        ];
        let version = |k: Option<Kernel>| k.and_then(|k| k.version);
        assert_eq!(version(best(all.clone())).as_deref(), Some("6.1.0"));
        let debians = all
            .into_iter()
            .filter(|k| k.flavour.as_deref() != Some("lab"));
        assert_eq!(version(best(debians.collect())).as_deref(), Some("6.12.9"));
    }
}
