//! One kernel: its image and whatever lies around it that belongs to it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::boot::Image;

use super::error::KernelError;

/// What the cache writes down about a kernel, in `kernel.json` of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name in the cache, for example `debian-cloud-6.1`.
    pub name: String,
    /// `uname -r`.
    pub version: String,
    /// `debian`, `debian-cloud`, `cloud`, `generic`, `tiny`, `debug`, `novmap` or `lab`.
    pub flavour: String,
    /// Suite of the distribution the package or the source came from.
    pub suite: Option<String>,
    /// Package and version, for example `linux-image-6.1.0-56-amd64 6.1.192-2`.
    pub package: String,
    /// Seconds since 1970.
    pub made_at: u64,
}

impl Manifest {
    /// Its file name.
    pub(super) const FILE: &str = "kernel.json";
}

/// A kernel on this machine. What is `None` was looked for and is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Name in the cache, else the path it was named by.
    pub name: String,
    /// `uname -r`, where the image or its directory tells.
    pub version: Option<String>,
    /// bzImage, or the ELF when there is nothing else.
    pub image: PathBuf,
    /// The uncompressed ELF.
    pub vmlinux: Option<PathBuf>,
    /// `.../lib/modules/VERSION`, or the build directory whose `modules.order` lists them.
    pub modules: Option<PathBuf>,
    /// The configuration it was built with.
    pub config: Option<PathBuf>,
    /// Symbols; never the stub that Debian ships in its place.
    pub system_map: Option<PathBuf>,
    /// What `make -C` wants to build external modules.
    pub headers: Option<PathBuf>,
    /// Which kind, for kernels of the cache.
    pub flavour: Option<String>,
    /// Which suite, for kernels of the cache.
    pub suite: Option<String>,
    /// Package and version it came from, for kernels of the cache.
    pub package: Option<String>,
    /// Seconds since 1970, for kernels of the cache.
    pub made_at: Option<u64>,
}

impl Kernel {
    /// A kernel build directory, a directory of the cache, or a bare image.
    ///
    /// # Errors
    /// When the path cannot be read, or is a directory without a kernel.
    pub fn from_path(path: &Path) -> Result<Self, KernelError> {
        let meta = fs::metadata(path).map_err(KernelError::io("read the kernel", path))?;
        if !meta.is_dir() {
            return Self::from_image(path);
        }
        if path.join(Manifest::FILE).is_file() {
            return Self::from_entry(path);
        }
        Self::from_build(path)
    }

    /// A directory of the cache.
    pub(super) fn from_entry(dir: &Path) -> Result<Self, KernelError> {
        let file = dir.join(Manifest::FILE);
        let text = fs::read(&file).map_err(KernelError::io("read", &file))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|source| KernelError::Manifest { path: file, source })?;
        let headers = [dir.join("headers"), dir.join("build")];
        Ok(Self {
            image: dir.join("vmlinuz"),
            vmlinux: existing(dir.join("vmlinux")),
            modules: existing(dir.join("lib/modules").join(&manifest.version)),
            config: existing(dir.join("config")),
            system_map: existing(dir.join("System.map")).filter(|map| !is_stub(map)),
            headers: headers.into_iter().find_map(existing),
            name: manifest.name,
            version: Some(manifest.version),
            flavour: Some(manifest.flavour),
            suite: manifest.suite,
            package: Some(manifest.package),
            made_at: Some(manifest.made_at),
        })
    }

    fn from_build(dir: &Path) -> Result<Self, KernelError> {
        let vmlinux = existing(dir.join("vmlinux"));
        let image = existing(dir.join("arch/x86/boot/bzImage"))
            .or_else(|| vmlinux.clone())
            .ok_or_else(|| KernelError::NotABuild { path: dir.into() })?;
        let told = fs::read_to_string(dir.join("include/config/kernel.release"))
            .map(|text| text.trim().to_owned());
        Ok(Self {
            version: told.ok().or_else(|| release_of(&image)),
            image,
            vmlinux,
            modules: existing(dir.join("modules.order")).map(|_| dir.into()),
            config: existing(dir.join(".config")),
            system_map: existing(dir.join("System.map")),
            headers: existing(dir.join("Module.symvers")).map(|_| dir.into()),
            ..Self::bare(dir)
        })
    }

    fn from_image(path: &Path) -> Result<Self, KernelError> {
        fs::File::open(path).map_err(KernelError::io("read the kernel", path))?;
        if let Some(kernel) = Self::around(path) {
            return Ok(kernel);
        }
        Ok(match release_of(path) {
            Some(release) => Self::beside(path, &release),
            None => Self::bare(path),
        })
    }

    /// The build or the entry of the cache that this image is a file of, with this one to boot.
    fn around(image: &Path) -> Option<Self> {
        /// `arch/x86/boot/bzImage` lies this deep.
        const DEEPEST: usize = 4;
        let image = image.canonicalize().ok()?;
        let dirs = image.ancestors().skip(1).take(DEEPEST);
        let known = dirs.filter_map(|dir| match dir.join(Manifest::FILE).is_file() {
            true => Self::from_entry(dir).ok(),
            false => Self::from_build(dir).ok(),
        });
        let mut holding = known.filter(|kernel| {
            let files = [Some(&kernel.image), kernel.vmlinux.as_ref()];
            files.contains(&Some(&image))
        });
        let kernel = holding.next()?;
        Some(Self {
            name: image.display().to_string(),
            image,
            ..kernel
        })
    }

    /// An image and what lies around it that goes by its release.
    fn beside(path: &Path, release: &str) -> Self {
        let dir = path.parent().unwrap_or(Path::new(""));
        // /boot/vmlinuz-V has /lib/modules/V; a package unpacked somewhere has both under its root.
        let modules = [dir.join("../lib/modules"), "/lib/modules".into()];
        let modules = modules.into_iter().map(|root| root.join(release));
        let headers = modules.clone().map(|tree| tree.join("build"));
        let named = |stem: &str| existing(dir.join(format!("{stem}-{release}")));
        let debug = Path::new("/usr/lib/debug/boot").join(format!("vmlinux-{release}"));
        Self {
            vmlinux: named("vmlinux").or_else(|| existing(debug)),
            modules: modules.into_iter().find_map(existing),
            config: named("config"),
            system_map: named("System.map").filter(|map| !is_stub(map)),
            headers: headers.into_iter().find_map(existing),
            version: Some(release.into()),
            ..Self::bare(path)
        }
    }

    fn bare(path: &Path) -> Self {
        Self {
            name: path.display().to_string(),
            version: None,
            image: path.into(),
            vmlinux: None,
            modules: None,
            config: None,
            system_map: None,
            headers: None,
            flavour: None,
            suite: None,
            package: None,
            made_at: None,
        }
    }
}

