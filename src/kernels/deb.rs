//! Unpacking .deb files: an ar archive with a compressed tar in it (deb(5)).

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::packed;

/// A package that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[error("cannot unpack {path}")]
pub struct UnpackError {
    /// The package.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Unpacks into `root` the files whose path `wanted` accepts. Owners are those of the caller; a path
/// that would leave `root` is refused by the tar reader.
pub(super) fn unpack(
    deb: &Path,
    root: &Path,
    wanted: impl Fn(&Path) -> bool,
) -> Result<(), UnpackError> {
    let fail = |source| UnpackError {
        path: deb.into(),
        source,
    };
    File::open(deb)
        .and_then(|file| members(file, root, wanted))
        .map_err(fail)
}

fn members(file: File, root: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<()> {
    let mut archive = ar::Archive::new(file);
    while let Some(member) = archive.next_entry() {
        let member = member?;
        if member.header().identifier().starts_with(b"data.tar") {
            return files(packed::reader(member)?, root, wanted);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "no data.tar in it: not a .deb",
    ))
}

fn files(data: impl io::Read, root: &Path, wanted: impl Fn(&Path) -> bool) -> io::Result<()> {
    let mut tar = tar::Archive::new(data);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry
            .path()?
            .components()
            .filter(|c| *c != Component::CurDir)
            .collect();
        if !wanted(&path) {
            continue;
        }
        // With permissions of its own a directory might refuse the files that follow.
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(root.join(&path))?;
        } else {
            entry.unpack_in(root)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deb(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = ar::Builder::new(file.reopen().unwrap());
        for (name, bytes) in members {
            let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
            builder.append(&header, *bytes).unwrap();
        }
        file
    }

    fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_old();
            // Written raw: the builder would refuse the paths an attacker uses.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_what_is_wanted_is_unpacked_whatever_the_compression() {
        let data = tar(&[("./boot/vmlinuz-1", "kernel"), ("./usr/share/doc/x", "no")]);
        let xz = liblzma::encode_all(&data[..], 1).unwrap();
        let zst = zstd::encode_all(&data[..], 1).unwrap();
        for (name, bytes) in [
            ("data.tar.xz", &xz),
            ("data.tar.zst", &zst),
            ("data.tar", &data),
        ] {
            let deb = deb(&[
                ("debian-binary", b"2.0\n"),
                ("control.tar.xz", b""),
                (name, bytes),
            ]);
            let root = tempfile::tempdir().unwrap();
            unpack(deb.path(), root.path(), |p| p.starts_with("boot")).unwrap();
            assert_eq!(
                fs::read(root.path().join("boot/vmlinuz-1")).unwrap(),
                b"kernel"
            );
            assert!(!root.path().join("usr").exists());
        }
    }

    #[test]
    fn nothing_is_written_outside_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        let data = tar(&[
            ("../escaped", "x"),
            ("boot/../../escaped", "x"),
            ("./boot/ok", "y"),
        ]);
        let deb = deb(&[("data.tar", &data)]);
        let _ = unpack(deb.path(), &root, |_| true);
        assert!(!outer.path().join("escaped").exists());
    }

    #[test]
    fn a_file_that_is_no_package_or_is_cut_is_named() {
        let data = liblzma::encode_all(&tar(&[("./boot/x", "text")])[..], 1).unwrap();
        for deb in [
            deb(&[("debian-binary", b"2.0\n")]),
            deb(&[("data.tar.xz", &data[..data.len() / 2])]),
        ] {
            let error = unpack(deb.path(), tempfile::tempdir().unwrap().path(), |_| true);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(deb.path().to_str().unwrap()), "{text}");
        }
    }
}
