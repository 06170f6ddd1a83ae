//! /dev/kvm: whether it can be opened, what runs guests behind it, and what it can do.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use crate::vm::Capability;

use super::{Fact, Mark, Root, Topic};

const NODE: &str = "/dev/kvm";

/// How /dev/kvm answers an open for reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmDevice {
    /// It opens.
    Open,
    /// No module has registered it.
    NoModule,
    /// The kernel has it; the node is missing, as in a container that was not given it.
    NoNode,
    /// It may not be opened; with the group that may, when there is one.
    Denied(Option<String>),
    /// It fails in another way.
    Broken(String),
}

impl KvmDevice {
    /// Looks.
    #[must_use]
    pub fn look(root: &Root) -> Self {
        match root.try_open(NODE) {
            Ok(()) => Self::Open,
            Err(error) => match error.kind() {
                ErrorKind::NotFound if root.exists("/sys/class/misc/kvm") => Self::NoNode,
                ErrorKind::NotFound => Self::NoModule,
                ErrorKind::PermissionDenied => Self::Denied(group_that_may(root)),
                _ => Self::Broken(error.to_string()),
            },
        }
    }
}

/// The name of the node's group when the mode lets it read and write.
fn group_that_may(root: &Root) -> Option<String> {
    let node = fs::metadata(root.path(NODE)).ok()?;
    let may = node.mode() & 0o060 == 0o060;
    let gid = node.gid().to_string();
    let groups = root.text("/etc/group")?;
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid).then(|| name.to_owned())
    });
    name.filter(|_| may)
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
    /// Neither: guest ring 0 is emulated, by this module when its name is known. Payloads run,
    /// Linux does not get through its boot.
    Software(Option<String>),
}

impl Engine {
    /// From the flags of /proc/cpuinfo, which KVM itself goes by.
    #[must_use]
    pub fn look(root: &Root) -> Self {
        let cpuinfo = root.text("/proc/cpuinfo").unwrap_or_default();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
        let has = |flag| flags.is_some_and(|flags| flags.split_whitespace().any(|f| f == flag));
        if has("vmx") {
            Self::Vmx
        } else if has("svm") {
            Self::Svm
        } else {
            let modules = root.names("/sys/module");
            Self::Software(modules.into_iter().find(|name| name.starts_with("kvm_")))
        }
    }

    fn module(&self) -> Option<&str> {
        match self {
            Self::Vmx => Some("kvm_intel"),
            Self::Svm => Some("kvm_amd"),
            Self::Software(module) => module.as_deref(),
        }
    }
}

/// Whether Linux guests boot on this machine itself; if not, why, as the end of a sentence.
///
/// # Errors
/// The reason.
pub fn linux_guests(root: &Root) -> Result<(), String> {
    match KvmDevice::look(root) {
        KvmDevice::Open => match Engine::look(root) {
            Engine::Software(_) => Err("this machine's KVM has neither VMX nor SVM".into()),
            _ => Ok(()),
        },
        KvmDevice::NoModule | KvmDevice::NoNode => Err("there is no /dev/kvm".into()),
        KvmDevice::Denied(_) => Err("there is no permission on /dev/kvm".into()),
        KvmDevice::Broken(why) => Err(format!("/dev/kvm does not open ({why})")),
    }
}

/// The device, what runs guests, and the parameters that matter here.
#[must_use]
pub fn kvm(root: &Root) -> Vec<Fact> {
    let engine = Engine::look(root);
    let mut facts = vec![device(root, &engine), processor(&engine)];
    facts.extend(nested(root, &engine));
    facts.extend(ignore_msrs(root));
    facts
}

