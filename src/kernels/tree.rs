//! A kernel's modules on disk: an installed tree (`lib/modules/VERSION`) or a build directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Suffixes a module file may have; all are told apart by content when read.
const SUFFIXES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// Where each module lies, which are built in, and what `modules.dep` knows.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By name, with `_` for `-`.
    pub(super) files: BTreeMap<String, PathBuf>,
    pub(super) builtin: BTreeSet<String>,
    /// Everything each module needs, where depmod has run.
    pub(super) deps: BTreeMap<String, Vec<String>>,
}

impl Tree {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        let lines = |file: &str| match fs::read_to_string(dir.join(file)) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        };
        tree.builtin = lines("modules.builtin")?
            .lines()
            .filter_map(name_of)
            .collect();
        let dep = lines("modules.dep")?;
        if dep.is_empty() {
            tree.find_files(dir, &lines("modules.order")?)?;
        } else {
            tree.read_dep(dir, &dep);
        }
        Ok(tree)
    }

    fn read_dep(&mut self, dir: &Path, text: &str) {
        for (file, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            let Some(name) = name_of(file) else { continue };
            let needs = needs.split_whitespace().filter_map(name_of).collect();
            self.deps.insert(name.clone(), needs);
            self.files.insert(name, dir.join(file));
        }
    }

    fn find_files(&mut self, dir: &Path, order: &str) -> io::Result<()> {
        // A build directory is large and its modules.order is whole; an installed tree also holds
        // modules that came later (updates/, extra/), which only a walk finds.
        if dir.join("Kbuild").exists() || dir.join("vmlinux").exists() {
            for line in order.lines() {
                if let Some(path) = built(dir, line) {
                    self.add(path);
                }
            }
            return Ok(());
        }
        let mut pending = vec![dir.to_path_buf()];
        while let Some(next) = pending.pop() {
            for entry in fs::read_dir(&next)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    pending.push(entry.path());
                } else if kind.is_file() {
                    self.add(entry.path());
                }
                // `build` and `source` are links out of the tree.
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf) {
        if let Some(name) = path.to_str().and_then(name_of) {
            // depmod's default search order puts updates/ before everything else.
            let updated = path.components().any(|c| c.as_os_str() == "updates");
            if updated || !self.files.contains_key(&name) {
                self.files.insert(name, path);
            }
        }
    }
}

/// `kernel/fs/9p/9p.ko` of old trees and `fs/9p/9p.o` of newer ones both mean `fs/9p/9p.ko`.
fn built(dir: &Path, line: &str) -> Option<PathBuf> {
    let line = line.strip_prefix("kernel/").unwrap_or(line);
    let stem = line
        .strip_suffix(".ko")
        .or_else(|| line.strip_suffix(".o"))?;
    let path = dir.join(format!("{stem}.ko"));
    path.is_file().then_some(path)
}

/// The module name in a path to a module file.
pub(super) fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = SUFFIXES
        .iter()
        .find_map(|suffix| file.strip_suffix(suffix))?;
    (!stem.is_empty()).then(|| canonical(stem))
}

/// `-` and `_` are the same in module names; the kernel uses `_`.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}
