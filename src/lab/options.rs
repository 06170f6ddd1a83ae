//! What a lab is to be like.

use std::path::PathBuf;
use std::time::Duration;

use super::devices::Devices;
use super::tunnel::Tunnel;

/// Memory of a lab nobody asked anything of, and what a lab needs besides its guest's.
pub(super) const GIB: u64 = 1 << 30;

/// How QEMU runs the lab's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// KVM where it nests, else TCG.
    #[default]
    Auto,
    /// Emulation. Works everywhere; its virtualisation is SVM.
    Tcg,
    /// The host's KVM, nested.
    Kvm,
}

/// What a lab is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kernel by name or path; none: see [`choose_kernel`](super::choose_kernel).
    pub kernel: Option<String>,
    /// Memory of the lab in bytes.
    pub mem: u64,
    /// CPUs of the lab.
    pub cpus: u32,
    /// TCG or KVM.
    pub accel: Accel,
    /// PCI devices and IOMMU.
    pub devices: Devices,
    /// Further devices, as QEMU's `-device` takes them.
    pub extra_devices: Vec<String>,
    /// Directories and files that can be written, and reach the host.
    pub writable: Vec<PathBuf>,
    /// A socket of the command that can be reached from outside.
    pub tunnel: Option<Tunnel>,
    /// How long the lab may take to start the command.
    pub start_limit: Duration,
    /// Shows the lab's own console on standard error while it runs.
    pub show_console: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            kernel: None,
            mem: 2 * GIB,
            cpus: u32::try_from(cpus).unwrap_or(1).min(16),
            accel: Accel::Auto,
            devices: Devices::None,
            extra_devices: Vec::new(),
            writable: Vec::new(),
            tunnel: None,
            start_limit: Duration::from_secs(120),
            show_console: false,
        }
    }
}

impl Options {
    /// A lab with room for a guest of `bytes`.
    #[must_use]
    pub fn for_guest(bytes: u64) -> Self {
        Self {
            mem: bytes.saturating_add(GIB),
            ..Self::default()
        }
    }
}
