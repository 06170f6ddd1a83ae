//! The tests that the command line means.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder;
use crate::check::kut::{ConfigError, Entry, Limits, Plan, parse, plan};
use crate::cli::Failure;

/// A test, ready to run or with why it is not.
#[derive(Debug)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) plan: Result<Plan, String>,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
enum TableError {
    #[error("cannot read the table of tests {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the table of tests {}", path.display())]
    Parse { path: PathBuf, source: ConfigError },
    #[error("no test of {} is in group {groups}", path.display())]
    Nothing { path: PathBuf, groups: String },
}

/// The table's tests, or those of the files that are named; a file that is in no table runs by itself.
pub(super) fn read(
    files: &[PathBuf],
    table: Option<&Path>,
    limits: &Limits,
) -> Result<Vec<Test>, Failure> {
    let mut tests = Vec::new();
    let (entries, dir) = match table {
        Some(path) => (entries(path)?, folder(path)),
        None => (Vec::new(), PathBuf::from(".")),
    };
    let mut add = |entry: &Entry, dir: &Path| {
        if let Some(plan) = plan(entry, dir, limits) {
            tests.push(Test {
                name: entry.name.clone(),
                file: entry.file.clone(),
                plan,
            });
        }
    };
    if files.is_empty() {
        entries.iter().for_each(|entry| add(entry, &dir));
    }
    for file in files {
        let name = file.file_name().unwrap_or(file.as_os_str());
        let of_file = |entry: &&Entry| Path::new(&entry.file).file_name() == Some(name);
        let mut known = entries.iter().filter(of_file).peekable();
        if known.peek().is_none() {
            add(&Entry::of_file(&file.to_string_lossy()), Path::new(""));
        }
        for entry in known {
            // The file that is named, not the table's neighbour of that name.
            let entry = Entry {
                file: name.to_string_lossy().into_owned(),
                ..entry.clone()
            };
            add(&entry, &folder(file));
        }
    }
    match table {
        Some(path) if tests.is_empty() && !limits.groups.is_empty() => {
            Err(Failure::usage(TableError::Nothing {
                path: path.into(),
                groups: limits.groups.join(", "),
            }))
        }
        _ => Ok(tests),
    }
}

fn entries(path: &Path) -> Result<Vec<Entry>, Failure> {
    let text = fs::read(path).map_err(|source| {
        Failure::usage(TableError::Read {
            path: path.into(),
            source,
        })
    })?;
    parse(&String::from_utf8_lossy(&text)).map_err(|source| {
        Failure::usage(TableError::Parse {
            path: path.into(),
            source,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let table =
            "[a1]\nfile = a.flat\n[a2]\nfile = a.flat\nsmp = 2\ngroups = g\n[b]\nfile = b.flat\n";
        fs::write(dir.path().join("unittests.cfg"), table).unwrap();
        for name in ["a.flat", "b.flat", "c.flat"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        dir
    }

    fn names(dir: &Path, files: &[&str], groups: &[&str]) -> Result<Vec<String>, String> {
        let files: Vec<_> = files.iter().map(|file| dir.join(file)).collect();
        let limits = Limits {
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            arch: "x86_64".into(),
            ..Limits::default()
        };
        let read = read(&files, Some(&dir.join("unittests.cfg")), &limits);
        let read = read.map_err(|failure| crate::cli::chain(failure.error.as_ref()))?;
        assert!(read.iter().all(|test| test.plan.is_ok()), "{read:?}");
        Ok(read.into_iter().map(|test| test.name).collect())
    }

    #[test]
    fn files_choose_among_the_table_and_add_to_it() {
        let dir = scratch();
        let names = |files: &[&str], groups: &[&str]| names(dir.path(), files, groups);
        assert_eq!(names(&[], &[]).unwrap(), ["a1", "a2", "b"]);
        assert_eq!(
            names(&["a.flat", "c.flat"], &[]).unwrap(),
            ["a1", "a2", "c"]
        );
        assert_eq!(names(&[], &["g", "b"]).unwrap(), ["a2", "b"]);
        assert!(names(&[], &["h"]).unwrap_err().contains("is in group h"));
    }

    #[test]
    fn a_table_that_cannot_be_used_is_named() {
        let dir = scratch();
        fs::write(dir.path().join("unittests.cfg"), "what").unwrap();
        let error = names(dir.path(), &[], &[]).unwrap_err();
        assert!(
            error.contains("unittests.cfg") && error.contains("line 1"),
            "{error}"
        );
    }
}
