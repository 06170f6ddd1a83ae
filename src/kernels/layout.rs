//! From a distribution's package layout to the cache's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::KernelError;
use super::kernel::is_stub;

/// Brings an unpacked package into the cache's shape; gives the release, or none without an image.
pub(super) fn arrange(root: &Path) -> Result<Option<String>, KernelError> {
    let boot = root.join("boot");
    let Some(release) = names(&boot).into_iter().find_map(|n| {
        let release = n.strip_prefix("vmlinuz-")?;
        Some(release.to_owned())
    }) else {
        return Ok(None);
    };
    for (stem, to) in [
        ("vmlinuz", "vmlinuz"),
        ("config", "config"),
        ("System.map", "System.map"),
    ] {
        let from = boot.join(format!("{stem}-{release}"));
        if from.is_file() && !(stem == "System.map" && is_stub(&from)) {
            rename(&from, &root.join(to))?;
        }
    }
    fs::remove_dir_all(&boot).map_err(KernelError::io("remove", &boot))?;
    // Where /lib is a link into /usr the package says so.
    let merged = root.join("usr/lib/modules").join(&release);
    let modules = root.join("lib/modules").join(&release);
    if merged.is_dir() {
        if modules.is_dir() {
            for name in names(&modules) {
                rename(&modules.join(&name), &merged.join(&name))?;
            }
            fs::remove_dir_all(&modules).map_err(KernelError::io("remove", &modules))?;
        }
        let parent = root.join("lib/modules");
        fs::create_dir_all(&parent).map_err(KernelError::io("create", parent))?;
        rename(&merged, &modules)?;
    }
    link_headers(root, &release)?;
    Ok(Some(release))
}

/// Points everything that names the headers at `/usr/src` to where they lie.
fn link_headers(root: &Path, release: &str) -> Result<(), KernelError> {
    let headers = PathBuf::from(format!("usr/src/linux-headers-{release}"));
    if !root.join(&headers).is_dir() {
        return Ok(());
    }
    relink(&headers, &root.join("headers"))?;
    let modules = root.join("lib/modules").join(release);
    if modules.is_dir() {
        relink(Path::new("../../../headers"), &modules.join("build"))?;
        let _ = fs::remove_file(modules.join("source"));
    }
    // Type information for BPF alone: with it a module build wants pahole, without it it says that it
    // leaves the information out.
    let _ = fs::remove_file(root.join(&headers).join("vmlinux"));
    // Debian's Makefile is one line: include /usr/src/linux-headers-*-common/Makefile.
    let makefile = root.join(&headers).join("Makefile");
    let text = fs::read_to_string(&makefile).map_err(KernelError::io("read", &makefile))?;
    if text.contains("include /usr/src/") && !makefile.is_symlink() {
        let text = text.replace("include /usr/src/", "include ../");
        fs::write(&makefile, text).map_err(KernelError::io("write", makefile))?;
    }
    Ok(())
}

fn relink(target: &Path, link: &Path) -> Result<(), KernelError> {
    let _ = fs::remove_file(link);
    symlink(target, link).map_err(KernelError::io("link", link))
}

fn rename(from: &Path, to: &Path) -> Result<(), KernelError> {
    fs::rename(from, to).map_err(KernelError::io("move", from))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn debians_layout_becomes_the_caches() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        touch(&root.join("boot/vmlinuz-6.1.0-9-amd64"), "image");
        touch(&root.join("boot/config-6.1.0-9-amd64"), "config");
        touch(
            &root.join("boot/System.map-6.1.0-9-amd64"),
            "ffffffffffffffff B stub\n",
        );
        touch(&root.join("lib/modules/6.1.0-9-amd64/kernel/a.ko"), "");
        let headers = root.join("usr/src/linux-headers-6.1.0-9-amd64");
        touch(&headers.join("vmlinux"), "BTF");
        touch(
            &headers.join("Makefile"),
            "include /usr/src/linux-headers-6.1.0-9-common/Makefile\n",
        );
        assert_eq!(arrange(root).unwrap().unwrap(), "6.1.0-9-amd64");
        assert_eq!(fs::read(root.join("vmlinuz")).unwrap(), b"image");
        assert!(root.join("config").exists() && !root.join("System.map").exists());
        let makefile = fs::read_to_string(root.join("headers/Makefile")).unwrap();
        assert_eq!(
            makefile,
            "include ../linux-headers-6.1.0-9-common/Makefile\n"
        );
        assert!(
            root.join("lib/modules/6.1.0-9-amd64/build/Makefile")
                .exists()
        );
    }

    #[test]
    fn a_merged_usr_is_brought_back_and_no_image_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert_eq!(arrange(root).unwrap(), None);
        touch(&root.join("boot/vmlinuz-6.17.0-1-generic"), "image");
        touch(
            &root.join("usr/lib/modules/6.17.0-1-generic/kernel/a.ko"),
            "",
        );
        touch(&root.join("lib/modules/6.17.0-1-generic/extra"), "");
        arrange(root).unwrap();
        for file in ["kernel/a.ko", "extra"] {
            assert!(
                root.join("lib/modules/6.17.0-1-generic")
                    .join(file)
                    .exists(),
                "{file}"
            );
        }
    }
}
