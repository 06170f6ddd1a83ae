//! Why a lab could not do its work. Never how its command ended: that is [`Exit`](super::Exit).

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::boot::ImageError;
use crate::boot::initramfs::InitramfsError;
use crate::host::QemuError;
use crate::kernels::{KernelError, ModuleError};

/// A lab that could not be made, or broke.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This is the inside of a lab.
    #[error("this is the inside of a lab already, and labs do not nest: run the command itself")]
    Nested,
    /// QEMU is not installed, or too old.
    #[error("the lab needs QEMU: {0}")]
    Qemu(#[from] QemuError),
    /// No kernel for it.
    #[error(
        "no kernel for the lab: none in $TRAPLINE_LAB_KERNEL, and no kernel in {cache} has KVM and 9p; \
         get one with\n  trapline kernel get debian"
    )]
    NoKernel {
        /// Where was looked.
        cache: PathBuf,
    },
    /// A kernel that lacks what a lab needs.
    #[error(
        "the kernel {kernel} cannot be the lab's: it is built without {missing}{hint}; Debian's standard kernel \
         has all of it:\n  trapline kernel get debian"
    )]
    Unsuitable {
        /// Which kernel.
        kernel: String,
        /// Configuration options, separated by commas.
        missing: String,
        /// What is known of that kind of kernel.
        hint: &'static str,
    },
    /// The kernel could not be found or read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Its modules could not.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// Its image could not be read.
    #[error("cannot read the lab's kernel {path}")]
    Image {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its image is not one.
    #[error(transparent)]
    BadImage(#[from] ImageError),
    /// Its initramfs could not be built.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// More memory than there is.
    #[error(
        "the lab needs {asked} MiB (the guest's memory and 1 GiB for the lab itself) and this machine has \
         {available} MiB to spare; give the guest less (--mem), or the lab (--lab-mem)"
    )]
    Memory {
        /// What the lab would get.
        asked: u64,
        /// MemAvailable.
        available: u64,
    },
    /// KVM was asked for and does not nest here.
    #[error("the lab cannot use this machine's KVM: {0}; use --accel tcg")]
    NoNesting(&'static str),
    /// A path that is to be writable in the lab.
    #[error("cannot share {path} with the lab")]
    Share {
        /// Which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// More shares than there are PCI slots for.
    #[error(
        "{asked} directories to share with the lab are more than its {limit}; share one above them"
    )]
    TooManyShares {
        /// How many.
        asked: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A system call of ours.
    #[error("cannot {action} for the lab")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// QEMU ended while the lab was needed.
    #[error("the lab died{when}: QEMU ended with {status}{tail}")]
    Died {
        /// At what stage.
        when: &'static str,
        /// How.
        status: ExitStatus,
        /// The end of its console.
        tail: Tail,
    },
    /// The command was not started in time.
    #[error(
        "the lab did not come up in {} s; is this machine very busy?{tail}",
        limit.as_secs()
    )]
    Slow {
        /// How long it had.
        limit: Duration,
        /// The end of its console.
        tail: Tail,
    },
    /// The lab's init could not make it what it should be.
    #[error("the lab could not be set up: {why}{tail}")]
    Broken {
        /// In its words.
        why: String,
        /// The end of its console.
        tail: Tail,
    },
}

/// The end of a lab's console, as the end of a message.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// The last lines.
    pub text: String,
    /// Where all of it is.
    pub log: Option<PathBuf>,
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.text.trim().is_empty() {
            return f.write_str("\n  (its console is empty)");
        }
        f.write_str("\n  the end of its console")?;
        if let Some(log) = &self.log {
            write!(f, " (more in {})", log.display())?;
        }
        f.write_str(":")?;
        for line in self.text.lines() {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

impl LabError {
    /// Whether this machine lacks something (status 65), rather than the lab having failed (74).
    #[must_use]
    pub const fn is_hosts_fault(&self) -> bool {
        match self {
            Self::Nested
            | Self::Qemu(_)
            | Self::NoKernel { .. }
            | Self::Unsuitable { .. }
            | Self::Memory { .. }
            | Self::NoNesting(_) => true,
            Self::Kernel(error) => error.is_hosts_fault(),
            _ => false,
        }
    }

    /// Whether the caller named something wrong (status 64).
    #[must_use]
    pub const fn is_callers_fault(&self) -> bool {
        match self {
            Self::Share { .. }
            | Self::TooManyShares { .. }
            | Self::Module(_)
            | Self::Image { .. }
            | Self::BadImage(_) => true,
            Self::Kernel(error) => !error.is_hosts_fault(),
            _ => false,
        }
    }

    pub(super) fn io(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}