/// What the image says it is. One that does not hold together is `boot`'s to complain about.
fn release_of(image: &Path) -> Option<String> {
    Image::open(image).ok()?.release()
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}

/// Debian ships a System.map of one line that says where the real one is; symbols need thousands.
pub(super) fn is_stub(map: &Path) -> bool {
    fs::metadata(map).is_ok_and(|meta| meta.len() < 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn an_image_named_by_its_path_keeps_what_its_build_has() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for file in ["arch/x86/boot/bzImage", "vmlinux", "modules.order"] {
            touch(&root.join(file), "");
        }
        touch(&root.join("include/config/kernel.release"), "6.12.9-mine\n");
        for image in ["arch/x86/boot/bzImage", "vmlinux"] {
            let kernel = Kernel::from_path(&root.join(image)).unwrap();
            assert_eq!(kernel.image, root.join(image));
            assert_eq!(kernel.modules.as_ref(), Some(&root), "{image}");
            assert_eq!(kernel.version.as_deref(), Some("6.12.9-mine"));
        }
        touch(&root.join("other"), "");
        assert_eq!(
            Kernel::from_path(&root.join("other")).unwrap().modules,
            None
        );
    }

    #[test]
    fn a_build_directory_gives_image_symbols_and_modules() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "arch/x86/boot/bzImage",
            "vmlinux",
            "System.map",
            ".config",
            "modules.order",
        ] {
            touch(&root.join(file), "");
        }
        touch(&root.join("include/config/kernel.release"), "6.12.9-mine\n");
        let kernel = Kernel::from_path(root).unwrap();
        assert_eq!(kernel.version.as_deref(), Some("6.12.9-mine"));
        assert_eq!(kernel.image, root.join("arch/x86/boot/bzImage"));
        assert_eq!(kernel.vmlinux, Some(root.join("vmlinux")));
        assert_eq!(kernel.modules, Some(root.into()));
        assert_eq!(kernel.system_map, Some(root.join("System.map")));
        assert_eq!(kernel.headers, None);
    }

    #[test]
    fn a_directory_without_a_kernel_says_what_was_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let text = Kernel::from_path(dir.path()).unwrap_err().to_string();
        assert!(text.contains("arch/x86/boot/bzImage"), "{text}");
    }

    #[test]
    fn an_image_finds_the_modules_of_the_package_it_was_unpacked_with() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("boot/vmlinuz-9.9.9-test");
        touch(&image, "");
        touch(&dir.path().join("boot/config-9.9.9-test"), "");
        touch(
            &dir.path().join("boot/System.map-9.9.9-test"),
            "ffffffffffffffff B stub\n",
        );
        fs::create_dir_all(dir.path().join("lib/modules/9.9.9-test")).unwrap();
        let kernel = Kernel::beside(&image, "9.9.9-test");
        assert_eq!(kernel.version.as_deref(), Some("9.9.9-test"));
        assert!(kernel.modules.unwrap().ends_with("lib/modules/9.9.9-test"));
        assert!(kernel.config.is_some());
        assert_eq!(kernel.system_map, None, "Debian's stub holds no symbols");
    }

    #[test]
    fn a_missing_file_is_named() {
        let text = Kernel::from_path(Path::new("/nowhere/bzImage"))
            .unwrap_err()
            .to_string();
        assert_eq!(text, "cannot read the kernel /nowhere/bzImage");
    }
}
