//! `trapline kernel list|get|build`

mod build;
mod get;
mod list;

use super::{Failure, Status};
use crate::kernels::{self, AptError, Cache, GetError, KernelError};

/// Get, build and list kernels
#[derive(Debug, clap::Args)]
pub(super) struct Kernel {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(list::List),
    Get(get::Get),
    Build(build::Build),
}

impl Kernel {
    pub(super) fn run(&self, quiet: bool) -> Result<Status, Failure> {
        let cache = Cache::from_env().map_err(Failure::host)?;
        match &self.verb {
            Verb::List(list) => list.run(&cache),
            Verb::Get(get) => get.run(&cache, quiet),
            Verb::Build(build) => build.run(&cache, quiet),
        }
    }
}

/// `debian-6.1 (6.1.0-56-amd64) is there now: /home/...`
fn sentence(kernel: &kernels::Kernel, done: &str) -> String {
    let version = kernel.version.as_deref().unwrap_or("unknown release");
    let dir = kernel.image.parent().unwrap_or(&kernel.image);
    format!("{} ({version}) {done}: {}", kernel.name, dir.display())
}

/// Which status a kernel that could not be got ends with: the machine's fault, the caller's, ours.
fn failure(error: GetError) -> Failure {
    match error {
        GetError::Apt(apt) => apt_failure(apt),
        GetError::NoFlavour { .. } => Failure::usage(error),
        GetError::Cache(KernelError::NoCache) => Failure::host(error),
        _ => Failure::internal(error),
    }
}

fn apt_failure(error: AptError) -> Failure {
    match error {
        AptError::BadSuite { .. } | AptError::NoPackage { .. } => Failure::usage(error),
        AptError::NoApt | AptError::NoSource { .. } => Failure::host(error),
        _ => Failure::internal(error),
    }
}
