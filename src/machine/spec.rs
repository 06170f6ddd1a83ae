//! What a machine is made of, before it is made.

use std::time::Duration;

use crate::boot::{Image, Initrd, Module, Protocol};
use crate::chipset::DebugExitMode;
use crate::mem::HugePages;
use crate::msr::policy::Policy;
use crate::vm::cpuid::Profile;

use super::disk::DriveSpec;
use super::escape::EscapeKey;
use super::outcome::{ExitRule, OnOops, OnReboot};

/// A machine to be built.
#[derive(Debug)]
pub struct Spec {
    /// What `ps` calls the guest: the kernel or the payload.
    pub title: String,
    /// vCPUs.
    pub cpus: usize,
    /// Guest RAM in bytes.
    pub memory: u64,
    /// Pages that back it.
    pub huge_pages: HugePages,
    /// What it boots.
    pub kernel: Image,
    /// How.
    pub protocol: Protocol,
    /// The whole command line.
    pub cmdline: String,
    /// The initramfs.
    pub initrd: Option<Initrd>,
    /// Modules of a multiboot kernel.
    pub modules: Vec<Module>,
    /// What is on the board.
    pub equipment: Equipment,
}

/// What is on a board besides what every board has.
#[derive(Debug, Clone, Default)]
pub struct Equipment {
    /// What a write to the debug exit does.
    pub debug_exit: DebugExitMode,
    /// Whether POST codes are kept with their times.
    pub post_codes: bool,
    /// Further devices; those that are PCI functions from 00:02.0 on in this order.
    pub devices: Vec<Extra>,
    /// Disks and discs on the IDE channels.
    pub drives: Vec<DriveSpec>,
    /// The CPU that the guest sees.
    pub cpu: Profile,
    /// What becomes of MSR accesses.
    pub msr_policy: Policy,
}

/// A device that not every board has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// QEMU's `edu`.
    Edu {
        /// Address bits of its DMA engine.
        dma_bits: u8,
    },
    /// QEMU's `pci-testdev`.
    PciTestDevice,
    /// QEMU's `pc-testdev`, which is no PCI function: it has its place, and there is one.
    TestDevice,
    /// The virtio balloon; one at most.
    Balloon,
}

/// How a run is watched and ended.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Ends the run with 72.
    pub timeout: Option<Duration>,
    /// How long no progress is a hang; none switches the watch off.
    pub hang: Option<Duration>,
    /// What an oops does.
    pub on_oops: OnOops,
    /// How a status the guest reports becomes the run's.
    pub exit_rule: ExitRule,
    /// What a reset does.
    pub on_reboot: OnReboot,
    /// Whether the console is a person: the terminal goes raw and the escape key works.
    pub interactive: bool,
    /// The key that starts an escape sequence.
    pub escape: EscapeKey,
    /// Where standard input goes.
    pub input: Input,
}

/// Where standard input goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// It is not read.
    Nowhere,
    /// To the serial port, as what is typed at the guest's console.
    Console,
    /// Through the postbox to the command that the built-in init runs: byte by byte, with its end.
    Command,
}
