//! `trapline lab`: a shell or a command in the disposable host.

use std::env;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Deserializer, Serialize};

use super::values::Size;
use super::{Failure, Global, out};
use crate::lab::{self, Accel, Command, Devices, Exit, LabError, Options, TABLE};

/// Options of the lab itself, for every command that may take it
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[command(next_help_heading = "Lab")]
#[serde(default, rename_all = "kebab-case")]
pub struct LabArgs {
    /// Kernel of the lab: a name in the cache, an image or a build directory
    #[arg(long, value_name = "NAME|PATH")]
    pub lab_kernel: Option<String>,
    /// Memory of the lab (MiB without a suffix)
    #[arg(long, value_name = "SIZE")]
    pub lab_mem: Option<Size>,
    /// CPUs of the lab
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(CPUS))]
    #[serde(deserialize_with = "cpus")]
    pub lab_cpus: Option<u32>,
    /// A further device in the lab, as QEMU's -device takes it
    #[arg(long, value_name = "SPEC")]
    pub lab_device: Vec<String>,
    /// What QEMU runs the lab with [default: auto]
    #[arg(long, value_enum)]
    pub accel: Option<AccelArg>,
}

const CPUS: std::ops::RangeInclusive<i64> = 1..=255;

/// A number of CPUs in a file, held to the limits of the command line.
fn cpus<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let cpus = u32::deserialize(from)?;
    if CPUS.contains(&i64::from(cpus)) {
        Ok(Some(cpus))
    } else {
        let (least, most) = (CPUS.start(), CPUS.end());
        let error = format!("{cpus} is not in {least} to {most}");
        Err(serde::de::Error::custom(error))
    }
}

/// What QEMU runs the lab with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelArg {
    /// KVM where it nests, else emulation
    Auto,
    /// Emulation
    Tcg,
    /// KVM
    Kvm,
}

impl LabArgs {
    /// These, and `below` where these say nothing. A list given here replaces the one below.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            lab_kernel: self.lab_kernel.or(below.lab_kernel),
            lab_mem: self.lab_mem.or(below.lab_mem),
            lab_cpus: self.lab_cpus.or(below.lab_cpus),
            lab_device: if self.lab_device.is_empty() {
                below.lab_device
            } else {
                self.lab_device
            },
            accel: self.accel.or(below.accel),
        }
    }

    /// Lays these over `options`.
    #[must_use]
    pub fn apply(&self, mut options: Options) -> Options {
        options.kernel = self.lab_kernel.clone().or(options.kernel);
        options.mem = self.lab_mem.map_or(options.mem, |size| size.0);
        options.cpus = self.lab_cpus.unwrap_or(options.cpus);
        options.extra_devices.extend_from_slice(&self.lab_device);
        options.accel = match self.accel {
            None | Some(AccelArg::Auto) => Accel::Auto,
            Some(AccelArg::Tcg) => Accel::Tcg,
            Some(AccelArg::Kvm) => Accel::Kvm,
        };
        options
    }
}

/// Run a command, or a shell, in a disposable host under QEMU
///
/// The lab has this machine's root, read-only; what is written to /tmp, /run and /dev/shm is lost.
/// Its exit status is the command's. On a terminal Ctrl-] three times ends a lab that hangs.
#[derive(Debug, Args)]
pub(super) struct Lab {
    #[command(flatten)]
    options: LabArgs,
    /// List the lab's PCI devices
    #[arg(long)]
    list: bool,
    /// Print JSON
    #[arg(long, requires = "list")]
    json: bool,
    /// Start without the PCI devices and the IOMMU: quicker
    #[arg(long)]
    no_devices: bool,
    /// A directory or file that can be written inside
    #[arg(long, value_name = "PATH")]
    share: Vec<PathBuf>,
    /// The command; none: a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Lab {
    pub(super) fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        if self.list {
            return list(self.json);
        }
        let mut options = self.options.apply(Options::default());
        options.writable = self.share;
        options.show_console = global.verbose > 1;
        options.devices = if self.no_devices {
            Devices::None
        } else {
            Devices::Table
        };
        let argv = if self.command.is_empty() {
            if std::io::stdin().is_terminal() && !global.quiet {
                out::say("a shell in the lab; Ctrl-] three times ends it, should it hang");
            }
            vec![shell()]
        } else {
            self.command
        };
        let exit = lab::run(&Command::new(argv), &options)?;
        if let Exit::Refused { why, .. } = &exit {
            out::say(why);
        }
        Ok(exit.into())
    }
}

/// The caller's shell, when it is there.
fn shell() -> OsString {
    let named = env::var_os("SHELL").filter(|shell| Path::new(shell).is_file());
    named.unwrap_or_else(|| {
        let bash = Path::new("/bin/bash");
        let there = if bash.is_file() {
            bash
        } else {
            Path::new("/bin/sh")
        };
        there.into()
    })
}

fn list(json: bool) -> Result<ExitCode, Failure> {
    #[derive(Serialize)]
    struct Item {
        bdf: &'static str,
        id: &'static str,
        model: &'static str,
        reset: &'static str,
        what: &'static str,
    }
    let items = TABLE.map(|device| Item {
        bdf: device.bdf,
        id: device.id,
        model: device.model,
        reset: device.reset,
        what: device.what,
    });
    if json {
        out::json("lab-devices", &items)?;
        return Ok(ExitCode::SUCCESS);
    }
    let head = format!("{:8} {:10} {:16} {:6} WHAT", "BDF", "ID", "MODEL", "RESET");
    let rows = items.map(|item| {
        let Item {
            bdf,
            id,
            model,
            reset,
            what,
        } = item;
        format!("{bdf:8} {id:10} {model:16} {reset:6} {what}")
    });
    out::line(format_args!("{head}\n{}", rows.join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

impl From<LabError> for Failure {
    fn from(error: LabError) -> Self {
        if error.is_hosts_fault() {
            Self::host(error)
        } else if error.is_callers_fault() {
            Self::usage(error)
        } else {
            Self::internal(error)
        }
    }
}
