//! What a test needs, and whether it is here.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use trapline::host::{KvmDevice, Qemu, Root, linux_guests};
use trapline::kernels::{Cache, default_kernel};
use trapline::lab;

/// What a test needs of the machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// /dev/kvm: payloads run.
    Kvm,
    /// /dev/kvm with VMX or SVM: Linux boots.
    KvmLinux,
    /// A mount namespace of one's own, and the right to mount in it.
    Mounts,
    /// A lab can be started.
    Lab,
    /// VFIO, and devices that may be taken: those of a lab.
    Vfio,
    /// An IOMMU in front of those devices.
    Iommu,
    /// /dev/iommu.
    Iommufd,
    /// A way to package mirrors.
    Net,
    /// Some kernel to boot.
    Kernel,
    /// `trapline kernel build tiny` was done.
    KernelTiny,
    /// `trapline kernel build debug` was done.
    KernelDebug,
    /// `trapline kernel build novmap` was done.
    KernelNovmap,
    /// `trapline kernel build lab` was done.
    KernelLab,
    /// `trapline kernel get debian --headers` was done: modules build for it.
    KernelHeaders,
    /// kvm-unit-tests, built, in `$TRAPLINE_KUT`.
    Kut,
}

const NAMES: [(Need, &str); 15] = [
    (Need::Kvm, "kvm"),
    (Need::KvmLinux, "kvm-linux"),
    (Need::Mounts, "mounts"),
    (Need::Lab, "lab"),
    (Need::Vfio, "vfio"),
    (Need::Iommu, "iommu"),
    (Need::Iommufd, "iommufd"),
    (Need::Net, "net"),
    (Need::Kernel, "kernel"),
    (Need::KernelTiny, "kernel-tiny"),
    (Need::KernelDebug, "kernel-debug"),
    (Need::KernelNovmap, "kernel-novmap"),
    (Need::KernelLab, "kernel-lab"),
    (Need::KernelHeaders, "kernel-headers"),
    (Need::Kut, "kut"),
];

impl Need {
    /// As `TRAPLINE_REQUIRE` writes it.
    pub(crate) fn name(self) -> &'static str {
        let row = NAMES.iter().find(|(need, _)| *need == self);
        row.map_or("", |(_, name)| name)
    }

    /// Whether `TRAPLINE_REQUIRE` lists it: not having it is then a failure.
    pub(crate) fn is_required(self) -> bool {
        self.is_in(&env::var("TRAPLINE_REQUIRE").unwrap_or_default())
    }

    /// Whether a list has it: names with commas between them, or `all`.
    pub(crate) fn is_in(self, list: &str) -> bool {
        let mut words = list.split(',').map(str::trim);
        words.any(|word| word == "all" || word == self.name())
    }

    /// Whether this machine has it; if not, why.
    pub(crate) fn here(self) -> Result<(), String> {
        let root = Root::system();
        let lent = || match lab::inside() {
            true => Ok(()),
            false => Err("the devices of this machine are not for tests to take".to_owned()),
        };
        let exists = |path: &str| match Path::new(path).exists() {
            true => Ok(()),
            false => Err(format!("there is no {path}")),
        };
        match self {
            Self::Kvm => match KvmDevice::look(&root) {
                KvmDevice::Open => Ok(()),
                other => Err(format!("/dev/kvm does not open ({other:?})")),
            },
            Self::KvmLinux => linux_guests(&root),
            Self::Mounts => may_mount(),
            Self::Lab => startable(),
            Self::Vfio => lent().and_then(|()| exists("/dev/vfio/vfio")),
            Self::Iommu => lent().and_then(|()| exists("/sys/kernel/iommu_groups/0")),
            Self::Iommufd => lent().and_then(|()| exists("/dev/iommu")),
            Self::Net => match default_route() {
                true => Ok(()),
                false => Err("this machine has no default route".into()),
            },
            Self::Kernel => default_kernel().map(drop).map_err(|e| e.to_string()),
            Self::KernelTiny | Self::KernelDebug | Self::KernelNovmap | Self::KernelLab => {
                built(self.name())
            }
            Self::KernelHeaders => with_headers(),
            Self::Kut => match env::var_os("TRAPLINE_KUT") {
                Some(dir) if Path::new(&dir).is_dir() => Ok(()),
                _ => Err("$TRAPLINE_KUT names no directory with kvm-unit-tests".into()),
            },
        }
    }

    /// Whether a lab started from here has it.
    pub(crate) fn in_lab(self) -> Result<(), String> {
        match self {
            Self::Kvm | Self::KvmLinux | Self::Mounts | Self::Vfio | Self::Iommu => startable(),
            // Only the kernel built for the lab is known to have it.
            Self::Iommufd => startable().and_then(|()| built("kernel-lab")),
            Self::Lab => Err("labs do not nest".into()),
            Self::Net => Err("the lab's network is closed".into()),
            _ => self.here(),
        }
    }
}

fn may_mount() -> Result<(), String> {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "mount", "-t", "tmpfs", "none", "/mnt"]);
    match unshare.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err("this user may not mount".into()),
        Err(error) => Err(format!("unshare does not start ({error})")),
    }
}

fn startable() -> Result<(), String> {
    if lab::inside() {
        return Err("labs do not nest".into());
    }
    Qemu::find().map_err(|e| e.to_string())?;
    lab::choose_kernel(None).map_err(|e| e.to_string())?;
    Ok(())
}

fn built(name: &str) -> Result<(), String> {
    let flavour = name.strip_prefix("kernel-").unwrap_or(name);
    let cache = Cache::from_env().map_err(|e| e.to_string())?;
    match cache.find(flavour).map_err(|e| e.to_string())? {
        Some(_) => Ok(()),
        None => Err(format!(
            "no such kernel; make it: trapline kernel build {flavour}"
        )),
    }
}

fn with_headers() -> Result<(), String> {
    let cache = Cache::from_env().map_err(|e| e.to_string())?;
    match cache.find("debian").map_err(|e| e.to_string())? {
        Some(kernel) if kernel.headers.is_some() => Ok(()),
        _ => Err(
            "no debian kernel with headers; get it: trapline kernel get debian --headers".into(),
        ),
    }
}

/// A destination of 0.0.0.0 in /proc/net/route.
fn default_route() -> bool {
    let table = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut rows = table.lines().skip(1);
    rows.any(|row| row.split_whitespace().nth(1) == Some("00000000"))
}
