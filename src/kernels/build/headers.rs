//! What external modules need to build, apart from the source and without it.
//!
//! The list is that of the kernel's own scripts/package/install-extmod-build: makefiles, headers,
//! scripts with the programs they built, symbol versions, configuration. Source and output are laid
//! over each other, as after a build in the tree.

use std::fs;
use std::io;
use std::path::Path;

use crate::kernels::error::KernelError;

/// From the source: whole directories.
const SOURCE_TREES: [&str; 3] = ["include", "scripts", "arch/x86/include"];
/// From the source: single files, where they exist.
const SOURCE_FILES: [&str; 5] = [
    "Makefile",
    "Kbuild",
    "arch/x86/Makefile",
    "arch/x86/Makefile_32.cpu",
    "arch/x86/Kbuild",
];
/// From the build.
const BUILT_TREES: [&str; 4] = ["include", "scripts", "arch/x86/include", "tools/objtool"];
const BUILT_FILES: [&str; 3] = [".config", "Module.symvers", "arch/x86/module.lds"];

/// Gathers them in `to`.
pub(super) fn collect(source: &Path, out: &Path, to: &Path) -> Result<(), KernelError> {
    for (root, trees, files, wanted) in [
        (
            source,
            &SOURCE_TREES[..],
            &SOURCE_FILES[..],
            is_source as fn(&Path) -> bool,
        ),
        (out, &BUILT_TREES[..], &BUILT_FILES[..], is_built),
    ] {
        for tree in trees {
            let from = root.join(tree);
            copy_tree(&from, &to.join(tree), wanted).map_err(KernelError::io("copy", &from))?;
        }
        for file in files {
            let from = root.join(file);
            if from.is_file() {
                copy_file(&from, &to.join(file)).map_err(KernelError::io("copy", &from))?;
            }
        }
    }
    Ok(())
}

/// Tests of the scripts and other languages' bindings are no use to a module.
fn is_source(path: &Path) -> bool {
    !path.ends_with("scripts/dtc") && !path.ends_with("scripts/coccinelle")
}

/// The programs and generated files, not the objects they were linked from, and not objtool's parts.
fn is_built(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let objtool = path.components().any(|c| c.as_os_str() == "objtool");
    if objtool {
        return name == "objtool";
    }
    // A module build looks whether the programs are up to date by their .cmd files.
    !name.ends_with(".o") && !name.ends_with(".a")
}

fn copy_tree(from: &Path, to: &Path, wanted: fn(&Path) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if !wanted(&path) {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&path, &target, wanted)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    // Links in the tree point into the tree or, for dt-bindings, to what may not be copied.
    if !from.exists() {
        return Ok(());
    }
    // Times are kept: make would otherwise rebuild what looks newer than its product.
    let times = fs::metadata(from)?.modified()?;
    fs::copy(from, to)?;
    fs::File::options()
        .write(true)
        .open(to)
        .or_else(|_| fs::File::open(to))?
        .set_modified(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn source_and_build_are_laid_over_each_other_without_objects() {
        let dir = tempfile::tempdir().unwrap();
        let (source, out, to) = (
            dir.path().join("s"),
            dir.path().join("o"),
            dir.path().join("t"),
        );
        for file in [
            "Makefile",
            "include/linux/a.h",
            "scripts/mod/modpost.c",
            "drivers/x.c",
        ] {
            touch(&source.join(file));
        }
        for file in [
            ".config",
            "Makefile",
            "include/generated/autoconf.h",
            "scripts/mod/modpost",
            "scripts/mod/modpost.o",
            "tools/objtool/objtool",
            "tools/objtool/check.o",
            "vmlinux",
        ] {
            touch(&out.join(file));
        }
        fs::write(out.join("Makefile"), "include elsewhere").unwrap();
        collect(&source, &out, &to).unwrap();
        for file in [
            ".config",
            "include/linux/a.h",
            "include/generated/autoconf.h",
            "scripts/mod/modpost",
            "tools/objtool/objtool",
        ] {
            assert!(to.join(file).exists(), "{file}");
        }
        for file in [
            "scripts/mod/modpost.o",
            "tools/objtool/check.o",
            "vmlinux",
            "drivers/x.c",
        ] {
            assert!(!to.join(file).exists(), "{file}");
        }
        assert_eq!(
            fs::read(to.join("Makefile")).unwrap(),
            b"x",
            "the source's, not the link to it"
        );
        let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(time(&to.join(".config")), time(&out.join(".config")));
    }
}
