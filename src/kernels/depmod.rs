//! The index of a module tree, as depmod writes it: who needs whom, and who answers to which name.
//!
//! A distribution runs depmod when it installs a kernel; here nothing is installed, and depmod need
//! not be there. Without an index every look-up would read and unpack modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::modinfo::{self, Info};
use super::packed;
use super::tree::{Tree, canonical};

/// Writes `modules.dep`, `modules.softdep` and `modules.alias` into `dir`, unless it has an index.
pub(super) fn index(dir: &Path) -> io::Result<()> {
    if dir.join("modules.dep").exists() {
        return Ok(());
    }
    let tree = Tree::open(dir)?;
    let infos = read_all(&tree.files)?;
    let (mut dep, mut softdep, mut alias) = (String::new(), String::new(), String::new());
    for (name, info) in &infos {
        let path = |name: &String| Some(tree.files.get(name)?.strip_prefix(dir).ok()?.display());
        let Some(file) = path(name) else { continue };
        let _ = write!(dep, "{file}:");
        for needed in closure(name, &infos).iter().filter_map(path) {
            let _ = write!(dep, " {needed}");
        }
        dep.push('\n');
        if !info.before.is_empty() {
            let _ = writeln!(softdep, "softdep {name} pre: {}", info.before.join(" "));
        }
        for other in &info.aliases {
            let _ = writeln!(alias, "alias {other} {name}");
        }
    }
    fs::write(dir.join("modules.softdep"), softdep)?;
    fs::write(dir.join("modules.alias"), alias)?;
    // Last, because it is what says that there is an index.
    fs::write(dir.join("modules.dep"), dep)
}

/// Everything `name` needs, directly or not; what needs something before what it needs.
fn closure(name: &str, infos: &BTreeMap<String, Info>) -> Vec<String> {
    fn visit(
        name: &str,
        infos: &BTreeMap<String, Info>,
        seen: &mut BTreeSet<String>,
        done: &mut Vec<String>,
    ) {
        for need in infos.get(name).into_iter().flat_map(|info| &info.depends) {
            let need = canonical(need);
            if seen.insert(need.clone()) {
                visit(&need, infos, seen, done);
                done.push(need);
            }
        }
    }
    let mut done = Vec::new();
    visit(
        name,
        infos,
        &mut BTreeSet::from([name.to_owned()]),
        &mut done,
    );
    done.reverse();
    done
}

fn read_all(files: &BTreeMap<String, PathBuf>) -> io::Result<BTreeMap<String, Info>> {
    let files: Vec<_> = files.iter().collect();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let part = files.len().div_ceil(workers).max(1);
    let parts: Vec<io::Result<Vec<_>>> = thread::scope(|scope| {
        let threads = files
            .chunks(part)
            .map(|part| scope.spawn(move || read_some(part)));
        let threads: Vec<_> = threads.collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a reader of modules panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let mut infos = BTreeMap::new();
    for part in parts {
        infos.extend(part?);
    }
    Ok(infos)
}

fn read_some(files: &[(&String, &PathBuf)]) -> io::Result<Vec<(String, Info)>> {
    let read = |(name, path): &(&String, &PathBuf)| {
        let fail = |source: io::Error| {
            io::Error::new(source.kind(), format!("{}: {source}", path.display()))
        };
        let bytes = fs::read(path)
            .and_then(|b| packed::unpack(&b))
            .map_err(fail)?;
        // Empty files and stubs have nothing to say.
        Ok(((*name).clone(), modinfo::read(&bytes).unwrap_or_default()))
    };
    files.iter().map(read).collect()
}
