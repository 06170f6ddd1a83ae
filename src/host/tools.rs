//! Programs of the machine: QEMU for the lab, busybox for guests.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};

use super::{Fact, Mark, Root, Topic};

const PROGRAM: &str = "qemu-system-x86_64";
/// The first with everything the lab uses, and what Debian 12 has.
const OLDEST: (u32, u32) = (7, 2);

/// A QEMU that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub path: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// Why there is no QEMU for the lab.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// Not in the search path.
    #[error("there is no {PROGRAM}; install it: sudo apt-get install qemu-system-x86")]
    Missing,
    /// It does not say which version it is.
    #[error("{} --version says nothing that is a version", path.display())]
    Mute {
        /// The program.
        path: PathBuf,
    },
    /// Too old.
    #[error("{} is version {}.{}; the lab needs {}.{} or newer", path.display(),
            version.0, version.1, OLDEST.0, OLDEST.1)]
    Old {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: (u32, u32),
    },
}

impl Qemu {
    /// Finds it in `$PATH` and asks it for its version.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn find() -> Result<Self, QemuError> {
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        Self::find_in(&Root::system(), &search_path)
    }

    /// Finds it in a search path below a root.
    ///
    /// # Errors
    /// [`QemuError`].
    pub fn find_in(root: &Root, search_path: &OsStr) -> Result<Self, QemuError> {
        let path = root
            .search(PROGRAM, search_path)
            .ok_or(QemuError::Missing)?;
        let said = Command::new(&path).arg("--version").output();
        let said = said.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        match said.ok().as_deref().and_then(version) {
            None => Err(QemuError::Mute { path }),
            Some(version) if version < OLDEST => Err(QemuError::Old { path, version }),
            Some(version) => Ok(Self { path, version }),
        }
    }
}

/// From `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.split_once("version ")?.1.split(['.', ' ', '\n', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// QEMU as a fact.
#[must_use]
pub fn qemu(found: &Result<Qemu, QemuError>) -> Fact {
    let fact = |mark, what: String| Fact::new(Topic::Lab, "qemu", mark, what);
    match found {
        Ok(Qemu { path, version }) => fact(
            Mark::Ok,
            format!("{} {}.{}", path.display(), version.0, version.1),
        ),
        Err(QemuError::Missing) => fact(Mark::No, format!("no {PROGRAM}"))
            .mended_by("sudo apt-get install qemu-system-x86"),
        Err(error) => {
            fact(Mark::No, error.to_string()).mended_by("sudo apt-get install qemu-system-x86")
        }
    }
}

/// A static busybox, `named` by `$TRAPLINE_BUSYBOX` or the machine's own.
#[must_use]
pub fn busybox(root: &Root, named: Option<OsString>, search_path: &OsStr) -> Fact {
    let fact = |mark, what: String| Fact::new(Topic::Guests, "busybox", mark, what);
    let found = match named {
        Some(path) => Some(root.path(path)),
        None => root.search("busybox", search_path),
    };
    let lost = "--exec and --shell will unpack one into the cache";
    let apt = "sudo apt-get install busybox-static";
    match found {
        None => fact(Mark::Warn, format!("none: {lost}")).mended_by(apt),
        Some(path) if is_static(&path) => fact(Mark::Ok, path.display().to_string()),
        Some(path) => {
            let what = format!("{} is not static: {lost}", path.display());
            fact(Mark::Warn, what).mended_by(apt)
        }
    }
}

/// An ELF without an interpreter.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else {
        return false;
    };
    ElfFile64::<Endianness>::parse(&*bytes).is_ok_and(|file| {
        let mut headers = file.elf_program_headers().iter();
        headers.all(|header| header.p_type(file.endian()) != elf::PT_INTERP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_qemu_says() {
        for (said, expected) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n",
                Some((7, 2)),
            ),
            ("QEMU emulator version 10.0.2\nCopyright", Some((10, 0))),
            ("QEMU emulator version 9.1-rc0", Some((9, 1))),
            ("qemu", None),
            ("", None),
        ] {
            assert_eq!(version(said), expected, "{said}");
        }
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        // The test itself is linked dynamically on every host that builds with glibc.
        assert!(!is_static(&std::env::current_exe().unwrap()));
        assert!(!is_static(Path::new("/proc/self/status")));
        assert!(!is_static(Path::new("/nowhere")));
    }
}
