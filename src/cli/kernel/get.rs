//! `trapline kernel get FLAVOUR [--suite S] [--series N] [--headers]`

use super::{Failure, Status, failure};
use crate::cli::out;
use crate::cli::progress::Bar;
use crate::kernels::{Cache, Flavour, GetRequest, get};

/// Download one of the distribution's own kernels, without root
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// Which kernel
    flavour: Flavour,
    /// The suite to take it from, for example bookworm-backports [default: this machine's release]
    #[arg(long)]
    suite: Option<String>,
    /// A series the suite has beside its default one, for example 6.12
    #[arg(long)]
    series: Option<String>,
    /// Also what external modules need to build
    #[arg(long)]
    headers: bool,
}

impl Get {
    pub(super) fn run(&self, cache: &Cache, quiet: bool) -> Result<Status, Failure> {
        let bar = Bar::new(quiet);
        let request = GetRequest {
            flavour: self.flavour,
            suite: self.suite.as_deref(),
            series: self.series.as_deref(),
            headers: self.headers,
        };
        let got = get(cache, &request, &bar).map_err(failure)?;
        bar.clear();
        if !quiet {
            let done = if got.already {
                "is there already"
            } else {
                "is there now"
            };
            out::say(super::sentence(&got.kernel, done));
        }
        Ok(Status::Ok)
    }
}
