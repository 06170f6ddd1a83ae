//! `trapline completions SHELL`

use clap_complete::Shell;

use super::{Failure, Status, command, out};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Whose syntax
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "trapline", &mut script);
        out::print(String::from_utf8_lossy(&script))?;
        Ok(Status::Ok)
    }
}
