//! A static busybox, for guests that have nothing else.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Architecture, Endianness, Object, elf};

use super::apt::{Apt, AptError};
use super::cache::Cache;
use super::deb::{self, UnpackError};
use super::error::KernelError;
use super::progress::Progress;
use super::staging::Staging;

/// Debian's and Ubuntu's package of it.
const PACKAGE: &str = "busybox-static";

/// A busybox that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BusyboxError {
    /// `$TRAPLINE_BUSYBOX` is of no use in a guest without libraries.
    #[error(
        "TRAPLINE_BUSYBOX={path} {fault}; unset it, or name a static x86-64 busybox (Debian: apt-get install busybox-static)"
    )]
    Unusable {
        /// What it names.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// None on this machine, and none could be downloaded.
    #[error(
        "no static busybox: not in $TRAPLINE_BUSYBOX, not in /bin or /usr/bin, and it could not be downloaded; \
         apt-get install busybox-static, or TRAPLINE_BUSYBOX=PATH"
    )]
    None {
        /// Why not downloaded.
        source: AptError,
    },
    /// The package was damaged.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The package came without it.
    #[error("the package {PACKAGE} holds no bin/busybox that is static; set TRAPLINE_BUSYBOX")]
    NotInPackage,
    /// The cache.
    #[error(transparent)]
    Cache(#[from] KernelError),
}

/// `$TRAPLINE_BUSYBOX`, else the host's, else the cache's, which is downloaded when it is not there.
///
/// # Errors
/// When `$TRAPLINE_BUSYBOX` names nothing usable, or there is none and none can be downloaded.
pub fn busybox(cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, BusyboxError> {
    if let Some(named) = env::var_os("TRAPLINE_BUSYBOX").filter(|v| !v.is_empty()) {
        return named_one(PathBuf::from(named));
    }
    let hosts = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    match hosts.into_iter().find(|path| fault(path).is_none()) {
        Some(path) => Ok(path),
        None => cached(cache, progress),
    }
}

fn named_one(path: PathBuf) -> Result<PathBuf, BusyboxError> {
    match fault(&path) {
        None => Ok(path),
        Some(fault) => Err(BusyboxError::Unusable { path, fault }),
    }
}

fn cached(cache: &Cache, progress: &dyn Progress) -> Result<PathBuf, BusyboxError> {
    let dir = cache.root().join("busybox");
    let path = dir.join("busybox");
    if path.is_file() {
        return Ok(path);
    }
    let none = |source| BusyboxError::None { source };
    let apt = Apt::open(cache, None, progress).map_err(none)?;
    let record = apt.first(&[PACKAGE]).map_err(none)?;
    let staging = Staging::new(cache)?;
    let root = staging.path();
    let package = apt.download(&record, root, progress).map_err(none)?;
    deb::unpack(&package, root, |p| p.ends_with("bin/busybox"))?;
    let found = ["bin/busybox", "usr/bin/busybox"].map(|p| root.join(p));
    let found = found
        .into_iter()
        .find(|p| fault(p).is_none())
        .ok_or(BusyboxError::NotInPackage)?;
    let io = |result: io::Result<()>| result.map_err(KernelError::io("arrange", root));
    io(fs::rename(found, root.join("busybox")))?;
    io(fs::remove_file(package))?;
    staging.publish(&dir)?;
    Ok(path)
}

/// Why a file cannot run in a guest that has no libraries; none when it can.
fn fault(path: &Path) -> Option<String> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("cannot be read ({error})")),
    };
    let Ok(file) = ElfFile64::<Endianness>::parse(&*bytes) else {
        return Some("is not a 64-bit ELF program".into());
    };
    if file.architecture() != Architecture::X86_64 {
        return Some("is not for x86-64".into());
    }
    let headers = file.elf_program_headers().iter();
    let interpreted = headers
        .map(|h| h.p_type(file.endian()))
        .any(|t| t == elf::PT_INTERP);
    interpreted.then(|| "is dynamically linked".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_static_x86_64_program_will_do() {
        // The test itself is dynamic; the linker's loader is a program without an interpreter.
        let own = env::current_exe().unwrap();
        assert_eq!(fault(&own).as_deref(), Some("is dynamically linked"));
        assert_eq!(fault(Path::new("/lib64/ld-linux-x86-64.so.2")), None);
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("arm");
        let mut bytes = fs::read(&own).unwrap();
        bytes[18] = 0xb7; // e_machine: EM_AARCH64
        fs::write(&other, &bytes).unwrap();
        assert_eq!(fault(&other).as_deref(), Some("is not for x86-64"));
        fs::write(&other, "#!/bin/sh\n").unwrap();
        assert_eq!(
            fault(&other).as_deref(),
            Some("is not a 64-bit ELF program")
        );
        let text = named_one(dir.path().join("gone")).unwrap_err().to_string();
        assert!(
            text.contains("cannot be read") && text.contains("TRAPLINE_BUSYBOX="),
            "{text}"
        );
    }
}
