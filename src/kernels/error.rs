//! What can go wrong with finding a kernel.

use std::io;
use std::path::PathBuf;

/// A kernel that could not be found, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No directory to keep things in.
    #[error("no place for the cache: set TRAPLINE_CACHE to a directory, or HOME")]
    NoCache,
    /// There is no kernel anywhere. The second line is the command that gets one.
    #[error(
        "no kernel: none in $TRAPLINE_KERNEL, none in {cache}, no readable /boot/vmlinuz-*; get one with\n  \
         trapline kernel get debian-cloud"
    )]
    None {
        /// Where the cache is.
        cache: PathBuf,
    },
    /// A name that is neither a path nor a kernel of the cache.
    #[error("no kernel {name:?}: neither a file or build directory nor a kernel in {cache}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where was looked.
        cache: PathBuf,
        /// What is there, or the nearest name.
        hint: String,
    },
    /// A directory without a kernel in it.
    #[error(
        "{path} is not a kernel build directory: neither arch/x86/boot/bzImage nor vmlinux is in it; \
         run make there, or name the image itself"
    )]
    NotABuild {
        /// The directory.
        path: PathBuf,
    },
    /// A file operation.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A description in the cache that cannot be understood.
    #[error("{path} is damaged; remove the directory it is in and get or build that kernel again")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl KernelError {
    /// For `map_err`: names the action and the path.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the machine lacks a kernel, rather than the caller having named a wrong one.
    #[must_use]
    pub const fn is_hosts_fault(&self) -> bool {
        matches!(self, Self::None { .. } | Self::NoCache)
    }
}
