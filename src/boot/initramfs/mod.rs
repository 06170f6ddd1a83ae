//! Builds an initramfs in memory: the one that is built in, with what a run asks for packed into it.

mod busybox;
mod cpio;
mod elf;
mod host_files;
mod ld_cache;
mod libraries;
mod tree;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::job::{JOB_PATH, Job, MODULE_DIR};

pub use elf::is_static_elf;
pub use tree::Initramfs;

/// The init of this repository (`guest/init`), built with the crate.
static INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// What cannot be packed, and why.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// A file of the host that cannot be read.
    #[error("cannot read {} to pack it into the initramfs", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither file, folder nor link.
    #[error(
        "cannot pack {}: it is neither a file nor a folder nor a link; name what lies beside it one by one",
        .0.display()
    )]
    Kind(PathBuf),
    /// The format's sizes have 32 bits.
    #[error("cannot pack {}: a file in an initramfs ends at 4 GiB; use --disk for it", .0.display())]
    TooLarge(PathBuf),
    /// A path the kernel would drop in silence.
    #[error("cannot pack a path or link of {length} bytes, the kernel takes {}: {}", cpio::PATH_MAX - 1, path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Two things of different kind at one path.
    #[error("two different things would lie at {} in the initramfs; choose another guest path for one of them", .0.display())]
    Occupied(PathBuf),
    /// Links that lead in a circle.
    #[error("links in the initramfs lead in a circle at {}", .0.display())]
    Loop(PathBuf),
    /// A folder that contains itself through a link.
    #[error("cannot pack {}: a link in it leads back to a folder around it", .0.display())]
    Cycle(PathBuf),
    /// A file that begins as an ELF file and does not go on as one.
    #[error("cannot read the dynamic section of {}: {reason}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A library that is nowhere.
    #[error(
        "{library}, which {} needs, is neither on this host nor in the initramfs; install it or add --file HOST:GUEST for it",
        needed_by.display()
    )]
    MissingLibrary {
        /// The library's name as the program asks for it.
        library: String,
        /// Who needs it: a path of the host.
        needed_by: PathBuf,
    },
    /// A busybox that does not list its applets.
    #[error("{} --list failed; set TRAPLINE_BUSYBOX to a static busybox", path.display())]
    Busybox {
        /// The busybox.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The built-in initramfs for one run: init, the job, and what the job needs.
///
/// `modules` are names and uncompressed files, dependencies first; `files` are pairs of host and
/// guest path. What the caller packs wins over the applets of busybox, not over init.
pub fn builtin(
    job: &Job,
    busybox: Option<&Path>,
    modules: &[(String, Vec<u8>)],
    files: &[(PathBuf, PathBuf)],
) -> Result<Vec<u8>, InitramfsError> {
    let mut initramfs = Initramfs::new();
    for (host, guest) in files {
        initramfs.add_host(host, guest)?;
    }
    initramfs.add_libraries()?;
    if let Some(path) = busybox {
        busybox::add(&mut initramfs, path)?;
    }
    let mut job = job.clone();
    for (name, bytes) in modules {
        let path = format!("{MODULE_DIR}/{name}.ko");
        initramfs.file(&path, 0o644, bytes)?;
        job.modules.push(path.into_bytes());
    }
    if job != Job::default() {
        initramfs.file(JOB_PATH, 0o600, &job.encode())?;
    }
    initramfs
        .file("/init", 0o755, INIT)?
        .node("/dev/console", 0o600, (5, 1))?
        .node("/dev/null", 0o666, (1, 3))?;
    Ok(initramfs.finish())
}

#[cfg(test)]
mod tests;
