//! QEMU's command line.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::devices::Devices;
use super::error::LabError;
use super::options::Accel;
use super::shares::Share;
use super::wire;
use crate::host::{self, KvmDevice, Root};

/// The first of the slots the lab works through: serial ports, the root, then the shares.
const FIRST_SLOT: usize = 0x10;
/// The last slot before the chipset's own (q35 has its LPC bridge at 1f).
const LAST_SLOT: usize = 0x1e;
/// How many shares there are slots for.
pub(super) const SHARES_MAX: usize = LAST_SLOT - FIRST_SLOT - 1;

/// The lab's kernel: quiet, a panic ends QEMU (with `-no-reboot`), KVM takes forced emulation,
/// mitigations do not slow down a CPU that cannot be attacked, and what a lab has no use for is not
/// waited for: cipher self-tests, a keyboard. The timer is not checked: on a busy machine emulated
/// ticks come late, and the kernel would take that for a broken IO-APIC and panic. For the same reason its
/// first measure of the TSC may be off by more than KVM tolerates, which then loses the guests' TSC
/// offset, and their timers never fire.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check \
                            cryptomgr.notests i8042.nokbd i8042.noaux random.trust_cpu=on \
                            kvm.force_emulation_prefix=1 kvm.tsc_tolerance_ppm=100000";

/// How the lab's instructions are run, and which KVM module fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Engine {
    accel: &'static str,
    cpu: &'static str,
    /// Processors, the first ones, that run nothing of the user's.
    spare_cpus: u32,
    pub(super) kvm_module: &'static str,
}

const TCG: Engine = Engine {
    accel: "tcg,thread=multi",
    // QEMU 7.2 does not intercept XSETBV: a guest would change the lab's XCR0 behind its KVM, and Linux
    // finds its XSAVE area of the wrong size. Without XSAVE there is nothing to get wrong.
    // The family is Zen's: on one that might have a GART (up to 0x15), Linux looks for AGP bridges on 256
    // buses, twice, which costs a nested guest 2 s each time.
    cpu: "max,family=23,model=1,xsave=off,avx=off,avx2=off",
    // In `cpu_clear_ignne` any processor that loads an x87 status word (FXRSTOR, at every KVM_RUN) rewrites
    // `hflags2` of the first one, unlocked (target/i386/tcg/sysemu/fpu_helper.c, QEMU 7.2). That word
    // also says whether nested paging is on: in the middle of a VMRUN or #VMEXIT there the first processor goes
    // on with the guest's tables in the host or the other way round. No guest may run on it.
    spare_cpus: 1,
    kvm_module: "kvm_amd",
};

impl Engine {
    /// KVM where it nests, unless told otherwise.
    pub(super) fn choose(accel: Accel) -> Result<Self, LabError> {
        match (accel, Self::nesting()) {
            (Accel::Tcg, _) | (Accel::Auto, Err(_)) => Ok(TCG),
            (_, Ok(engine)) => Ok(engine),
            (Accel::Kvm, Err(why)) => Err(LabError::NoNesting(why)),
        }
    }

    fn nesting() -> Result<Self, &'static str> {
        let root = Root::system();
        if KvmDevice::look(&root) != KvmDevice::Open {
            return Err("/dev/kvm cannot be opened");
        }
        let module = match host::Engine::look(&root) {
            host::Engine::Vmx => "kvm_intel",
            host::Engine::Svm => "kvm_amd",
            host::Engine::Software(_) => return Err("it has neither VMX nor SVM"),
        };
        let nested = root.text(&format!("/sys/module/{module}/parameters/nested"));
        if !nested.is_some_and(|on| matches!(on.trim(), "Y" | "1")) {
            return Err("its module does not nest (nested=0)");
        }
        Ok(Self {
            accel: "kvm",
            cpu: "host",
            spare_cpus: 0,
            kvm_module: module,
        })
    }
}

/// Descriptors QEMU inherits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wires<'a> {
    pub(super) console: BorrowedFd<'a>,
    pub(super) control: BorrowedFd<'a>,
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    pub(super) tunnel: BorrowedFd<'a>,
    pub(super) initramfs: BorrowedFd<'a>,
}

/// Everything QEMU is to be.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) engine: Engine,
    pub(super) mem: u64,
    pub(super) cpus: u32,
    pub(super) image: &'a Path,
    pub(super) devices: Devices,
    pub(super) extra: &'a [String],
    pub(super) shares: &'a [Share],
    pub(super) wires: Wires<'a>,
}

