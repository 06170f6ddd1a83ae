//! Which module files to load, and in which order.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::kernel::Kernel;
use super::tree::{Tree, canonical, name_of};
use super::{modinfo, packed};

/// How much alike two names are when one may be meant by the other.
const ALIKE: f64 = 0.8;

/// A module that is to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name as `lsmod` shows it.
    pub name: String,
    /// Its file, perhaps compressed.
    pub path: PathBuf,
}

impl Module {
    /// The uncompressed ELF, as `init_module` takes it.
    ///
    /// # Errors
    /// When the file cannot be read or unpacked.
    pub fn bytes(&self) -> Result<Vec<u8>, ModuleError> {
        fs::read(&self.path)
            .and_then(|bytes| packed::unpack(&bytes))
            .map_err(|source| ModuleError::Read {
                path: self.path.clone(),
                source,
            })
    }
}

/// Modules that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Nothing to look in.
    #[error(
        "no module tree for the kernel {kernel}: looked for lib/modules/{version} beside it and in /lib/modules; \
         get a kernel with its modules (trapline kernel get debian), or name its build directory"
    )]
    NoTree {
        /// Which kernel.
        kernel: String,
        /// Its release, or VERSION.
        version: String,
    },
    /// Not in the tree and not built in.
    #[error("the kernel {kernel} has no module {name:?}{hint}")]
    NoSuchModule {
        /// Which kernel.
        kernel: String,
        /// What was asked for.
        name: String,
        /// What may have been meant, or who needs it.
        hint: String,
    },
    /// A file that cannot be read, unpacked or parsed.
    #[error("cannot read the module {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The files to load for `names`, dependencies first, each once. A name is a module's name with `-`
/// or `_`, or the path of a module file. What is built in needs no file.
///
/// # Errors
/// When a module does not exist, or a file on the way cannot be read.
pub fn resolve<S: AsRef<str>>(kernel: &Kernel, names: &[S]) -> Result<Vec<Module>, ModuleError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let Some(dir) = &kernel.modules else {
        return Err(ModuleError::NoTree {
            kernel: kernel.name.clone(),
            version: kernel.version.clone().unwrap_or_else(|| "VERSION".into()),
        });
    };
    let tree = Tree::open(dir).map_err(|source| ModuleError::Read {
        path: dir.clone(),
        source,
    })?;
    let mut walk = Walk {
        kernel: &kernel.name,
        tree: &tree,
        seen: BTreeSet::new(),
        order: Vec::new(),
    };
    for name in names {
        walk.visit(name.as_ref(), None)?;
    }
    Ok(walk.order)
}

struct Walk<'a> {
    kernel: &'a str,
    tree: &'a Tree,
    seen: BTreeSet<String>,
    order: Vec<Module>,
}

