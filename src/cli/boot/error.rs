//! What can go wrong before a run, and the status it ends with.

use std::io;
use std::path::PathBuf;

use crate::machine::{BoardError, FitError, MsrSetupError, RunError};
use crate::vm::{CpuidError, VmError};

use crate::cli::Failure;

/// A guest that could not be put together.
#[derive(Debug, thiserror::Error)]
pub(super) enum BootError {
    /// No bundled payload of that name.
    #[error(
        "there is no payload {name:?}{}; `trapline boot :` lists them",
        nearest.map(|n| format!("; did you mean :{n}?")).unwrap_or_default()
    )]
    Payload {
        /// What was asked.
        name: String,
        /// The nearest there is.
        nearest: Option<&'static str>,
    },
    /// The initramfs cannot be read.
    #[error("cannot read the initramfs {}", path.display())]
    Initrd {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The initramfs was made and cannot be kept.
    #[error("cannot hold the initramfs in memory")]
    Hold {
        /// Why.
        source: io::Error,
    },
    /// An option that the guest has no use for.
    #[error("--{option} is for other guests; {guest} has no {lacks}")]
    NotForThat {
        /// The option.
        option: &'static str,
        /// What the guest is.
        guest: &'static str,
        /// What it would need.
        lacks: &'static str,
    },
    /// The listing of the board cannot be written.
    #[error("cannot write the board to {}", path.display())]
    Listing {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard output cannot be had.
    #[error("cannot use standard output")]
    Stdout {
        /// Why.
        source: io::Error,
    },
}

/// What the user asked for is 64, what this host lacks 65, the rest 74.
pub(super) fn of_run(error: RunError) -> Failure {
    match &error {
        RunError::Board(
            BoardError::Load(_)
            | BoardError::Fit(FitError::Full { .. } | FitError::Twice { .. } | FitError::Disk(_))
            | BoardError::Memory(_)
            | BoardError::Vm(VmError::TooManyVcpus { .. }),
        ) => Failure::usage(error),
        RunError::Control(_) => Failure::usage(error),
        RunError::Board(BoardError::Msrs(
            MsrSetupError::Filter(_) | MsrSetupError::Program { .. },
        )) => Failure::usage(error),
        RunError::Board(
            BoardError::Open(_)
            | BoardError::Cpuid(CpuidError::Profile(_))
            | BoardError::Msrs(MsrSetupError::Lacks { .. }),
        ) => Failure::host(error),
        _ => Failure::internal(error),
    }
}