fn device(root: &Root, engine: &Engine) -> Fact {
    let fact = |mark, what: &str| Fact::new(Topic::Kvm, "device", mark, what);
    match KvmDevice::look(root) {
        KvmDevice::Open => fact(Mark::Ok, "/dev/kvm opens"),
        KvmDevice::NoNode => fact(Mark::No, "/dev/kvm is missing, though the kernel has KVM")
            .mended_by("sudo mknod -m 666 /dev/kvm c 10 232"),
        KvmDevice::NoModule => match engine {
            Engine::Software(_) => fact(
                Mark::No,
                "no /dev/kvm, and the processor offers no VMX or SVM (firmware, or not nested)",
            ),
            _ => fact(Mark::No, "no /dev/kvm: its module is not loaded").mended_by(format!(
                "sudo modprobe {}",
                engine.module().unwrap_or("kvm")
            )),
        },
        KvmDevice::Denied(Some(group)) => fact(Mark::No, "no permission on /dev/kvm").mended_by(
            format!("sudo usermod -aG {group} \"$USER\"  # then log in again"),
        ),
        KvmDevice::Denied(None) => fact(Mark::No, "no permission on /dev/kvm, nor for any group")
            .mended_by("sudo chmod 666 /dev/kvm"),
        KvmDevice::Broken(why) => fact(Mark::No, &format!("/dev/kvm does not open: {why}")),
    }
}

fn processor(engine: &Engine) -> Fact {
    let (mark, what) = match engine {
        Engine::Vmx => (Mark::Ok, "VMX".into()),
        Engine::Svm => (Mark::Ok, "SVM".into()),
        Engine::Software(module) => {
            let by = module
                .as_ref()
                .map_or(String::new(), |name| format!(" ({name})"));
            let what = format!("no VMX or SVM: software KVM{by} runs payloads, not Linux");
            (Mark::Warn, what)
        }
    };
    Fact::new(Topic::Kvm, "processor", mark, what)
}

/// Guests with VMX or SVM of their own: what a lab under KVM needs to boot anything.
fn nested(root: &Root, engine: &Engine) -> Option<Fact> {
    let module = match engine {
        Engine::Software(_) => return None,
        _ => engine.module()?,
    };
    let value = root.text(&format!("/sys/module/{module}/parameters/nested"))?;
    Some(if is_on(&value) {
        Fact::new(Topic::Kvm, "nested", Mark::Ok, "on")
    } else {
        let off = Fact::new(
            Topic::Kvm,
            "nested",
            Mark::Warn,
            "off: the lab cannot use KVM",
        );
        off.mended_by(format!(
            "sudo modprobe -r {module} && sudo modprobe {module} nested=1"
        ))
    })
}

fn ignore_msrs(root: &Root) -> Option<Fact> {
    let value = root.text("/sys/module/kvm/parameters/ignore_msrs")?;
    let fact = |mark, what| Fact::new(Topic::Kvm, "ignore_msrs", mark, what);
    Some(if is_on(&value) {
        fact(
            Mark::Warn,
            "on: KVM answers unknown MSRs itself and Trapline never sees them",
        )
        .mended_by("echo 0 | sudo tee /sys/module/kvm/parameters/ignore_msrs")
    } else {
        fact(Mark::Ok, "off")
    })
}

fn is_on(parameter: &str) -> bool {
    !matches!(parameter, "N" | "0")
}