impl Plan<'_> {
    /// QEMU's arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let mut list = Arguments::default();
        list.all(&["-nodefaults", "-no-user-config", "-no-reboot"]);
        list.all(&["-display", "none", "-vga", "none", "-name", "trapline-lab"]);
        list.all(&["-machine", "q35,kernel-irqchip=split,usb=off"]);
        list.all(&["-accel", self.engine.accel, "-cpu", self.engine.cpu]);
        let spare = self.engine.spare_cpus;
        list.pair("-smp", self.cpus.saturating_add(spare).to_string());
        // QEMU rounds to its page; KiB are exact for everything a user can ask.
        list.pair("-m", format!("{}K", self.mem.div_ceil(1 << 10)));
        list.pair("-kernel", self.image);
        let initramfs = self.wires.initramfs.as_raw_fd();
        list.pair("-initrd", format!("/proc/self/fd/{initramfs}"));
        list.pair(
            "-append",
            format!(
                "{COMMAND_LINE} {}={spare}{}",
                wire::SPARE_CPUS,
                self.devices.command_line()
            ),
        );
        self.console_and_ports(&mut list);
        list.all(&self.devices.arguments());
        for device in self.extra {
            list.pair("-device", device);
        }
        self.file_systems(&mut list);
        list.0
    }

    fn console_and_ports(&self, list: &mut Arguments) {
        list.socket("console", self.wires.console);
        list.all(&["-serial", "chardev:console"]);
        list.pair(
            "-device",
            format!("virtio-serial-pci,id=ports,addr={FIRST_SLOT:x},romfile="),
        );
        for (name, fd) in [
            (wire::CONTROL, self.wires.control),
            (wire::STDIN, self.wires.stdin),
            (wire::STDOUT, self.wires.stdout),
            (wire::STDERR, self.wires.stderr),
            (wire::TUNNEL, self.wires.tunnel),
        ] {
            list.socket(name, fd);
            list.pair(
                "-device",
                format!("virtserialport,bus=ports.0,chardev={name},name={name}"),
            );
        }
    }

    fn file_systems(&self, list: &mut Arguments) {
        list.file_system(wire::ROOT_TAG, FIRST_SLOT + 1, Path::new("/"), true);
        for (n, share) in self.shares.iter().enumerate() {
            list.file_system(&Share::tag(n), FIRST_SLOT + 2 + n, &share.dir, false);
        }
    }
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn all(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    fn pair(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.0.extend([option.into(), value.as_ref().into()]);
    }

    fn socket(&mut self, id: &str, fd: BorrowedFd<'_>) {
        self.pair("-chardev", format!("socket,id={id},fd={}", fd.as_raw_fd()));
    }

    fn file_system(&mut self, tag: &str, slot: usize, dir: &Path, read_only: bool) {
        let read_only = if read_only { ",readonly=on" } else { "" };
        // Whatever file systems are mounted below `dir`, inode numbers stay unique.
        let mut fsdev = OsString::from(format!(
            "local,id={tag},security_model=none,multidevs=remap{read_only},path="
        ));
        fsdev.push(escaped(dir));
        self.pair("-fsdev", fsdev);
        self.pair(
            "-device",
            format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={slot:x}"),
        );
    }
}

/// A path in one of QEMU's option lists, where a comma is written twice.
fn escaped(path: &Path) -> OsString {
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn arguments(shares: &[Share], devices: Devices) -> Vec<String> {
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = null.as_fd();
        let plan = Plan {
            engine: TCG,
            mem: 2 << 30,
            cpus: 2,
            image: Path::new("/k"),
            devices,
            extra: &["edu,addr=9".into()],
            shares,
            wires: Wires {
                console: fd,
                control: fd,
                stdin: fd,
                stdout: fd,
                stderr: fd,
                tunnel: fd,
                initramfs: fd,
            },
        };
        let words = plan.arguments().into_iter();
        words.map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_root_is_read_only_and_a_share_is_not() {
        let share = Share {
            dir: "/some,dir".into(),
            file: None,
        };
        let words = arguments(&[share], Devices::None);
        let exports: Vec<_> = words.iter().filter(|w| w.starts_with("local,")).collect();
        assert!(exports[0].contains("readonly=on") && exports[0].ends_with("path=/"));
        assert!(!exports[1].contains("readonly") && exports[1].ends_with("path=/some,,dir"));
    }

    #[test]
    fn a_plain_lab_has_no_iommu_and_no_network() {
        let words = arguments(&[], Devices::None).join(" ");
        assert!(
            !words.contains("iommu") && !words.contains("netdev"),
            "{words}"
        );
        assert!(words.contains("-device edu,addr=9"));
        let words = arguments(&[], Devices::Table).join(" ");
        assert!(
            words.contains("intel_iommu=on") && words.contains("intremap=on"),
            "{words}"
        );
    }

    #[test]
    fn the_last_share_has_a_slot_of_its_own() {
        assert_eq!(FIRST_SLOT + 2 + (SHARES_MAX - 1), LAST_SLOT);
    }
}
