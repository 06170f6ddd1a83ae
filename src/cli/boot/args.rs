//! What `boot` can be told, on the command line and in a file with the same keys.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Deserialize;

use super::msr_trace::TraceFiles;
use crate::boot::{Format, Protocol};
use crate::cli::lab::LabArgs;
use crate::cli::values::{BootModule, Device, Disk, Pair, Size, Span};
use crate::machine::{EscapeKey, ExitRule, OnOops, OnReboot};
use crate::mem::HugePages;
use crate::vm::cpuid::Profile;

/// Boot a guest and end with its status
///
/// KERNEL is a bzImage, an ELF vmlinux, a kernel build directory, the name of a kernel that
/// `trapline kernel list` shows, a multiboot kernel (kvm-unit-tests' *.flat are), or :NAME for a
/// bundled payload (`trapline boot :` lists them).
/// Without it: $TRAPLINE_KERNEL, the newest kernel got or built, or the host's own.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct BootArgs {
    /// What to boot
    pub(crate) kernel: Option<String>,
    /// Initramfs of your own instead of the built-in one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exec", "shell", "command", "file", "get", "module"])]
    pub(crate) initrd: Option<PathBuf>,
    /// Add to the default kernel command line
    #[arg(short = 'a', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) append: Option<String>,
    /// Use instead of the default kernel command line
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) cmdline: Option<String>,
    /// Boot protocol
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    #[serde(deserialize_with = "word")]
    pub(crate) protocol: Option<ProtocolName>,
    /// Read KERNEL as a flat binary instead of by its content: flat16 starts it in real mode at 0x7c00,
    /// flat64 in 64-bit mode at 1 MiB with boot_params in RSI
    #[arg(long, value_name = "FORMAT[,load=ADDRESS][,entry=ADDRESS]")]
    #[serde(deserialize_with = "text")]
    pub(crate) format: Option<Format>,
    /// Give a multiboot kernel a module, with words for its string
    #[arg(long, value_name = "FILE[,WORDS]")]
    pub(crate) boot_module: Vec<BootModule>,
    /// Number of vCPUs [default: 1]
    #[arg(short = 'c', long, value_name = "N")]
    pub(crate) cpus: Option<usize>,
    /// The guest's CPU: host, bare, x86-64, x86-64-v2 to -v4, +feature, -feature, vendor=, family=, model=,
    /// stepping= [default: host]
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    #[serde(deserialize_with = "text")]
    pub(crate) cpu: Option<Profile>,
    /// Guest memory, in MiB without a suffix [default: 256M]
    #[arg(short = 'm', long, value_name = "SIZE")]
    pub(crate) mem: Option<Size>,
    /// Back guest memory with the host's reserved huge pages
    #[arg(long, value_enum, value_name = "PAGES")]
    #[serde(deserialize_with = "word")]
    pub(crate) hugepages: Option<HugePagesName>,
    /// Run CMD with the guest's /bin/sh -c and end with its status
    #[arg(long, value_name = "CMD", conflicts_with_all = ["shell", "command"])]
    pub(crate) exec: Option<String>,
    /// Give an interactive shell in the guest
    #[arg(long, conflicts_with = "command")]
    pub(crate) shell: bool,
    /// Pack a file or folder into the guest; a program comes with its libraries
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) file: Vec<Pair>,
    /// Bring a file or folder back after the run
    #[arg(long, value_name = "GUEST:HOST")]
    pub(crate) get: Vec<Pair>,
    /// Pack and load a kernel module with its dependencies
    #[arg(long, value_name = "NAME")]
    pub(crate) module: Vec<String>,
    /// Add an IDE disk; ro has the guest only read it, overlay keeps what the guest writes in memory
    #[arg(long, value_name = "FILE[,ro][,overlay]")]
    pub(crate) disk: Vec<Disk>,
    /// Add a CD-ROM drive with an ISO image in it; four disks and discs at most
    #[arg(long, value_name = "FILE")]
    pub(crate) cdrom: Vec<PathBuf>,
    /// Add a device: edu[,dma-mask=BITS], QEMU's device for learning to write drivers; balloon, which
    /// takes memory from the guest while it runs; testdev or pci-testdev, the devices of QEMU that
    /// kvm-unit-tests drives
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Vec<Device>,
    /// List every window, line and function of the machine, and boot nothing
    #[arg(long)]
    pub(crate) print_board: bool,
    /// Answer the guest's MSR accesses by a policy: a TOML file, or :NAME for one that is built in;
    /// later ones win
    #[arg(long, value_name = "FILE")]
    pub(crate) msr_policy: Vec<String>,
    /// Write events as JSON lines; - is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Write status, timeline, counts and post-mortem as JSON; with --print-board the board, - is
    /// standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Print the timeline of the run
    #[arg(long)]
    pub(crate) timing: bool,
    /// Print the POST codes (port 0x80) of the run with the guest's time
    #[arg(long)]
    pub(crate) post_codes: bool,
    /// End the run with 72 after this long
    #[arg(long, value_name = "DUR")]
    pub(crate) timeout: Option<Span>,
    /// End the run with 72 when no vCPU makes progress for this long; 0s never [default: 60s]
    #[arg(long, value_name = "DUR")]
    pub(crate) hang: Option<Span>,
    /// What an oops of the guest's kernel does [default: stop]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_oops: Option<OnOops>,
    /// What a reboot of the guest does [default: exit]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) on_reboot: Option<OnReboot>,
    /// Status of a guest that reports one: its own, or (value << 1) | 1 as with QEMU's isa-debug-exit
    /// [default: own]
    #[arg(long, value_enum, value_name = "RULE")]
    pub(crate) exit_rule: Option<ExitRule>,
    /// Key that starts an escape sequence [default: ctrl-a]
    #[arg(long, value_name = "KEY")]
    #[serde(deserialize_with = "text")]
    pub(crate) escape: Option<EscapeKey>,
    /// Name of the run, for `ps` and `ctl`
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Give statuses that `git bisect run` understands: 125 where this run says nothing
    #[arg(long)]
    pub(crate) bisect: bool,
    /// Read options from a TOML file with the same keys; flags win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// What `msr trace` adds.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) msr_trace: Option<TraceFiles>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) lab: LabArgs,
    /// Run a program of the guest without a shell and end with its status
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// `--protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolName {
    /// Linux for a bzImage, PVH for an ELF file that has only that, else Linux
    Auto,
    /// Linux's 64-bit boot protocol
    Linux,
    /// Xen's PVH protocol, 32-bit
    Pvh,
    /// Multiboot 1, 32-bit
    Multiboot,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Self {
        match name {
            ProtocolName::Auto => Self::Auto,
            ProtocolName::Linux => Self::Linux,
            ProtocolName::Pvh => Self::Pvh,
            ProtocolName::Multiboot => Self::Multiboot,
        }
    }
}

