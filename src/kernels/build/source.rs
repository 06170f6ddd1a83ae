//! Kernel source: a tree of the user's, or the distribution's `linux-source` package, unpacked once.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;
use crate::kernels::apt::Apt;
use crate::kernels::cache::Cache;
use crate::kernels::error::KernelError;
use crate::kernels::progress::Progress;
use crate::kernels::staging::Staging;
use crate::kernels::{deb, packed, release};

/// A source tree that is ready to build from.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) dir: PathBuf,
    /// Package and version, or the directory.
    pub(super) origin: String,
    pub(super) suite: Option<String>,
    /// Whether the tree is the user's own, and may change from one build to the next.
    pub(super) own: bool,
}

/// A directory with a kernel's source, a `linux-source-*` package, or none for the newest of those.
pub(super) fn open(
    cache: &Cache,
    named: Option<&str>,
    suite: Option<&str>,
    progress: &dyn Progress,
) -> Result<Tree, BuildError> {
    if let Some(dir) = named.filter(|n| n.contains('/') || Path::new(n).is_dir()) {
        return own(Path::new(dir));
    }
    let apt = Apt::open(cache, suite, progress)?;
    let package = match named {
        Some(name) => name.to_owned(),
        None => newest(&apt)?,
    };
    let record = apt.first(&[&package])?;
    let origin = format!("{} {}", record.package, record.version);
    let root = cache.root().join("sources");
    let dir = root.join(origin.replace(' ', "_"));
    let tree = Tree {
        dir: dir.clone(),
        origin,
        suite: Some(apt.suite().into()),
        own: false,
    };
    if dir.join("Kbuild").is_file() {
        return Ok(tree);
    }
    let staging = Staging::new(cache)?;
    let package = apt.download(&record, staging.path(), progress)?;
    progress.step(&format!("unpacking {}", record.package));
    let is_tar = |p: &Path| {
        let name = p.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        p.starts_with("usr/src") && name.starts_with("linux-source-") && name.contains(".tar.")
    };
    deb::unpack(&package, staging.path(), is_tar)?;
    let archive =
        find_archive(&staging.path().join("usr/src")).ok_or_else(|| BuildError::NoSource {
            package: record.package.clone(),
        })?;
    let inner = Staging::new(cache)?;
    untar(&archive, inner.path()).map_err(KernelError::io("unpack", &archive))?;
    inner.publish(&dir)?;
    remove_older(&root, &record.package, &dir);
    Ok(tree)
}

fn own(dir: &Path) -> Result<Tree, BuildError> {
    let dir = fs::canonicalize(dir).map_err(KernelError::io("read", dir))?;
    if !dir.join("Kbuild").is_file() || !dir.join("arch/x86/Kconfig").is_file() {
        return Err(BuildError::NotATree { path: dir });
    }
    if dir.join(".config").exists() || dir.join("include/config").exists() {
        return Err(BuildError::NotClean { path: dir });
    }
    Ok(Tree {
        origin: dir.display().to_string(),
        dir,
        suite: None,
        own: true,
    })
}

fn newest(apt: &Apt) -> Result<String, BuildError> {
    let names = apt.names("^linux-source-[0-9.]+$")?;
    let newest = names.into_iter().max_by(|a, b| release::compare(a, b));
    newest.ok_or_else(|| BuildError::NoSource {
        package: "linux-source-*".into(),
    })
}

/// Debian's lies in /usr/src, Ubuntu's one directory deeper.
fn find_archive(dir: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.filter_map(|e| Some(e.ok()?.path()));
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files
        .into_iter()
        .find(|f| f.is_file())
        .or_else(|| dirs.iter().find_map(|d| find_archive(d)))
}

/// Unpacks a source archive without the one directory everything in it lies in.
fn untar(archive: &Path, root: &Path) -> io::Result<()> {
    if archive.extension().is_some_and(|e| e == "bz2") {
        return bunzip2(archive, root);
    }
    strip(packed::reader(File::open(archive)?)?, root)
}

/// Ubuntu's are bzip2; the program comes with the compiler's own packages.
fn bunzip2(archive: &Path, root: &Path) -> io::Result<()> {
    let mut child = Command::new("bzip2")
        .arg("-dc")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()?;
    let unpacked = match child.stdout.take() {
        Some(pipe) => strip(pipe, root),
        None => Ok(()),
    };
    let status = child.wait()?;
    unpacked?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("bzip2 ended with {status}")))
    }
}

fn strip(data: impl Read, root: &Path) -> io::Result<()> {
    let mut tar = tar::Archive::new(data);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let inner: PathBuf = path
            .components()
            .filter(|c| *c != Component::CurDir)
            .skip(1)
            .collect();
        if inner.as_os_str().is_empty() {
            continue;
        }
        if inner
            .components()
            .any(|c| !matches!(c, Component::Normal(_)))
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} leaves the tree", path.display()),
            ));
        }
        if let Some(link) = entry
            .link_name()?
            .filter(|_| entry.header().entry_type().is_hard_link())
        {
            let target: PathBuf = link.components().skip(1).collect();
            fs::hard_link(root.join(target), root.join(&inner))?;
            continue;
        }
        let to = root.join(&inner);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        entry.unpack(to)?;
    }
    Ok(())
}

/// A gigabyte and a half each: one version of a package is enough.
fn remove_older(root: &Path, package: &str, keep: &Path) {
    let prefix = format!("{package}_");
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let of_package = entry
            .file_name()
            .to_str()
            .is_some_and(|n| n.starts_with(&prefix));
        if of_package && entry.path() != keep {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        let path = dir.join("linux-source-1.tar.xz");
        let bytes = liblzma::encode_all(&builder.into_inner().unwrap()[..], 1).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn the_outer_directory_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(
            dir.path(),
            &[("linux-source-1/Kbuild", "k"), ("linux-source-1/a/b", "c")],
        );
        assert_eq!(find_archive(dir.path()).unwrap(), path);
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        untar(&path, &root).unwrap();
        assert_eq!(fs::read(root.join("a/b")).unwrap(), b"c");
        assert!(root.join("Kbuild").exists());
    }

    #[test]
    fn an_archive_that_leaves_its_tree_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = archive(dir.path(), &[("linux/../../escaped", "x")]);
        let root = dir.path().join("tree");
        fs::create_dir(&root).unwrap();
        assert!(untar(&path, &root).is_err());
        assert!(!dir.path().join("escaped").exists());
    }

    #[test]
    fn a_tree_must_be_a_kernels_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(own(dir.path()), Err(BuildError::NotATree { .. })));
        fs::create_dir_all(dir.path().join("arch/x86")).unwrap();
        for file in ["Kbuild", "arch/x86/Kconfig"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        assert!(own(dir.path()).unwrap().own);
        fs::write(dir.path().join(".config"), "").unwrap();
        let text = own(dir.path()).unwrap_err().to_string();
        assert!(text.contains("make mrproper"), "{text}");
    }
}
