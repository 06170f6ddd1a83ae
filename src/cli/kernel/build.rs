//! `trapline kernel build RECIPE [--source DIR|PACKAGE] [--suite S] [--kcov] [--kasan] [--jobs N]`

use std::num::NonZeroUsize;
use std::thread;

use super::{Failure, Status, apt_failure};
use crate::cli::out;
use crate::cli::progress::Bar;
use crate::kernels::{BuildError, BuildRequest, Cache, Recipe, build};

/// Build a kernel for testing from the distribution's source
#[derive(Debug, clap::Args)]
pub(super) struct Build {
    /// Which kernel
    recipe: Recipe,
    /// A source tree, or a linux-source-* package [default: the newest of those]
    #[arg(long, value_name = "DIR|PACKAGE")]
    source: Option<String>,
    /// The suite to take the package from [default: this machine's release]
    #[arg(long)]
    suite: Option<String>,
    /// With coverage of KVM
    #[arg(long)]
    kcov: bool,
    /// With the kernel's address sanitizer
    #[arg(long)]
    kasan: bool,
    /// How many compilers at a time [default: one per processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

impl Build {
    pub(super) fn run(&self, cache: &Cache, quiet: bool) -> Result<Status, Failure> {
        let bar = Bar::new(quiet);
        let jobs = self.jobs.or_else(|| thread::available_parallelism().ok());
        let request = BuildRequest {
            recipe: self.recipe,
            source: self.source.as_deref(),
            suite: self.suite.as_deref(),
            kcov: self.kcov,
            kasan: self.kasan,
            jobs: jobs.map_or(1, NonZeroUsize::get),
        };
        let built = build(cache, &request, &bar).map_err(failure)?;
        bar.clear();
        if !quiet {
            let done = if built.already {
                "is there already"
            } else {
                "is built"
            };
            out::say(super::sentence(&built.kernel, done));
        }
        Ok(Status::Ok)
    }
}

fn failure(error: BuildError) -> Failure {
    match error {
        BuildError::Tools(_) => Failure::host(error),
        BuildError::Apt(apt) => apt_failure(apt),
        BuildError::NotATree { .. }
        | BuildError::NotClean { .. }
        | BuildError::Options { .. }
        | BuildError::NoSource { .. } => Failure::usage(error),
        _ => Failure::internal(error),
    }
}
