//! A kernel's modules on disk: an installed tree (`lib/modules/VERSION`) or a build directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::modinfo;

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
    /// What each module wants loaded before it, by name or alias.
    pub(super) before: BTreeMap<String, Vec<String>>,
    /// The modules that answer to a name. Patterns, which match devices, are left out.
    pub(super) aliases: BTreeMap<String, Vec<String>>,
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
            tree.read_names(&lines("modules.softdep")?, &lines("modules.alias")?);
        }
        Ok(tree)
    }

    fn read_names(&mut self, softdep: &str, alias: &str) {
        for rest in softdep
            .lines()
            .filter_map(|line| line.strip_prefix("softdep "))
        {
            if let Some((name, list)) = rest.split_once(' ') {
                self.before
                    .entry(canonical(name))
                    .or_default()
                    .extend(modinfo::before(list));
            }
        }
        for rest in alias.lines().filter_map(|line| line.strip_prefix("alias ")) {
            if let Some((name, module)) = rest.rsplit_once(' ').filter(|(n, _)| !is_pattern(n)) {
                self.aliases
                    .entry(canonical(name))
                    .or_default()
                    .push(canonical(module));
            }
        }
    }

    /// The module a run-time request loads: by name, else by alias. Where several answer (one for
    /// each kind of processor), the portable one, which loads everywhere.
    pub(super) fn answering(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        if let Some((name, _)) = self.files.get_key_value(&name) {
            return Some(name);
        }
        let all = self.aliases.get(&name)?;
        all.iter()
            .find(|m| m.ends_with("_generic"))
            .or(all.first())
            .map(String::as_str)
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

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
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
