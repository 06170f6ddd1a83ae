//! The command line: one file per subcommand; each parses, calls and prints.

mod failure;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

pub use failure::{Failure, Status, chain};

/// A micro-VMM for x86-64 KVM that you can see through.
#[derive(Debug, Parser)]
#[command(name = "trapline", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Where to run: on this machine, in the lab, or wherever the job can be done
    #[arg(
        long = "in",
        global = true,
        value_name = "WHERE",
        default_value = "auto"
    )]
    pub place: Place,
    /// Say more on standard error; twice says everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Here when this machine can do the job, else in the lab
    Auto,
    /// On this machine
    Here,
    /// In a disposable host under QEMU
    Lab,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Runs the command and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors.
            let status = if error.use_stderr() {
                Status::Usage
            } else {
                Status::Ok
            };
            let _ = error.print();
            return status.into();
        }
    };
    match cli.command {}
}