impl Walk<'_> {
    fn visit(&mut self, wanted: &str, needed_by: Option<&str>) -> Result<(), ModuleError> {
        let module = match wanted.contains('/').then(|| name_of(wanted)).flatten() {
            Some(name) => Module {
                name,
                path: wanted.into(),
            },
            None => {
                let name = canonical(wanted);
                match self.tree.files.get(&name) {
                    Some(path) => Module {
                        name,
                        path: path.clone(),
                    },
                    None if self.tree.builtin.contains(&name) => return Ok(()),
                    None => return Err(self.unknown(wanted, needed_by)),
                }
            }
        };
        // Marked before its dependencies are walked: a cycle in a broken tree then ends.
        if !self.seen.insert(module.name.clone()) {
            return Ok(());
        }
        let (before, needs) = self.needs(&module)?;
        for wanted in before {
            // Not among the modules: built in, or of another kernel's time.
            if let Some(name) = self.tree.answering(&wanted) {
                self.visit(name, Some(&module.name))?;
            }
        }
        for need in needs {
            self.visit(&need, Some(&module.name))?;
        }
        self.order.push(module);
        Ok(())
    }

    /// What the module wants loaded before it, and what it cannot load without.
    fn needs(&self, module: &Module) -> Result<(Vec<String>, Vec<String>), ModuleError> {
        let of_tree = self.tree.files.get(&module.name) == Some(&module.path);
        if let Some(deps) = self.tree.deps.get(&module.name).filter(|_| of_tree) {
            let before = self.tree.before.get(&module.name).cloned();
            return Ok((before.unwrap_or_default(), deps.clone()));
        }
        let info = modinfo::read(&module.bytes()?).ok_or_else(|| ModuleError::Read {
            path: module.path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "not an ELF module"),
        })?;
        Ok((info.before, info.depends))
    }

    fn unknown(&self, name: &str, needed_by: Option<&str>) -> ModuleError {
        let names = self.tree.files.keys().chain(&self.tree.builtin);
        let nearest = names
            .map(|known| (strsim::jaro_winkler(known, &canonical(name)), known))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .filter(|(alike, _)| *alike >= ALIKE);
        ModuleError::NoSuchModule {
            kernel: self.kernel.into(),
            name: name.into(),
            hint: match (needed_by, nearest) {
                (Some(by), _) => format!(", which {by} needs"),
                (None, Some((_, known))) => format!("; did you mean {known}?"),
                (None, None) => String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::depmod;
    use super::super::modinfo::tests::module;
    use super::*;

    struct Fake {
        dir: tempfile::TempDir,
    }

    impl Fake {
        fn new(files: &[(&str, &[u8])]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (file, bytes) in files {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            Self { dir }
        }

        fn load(&self, names: &[&str]) -> Result<Vec<String>, ModuleError> {
            let mut kernel = Kernel::from_path(Path::new("/dev/null")).unwrap();
            kernel.modules = Some(self.dir.path().into());
            Ok(resolve(&kernel, names)?
                .into_iter()
                .map(|m| m.name)
                .collect())
        }
    }

    fn needing(list: &str) -> Vec<u8> {
        module(&format!("depends={list}\0"))
    }

    #[test]
    fn without_modules_dep_the_files_tell_their_dependencies() {
        let fake = Fake::new(&[
            ("kernel/a/kvm-amd.ko", &needing("kvm,ccp")),
            (
                "kernel/a/kvm.ko.xz",
                &liblzma::encode_all(&needing("irqbypass")[..], 1).unwrap(),
            ),
            (
                "kernel/b/irqbypass.ko.zst",
                &zstd::encode_all(&needing("")[..], 1).unwrap(),
            ),
            ("modules.builtin", b"kernel/drivers/crypto/ccp/ccp.ko\n"),
        ]);
        assert_eq!(
            fake.load(&["kvm_amd"]).unwrap(),
            ["irqbypass", "kvm", "kvm_amd"]
        );
        assert_eq!(
            fake.load(&["irqbypass", "kvm-amd"]).unwrap(),
            ["irqbypass", "kvm", "kvm_amd"]
        );
        assert!(
            fake.load(&["ccp"]).unwrap().is_empty(),
            "built in: nothing to load"
        );
    }

    #[test]
    fn modules_dep_is_believed_and_its_files_are_not_opened() {
        let fake = Fake::new(&[(
            "modules.dep",
            b"kernel/9p.ko: kernel/9pnet.ko kernel/fscache.ko\nkernel/9pnet.ko:\nkernel/fscache.ko: kernel/netfs.ko\nkernel/netfs.ko:\n",
        )]);
        assert_eq!(
            fake.load(&["9p"]).unwrap(),
            ["9pnet", "netfs", "fscache", "9p"]
        );
    }

    #[test]
    fn what_a_module_asks_for_at_run_time_is_loaded_before_it() {
        let fake = Fake::new(&[
            (
                "modules.dep",
                b"fs/btrfs.ko: lib/libcrc32c.ko\nlib/libcrc32c.ko:\ncrypto/crc32c-intel.ko:\ncrypto/crc32c_generic.ko:\n",
            ),
            ("modules.softdep", b"# x\nsoftdep libcrc32c pre: crc32c\nsoftdep btrfs pre: gone post: zzz\n"),
            (
                "modules.alias",
                b"alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias cpu:type:x86* crc32c_intel\n",
            ),
        ]);
        assert_eq!(
            fake.load(&["btrfs"]).unwrap(),
            ["crc32c_generic", "libcrc32c", "btrfs"]
        );
    }

    #[test]
    fn an_index_made_here_says_what_the_files_say() {
        let fake = Fake::new(&[
            ("kernel/a.ko", &module("depends=b\0softdep=pre: sum\0")),
            (
                "kernel/b.ko.xz",
                &liblzma::encode_all(&needing("c")[..], 1).unwrap(),
            ),
            ("kernel/c.ko", &needing("")),
            (
                "kernel/sum_generic.ko",
                &module("depends=\0alias=sum\0alias=x:*\0"),
            ),
        ]);
        assert_eq!(
            fake.load(&["a"]).unwrap(),
            ["c", "b", "a"],
            "aliases need an index"
        );
        depmod::index(fake.dir.path()).unwrap();
        assert_eq!(fake.load(&["a"]).unwrap(), ["sum_generic", "c", "b", "a"]);
        let dep = fs::read_to_string(fake.dir.path().join("modules.dep")).unwrap();
        assert!(
            dep.contains("kernel/a.ko: kernel/b.ko.xz kernel/c.ko\n"),
            "{dep}"
        );
    }

    #[test]
    fn a_build_directory_lists_its_modules_in_either_spelling_of_modules_order() {
        let fake = Fake::new(&[
            ("Kbuild", b""),
            ("modules.order", b"kernel/fs/old.ko\nfs/new.o\nfs/gone.o\n"),
            ("fs/old.ko", &needing("")),
            ("fs/new.ko", &needing("old")),
            ("stray/other.ko", &needing("")),
        ]);
        assert_eq!(fake.load(&["new"]).unwrap(), ["old", "new"]);
        assert!(fake.load(&["other"]).is_err());
    }

    #[test]
    fn updates_win_over_the_kernels_own() {
        let fake = Fake::new(&[
            ("updates/dkms/edu.ko", &needing("")),
            ("kernel/misc/edu.ko", &needing("gone")),
        ]);
        assert_eq!(fake.load(&["edu"]).unwrap(), ["edu"]);
    }

    #[test]
    fn a_file_may_be_named_and_its_dependencies_come_from_the_tree() {
        let fake = Fake::new(&[("kernel/base.ko", &needing(""))]);
        let own = Fake::new(&[("mine.ko", &needing("base"))]);
        let path = own.dir.path().join("mine.ko");
        assert_eq!(
            fake.load(&[path.to_str().unwrap()]).unwrap(),
            ["base", "mine"]
        );
    }

    #[test]
    fn a_cycle_ends() {
        let fake = Fake::new(&[("a.ko", &needing("b")), ("b.ko", &needing("a"))]);
        assert_eq!(fake.load(&["a"]).unwrap(), ["b", "a"]);
    }

    #[test]
    fn errors_name_the_nearest_module_and_who_needs_a_missing_one() {
        let fake = Fake::new(&[("virtio_net.ko", &needing("failover"))]);
        let text = |name: &str| fake.load(&[name]).unwrap_err().to_string();
        assert!(
            text("virtio-nte").ends_with("did you mean virtio_net?"),
            "{}",
            text("virtio-nte")
        );
        assert!(
            text("zzz").ends_with("has no module \"zzz\""),
            "{}",
            text("zzz")
        );
        assert!(text("virtio_net").contains("\"failover\", which virtio_net needs"));
    }

    #[test]
    fn a_damaged_module_is_an_error_that_names_the_file() {
        let fake = Fake::new(&[("bad.ko.xz", b"\xfd7zXZ\0cut"), ("text.ko", b"text")]);
        for name in ["bad", "text"] {
            let text = fake.load(&[name]).unwrap_err().to_string();
            assert!(text.contains(&format!("{name}.ko")), "{text}");
        }
    }

    #[test]
    fn without_a_tree_only_an_empty_list_resolves() {
        let kernel = Kernel::from_path(Path::new("/dev/null")).unwrap();
        assert_eq!(resolve::<&str>(&kernel, &[]).unwrap(), []);
        let text = resolve(&kernel, &["9p"]).unwrap_err().to_string();
        assert!(
            text.contains("no module tree for the kernel /dev/null"),
            "{text}"
        );
    }
}
