//! What of this machine can be written from inside a lab.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::LabError;
use super::wire;

/// A directory to be exported, and the one file of it that is meant when not all of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) dir: PathBuf,
    pub(super) file: Option<Vec<u8>>,
}

impl Share {
    /// The 9p tag of the nth.
    pub(super) fn tag(n: usize) -> String {
        format!("trapline.share.{n}")
    }

    pub(super) fn to_wire(&self, n: usize) -> wire::Share {
        wire::Share {
            tag: Self::tag(n).into_bytes(),
            dir: self.dir.as_os_str().as_bytes().to_vec(),
            file: self.file.clone().unwrap_or_default(),
        }
    }
}

/// Resolves what the caller listed: each once, outermost first, so that mounting in order hides none.
pub(super) fn resolve(paths: &[PathBuf]) -> Result<Vec<Share>, LabError> {
    let mut shares = paths
        .iter()
        .map(|path| one(path))
        .collect::<Result<Vec<_>, _>>()?;
    shares.sort_by_key(|share| (share.dir.components().count(), share.file.is_some()));
    let mut kept: Vec<Share> = Vec::new();
    for share in shares {
        let covered = |outer: &Share| outer.file.is_none() && share.dir.starts_with(&outer.dir);
        if !kept.iter().any(|outer| covered(outer) || *outer == share) {
            kept.push(share);
        }
    }
    Ok(kept)
}

/// Paths are resolved here: inside, the same links lead to the same place.
fn one(path: &Path) -> Result<Share, LabError> {
    let failed = |source| LabError::Share {
        path: path.into(),
        source,
    };
    let real = fs::canonicalize(path).map_err(failed)?;
    if real.is_dir() {
        return Ok(Share {
            dir: real,
            file: None,
        });
    }
    let name = real
        .file_name()
        .map(|name: &OsStr| name.as_bytes().to_vec());
    Ok(Share {
        dir: real.parent().unwrap_or(Path::new("/")).into(),
        file: name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_shared_directory_is_not_shared_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (deep, other) = (root.join("a/deep"), root.join("other"));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        fs::write(other.join("file"), "").unwrap();
        let shares = resolve(&[
            deep.clone(),
            other.join("file"),
            deep.join("file"),
            root.join("a"),
            root.join("a/../a"),
        ])
        .unwrap();
        let whole = Share {
            dir: root.join("a"),
            file: None,
        };
        let single = Share {
            dir: other,
            file: Some(b"file".to_vec()),
        };
        assert_eq!(shares, [whole, single]);
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let text = resolve(&["/nowhere/at/all".into()])
            .unwrap_err()
            .to_string();
        assert_eq!(text, "cannot share /nowhere/at/all with the lab");
    }
}
