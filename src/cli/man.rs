//! `trapline man [SUBCOMMAND]`

use clap_mangen::Man as Page;

use super::{Failure, Status, command, out};

/// Print the manual page, of one subcommand or of all of it (for `man -l -`)
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Which subcommand
    subcommand: Option<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no subcommand {0:?}; `trapline --help` lists them")]
struct NoSuchSubcommand(String);

impl Man {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let mut all = command();
        all.build();
        let page = match &self.subcommand {
            None => Page::new(all),
            Some(name) => {
                let one = all
                    .find_subcommand(name)
                    .ok_or_else(|| Failure::usage(NoSuchSubcommand(name.clone())))?;
                Page::new(one.clone())
            }
        };
        let mut roff = Vec::new();
        page.render(&mut roff).map_err(Failure::internal)?;
        out::print(String::from_utf8_lossy(&roff))?;
        Ok(Status::Ok)
    }
}