/// One fact for each capability in `all`, whose text is what it gives; `have` asks KVM.
pub fn capabilities(all: &[Capability], have: impl Fn(&Capability) -> bool) -> Vec<Fact> {
    let fact = |capability: &Capability| {
        let mark = match (have(capability), capability.required) {
            (true, _) => Mark::Ok,
            (false, true) => Mark::No,
            (false, false) => Mark::Warn,
        };
        Fact::new(Topic::Capability, capability.name, mark, capability.lost)
    };
    all.iter().map(fact).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn find<'f>(facts: &'f [Fact], name: &str) -> &'f Fact {
        facts.iter().find(|fact| fact.name == name).unwrap()
    }

    #[test]
    fn a_missing_module_is_mended_by_the_vendors_own() {
        for (flags, mend) in [
            ("vmx", Some("sudo modprobe kvm_intel")),
            ("svm", Some("sudo modprobe kvm_amd")),
            ("", None),
        ] {
            let facts = kvm(&Fake::with_flags(flags).root());
            let device = find(&facts, "device");
            assert_eq!((device.mark, device.mend.as_deref()), (Mark::No, mend));
        }
    }

    #[test]
    fn a_missing_node_is_told_from_a_missing_module() {
        let fake = Fake::with_flags("svm").file("/sys/class/misc/kvm/dev", "10:232\n");
        assert_eq!(KvmDevice::look(&fake.root()), KvmDevice::NoNode);
    }

    #[test]
    fn no_permission_is_mended_by_the_group_that_has_it() {
        use std::os::unix::fs::PermissionsExt;
        let fake = Fake::with_flags("vmx").file("/dev/kvm", "");
        let node = fake.root().path(NODE);
        let gid = fs::metadata(&node).unwrap().gid();
        let fake = fake.file("/etc/group", &format!("wheel:x:4711:\nkvm:x:{gid}:\n"));
        let root = fake.root().locked();
        let mode = |mode| fs::set_permissions(&node, fs::Permissions::from_mode(mode)).unwrap();

        mode(0o660);
        assert_eq!(
            KvmDevice::look(&root),
            KvmDevice::Denied(Some("kvm".into()))
        );
        let facts = kvm(&root);
        let mend = find(&facts, "device").mend.as_deref().unwrap();
        assert!(mend.starts_with("sudo usermod -aG kvm \"$USER\""), "{mend}");
        mode(0o600);
        assert_eq!(KvmDevice::look(&root), KvmDevice::Denied(None));
        assert_eq!(
            linux_guests(&root).unwrap_err(),
            "there is no permission on /dev/kvm"
        );
    }

    #[test]
    fn software_kvm_is_named_and_boots_no_linux() {
        let fake = Fake::with_flags("hypervisor")
            .file("/dev/kvm", "")
            .file("/sys/module/kvm_pvm/parameters/x", "");
        let facts = kvm(&fake.root());
        let processor = find(&facts, "processor");
        assert_eq!(processor.mark, Mark::Warn);
        assert!(processor.what.contains("kvm_pvm"), "{}", processor.what);
        assert_eq!(find(&facts, "device").mark, Mark::Ok);
        assert!(linux_guests(&fake.root()).is_err());
    }

    #[test]
    fn flags_are_whole_words() {
        assert_eq!(
            Engine::look(&Fake::with_flags("vmx_ept nsvm").root()),
            Engine::Software(None)
        );
    }

    #[test]
    fn a_processor_with_svm_boots_linux() {
        let fake = Fake::with_flags("svm").file("/dev/kvm", "");
        assert_eq!(linux_guests(&fake.root()), Ok(()));
    }

    #[test]
    fn parameters_that_matter_are_read_as_the_kernel_writes_them() {
        let marks = |ignore: &str, nested: &str| {
            let fake = Fake::with_flags("vmx")
                .file("/sys/module/kvm/parameters/ignore_msrs", ignore)
                .file("/sys/module/kvm_intel/parameters/nested", nested);
            let facts = kvm(&fake.root());
            (
                find(&facts, "ignore_msrs").mark,
                find(&facts, "nested").mark,
            )
        };
        assert_eq!(marks("N\n", "Y\n"), (Mark::Ok, Mark::Ok));
        assert_eq!(marks("Y\n", "N\n"), (Mark::Warn, Mark::Warn));
        assert_eq!(marks("1\n", "0\n"), (Mark::Warn, Mark::Warn));
    }

    #[test]
    fn a_capability_that_is_required_weighs_more() {
        let facts = capabilities(crate::vm::CAPABILITIES, |_| false);
        let marks: Vec<Mark> = facts.iter().map(|fact| fact.mark).collect();
        assert!(marks.contains(&Mark::No) && marks.contains(&Mark::Warn));
        let facts = capabilities(crate::vm::CAPABILITIES, |_| true);
        assert!(facts.iter().all(|fact| fact.mark == Mark::Ok));
    }
}
