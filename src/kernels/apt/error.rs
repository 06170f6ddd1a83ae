//! What can go wrong with the distribution's packages.

use std::io;
use std::path::PathBuf;

use crate::kernels::KernelError;

/// A package that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A machine of another family.
    #[error(
        "this machine has no apt-get, so there is no distribution to get packages from; \
         pass a kernel of your own: trapline boot PATH/TO/bzImage, or TRAPLINE_KERNEL=PATH"
    )]
    NoApt,
    /// The machine's configuration has nothing of the distribution's.
    #[error(
        "apt's configuration has no archive of this distribution ({codename}); add one \
         (apt edit-sources), or pass a kernel of your own: trapline boot PATH/TO/bzImage"
    )]
    NoSource {
        /// Code name of the distribution's release.
        codename: String,
    },
    /// A suite that is not the name of one.
    #[error(
        "{suite:?} cannot be a suite; write a name like bookworm-backports, trixie or noble-updates"
    )]
    BadSuite {
        /// What was given.
        suite: String,
    },
    /// The package is not in the lists.
    #[error("the suite {suite} has no package {names}{}", after(.complaints))]
    NoPackage {
        /// What was looked for.
        names: String,
        /// Where.
        suite: String,
        /// What apt said when it read the lists.
        complaints: Vec<String>,
    },
    /// apt itself failed.
    #[error("apt-get could not {what}:\n  {lines}")]
    Failed {
        /// What it was to do.
        what: String,
        /// What it said.
        lines: String,
    },
    /// apt could not be started.
    #[error("cannot run {program}")]
    Run {
        /// Which program.
        program: &'static str,
        /// Why.
        source: io::Error,
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
    /// The cache.
    #[error(transparent)]
    Cache(#[from] KernelError),
}

impl AptError {
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

    pub(super) fn run(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::NoApt,
            _ => Self::Run { program, source },
        }
    }
}

fn after(complaints: &[String]) -> String {
    if complaints.is_empty() {
        return String::new();
    }
    format!(
        "; reading its lists, apt said:\n  {}",
        complaints.join("\n  ")
    )
}