/// `--hugepages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HugePagesName {
    /// 2 MiB pages
    #[value(name = "2M")]
    Mib2,
    /// 1 GiB pages
    #[value(name = "1G")]
    Gib1,
}

impl From<HugePagesName> for HugePages {
    fn from(name: HugePagesName) -> Self {
        match name {
            HugePagesName::Mib2 => Self::Mib2,
            HugePagesName::Gib1 => Self::Gib1,
        }
    }
}

/// Text of an option, as on the command line.
fn text<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// A word of an option, as on the command line.
fn word<'de, T: ValueEnum, D: serde::Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    T::from_str(&text, true)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

impl BootArgs {
    /// These, and `below` where these say nothing. A list given here replaces the one below.
    #[must_use]
    pub(crate) fn over(self, below: Self) -> Self {
        let list = |mine: Vec<_>, theirs| if mine.is_empty() { theirs } else { mine };
        // Whoever says how the guest is used replaces what the file says of it.
        let says =
            self.exec.is_some() || self.shell || !self.command.is_empty() || self.initrd.is_some();
        let keep = |value: bool| !says && value;
        Self {
            kernel: self.kernel.or(below.kernel),
            initrd: self.initrd.or(below.initrd.filter(|_| !says)),
            append: self.append.or(below.append),
            cmdline: self.cmdline.or(below.cmdline),
            protocol: self.protocol.or(below.protocol),
            format: self.format.or(below.format),
            boot_module: if self.boot_module.is_empty() {
                below.boot_module
            } else {
                self.boot_module
            },
            cpus: self.cpus.or(below.cpus),
            cpu: self.cpu.or(below.cpu),
            mem: self.mem.or(below.mem),
            hugepages: self.hugepages.or(below.hugepages),
            exec: self.exec.or(below.exec.filter(|_| !says)),
            shell: self.shell || keep(below.shell),
            file: list(self.file, below.file),
            get: list(self.get, below.get),
            module: if self.module.is_empty() {
                below.module
            } else {
                self.module
            },
            disk: if self.disk.is_empty() {
                below.disk
            } else {
                self.disk
            },
            cdrom: if self.cdrom.is_empty() {
                below.cdrom
            } else {
                self.cdrom
            },
            device: if self.device.is_empty() {
                below.device
            } else {
                self.device
            },
            print_board: self.print_board || below.print_board,
            msr_policy: if self.msr_policy.is_empty() {
                below.msr_policy
            } else {
                self.msr_policy
            },
            events: self.events.or(below.events),
            json: self.json.or(below.json),
            timing: self.timing || below.timing,
            post_codes: self.post_codes || below.post_codes,
            timeout: self.timeout.or(below.timeout),
            hang: self.hang.or(below.hang),
            on_oops: self.on_oops.or(below.on_oops),
            on_reboot: self.on_reboot.or(below.on_reboot),
            exit_rule: self.exit_rule.or(below.exit_rule),
            escape: self.escape.or(below.escape),
            name: self.name.or(below.name),
            bisect: self.bisect || below.bisect,
            config: self.config,
            msr_trace: self.msr_trace.or(below.msr_trace),
            lab: self.lab.over(below.lab),
            command: if self.command.is_empty() && !says {
                below.command
            } else {
                self.command
            },
        }
    }
}
