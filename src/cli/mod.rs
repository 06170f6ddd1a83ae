//! The command line: one file per subcommand; each parses, calls and prints.

mod boot;
mod completions;
mod ctl;
mod doctor;
mod failure;
mod kernel;
mod kut;
mod lab;
mod man;
mod msr;
pub mod out;
mod progress;
mod ps;
mod qemuisms;
mod test;
pub mod values;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

pub use failure::{Failure, Status, chain};
pub use lab::LabArgs;

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
enum Command {
    Boot(Box<boot::BootArgs>),
    Completions(completions::Completions),
    Ctl(ctl::Ctl),
    Doctor(doctor::Doctor),
    Kernel(kernel::Kernel),
    Kut(kut::Kut),
    Lab(lab::Lab),
    Man(man::Man),
    Msr(msr::Msr),
    Ps(ps::Ps),
    Test(test::Test),
}

/// The command line's grammar, for completions, manual pages and the README's table.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command and gives its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(hint) = qemuisms::certain(&arguments) {
        out::say(hint);
        return Status::Usage.into();
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments),
    };
    let done = match cli.command {
        Command::Boot(args) => args.run(&cli.global),
        Command::Completions(completions) => completions.run().map(ExitCode::from),
        Command::Ctl(ctl) => ctl.run().map(ExitCode::from),
        Command::Doctor(doctor) => doctor.run().map(ExitCode::from),
        Command::Kernel(kernel) => kernel.run(cli.global.quiet).map(ExitCode::from),
        Command::Kut(kut) => kut.run(&cli.global),
        Command::Lab(lab) => lab.run(&cli.global),
        Command::Msr(msr) => msr.run(&cli.global),
        Command::Man(man) => man.run().map(ExitCode::from),
        Command::Ps(ps) => ps.run().map(ExitCode::from),
        Command::Test(test) => test.run(&cli.global),
    };
    done.unwrap_or_else(|failure| failure.report())
}

/// What clap has to say, with the status that fits: help and version are answers, not errors.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return Status::Ok.into();
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(hint) = qemuisms::likely(arguments)
    {
        out::say(hint);
    }
    Status::Usage.into()
}
