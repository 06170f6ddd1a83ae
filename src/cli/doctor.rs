//! `trapline doctor`

use std::ffi::OsString;
use std::fmt::Write;

use kvm_ioctls::Kvm;

use crate::host::{self, Fact, Mark, Qemu, QemuError, Root, Topic};
use crate::kernels::{self, Kernel, KernelError, Origin};
use crate::lab::{self, LabError};
use crate::vm::{self, Capability};

use super::{Failure, Status, out};

/// Say what this machine can do, and how to mend what it cannot
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Print one JSON object instead of the screen
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let search_path = std::env::var_os("PATH").unwrap_or_default();
        let kvm = Kvm::new().ok();
        let report = examine(&Machine {
            root: Root::system(),
            have: &|asked| kvm.as_ref().map(|kvm| vm::capability(kvm, asked) > 0),
            qemu: Qemu::find(),
            kernel: kernels::default_kernel(),
            lab_kernel: lab::choose_kernel(None),
            busybox: std::env::var_os("TRAPLINE_BUSYBOX").filter(|path| !path.is_empty()),
            search_path,
        });
        if self.json {
            out::json("doctor", &report.facts)?;
        } else {
            out::print(screen(&report, out::colours()))?;
        }
        Ok(match report.guests {
            Guests::Nowhere => Status::Host,
            Guests::Here | Guests::Lab(_) => Status::Ok,
        })
    }
}

/// What the facts are computed from; made up in tests.
struct Machine<'m> {
    root: Root,
    /// Whether KVM has a capability; none when KVM cannot be asked.
    have: &'m dyn Fn(&Capability) -> Option<bool>,
    qemu: Result<Qemu, QemuError>,
    /// What `trapline boot` takes when it is given none.
    kernel: Result<(Kernel, Origin), KernelError>,
    lab_kernel: Result<Kernel, LabError>,
    busybox: Option<OsString>,
    search_path: OsString,
}

/// Where Linux guests boot.
#[derive(Debug, PartialEq, Eq)]
enum Guests {
    Here,
    /// In the lab, for this reason.
    Lab(String),
    Nowhere,
}

struct Report {
    facts: Vec<Fact>,
    guests: Guests,
    payloads: bool,
}

fn examine(machine: &Machine<'_>) -> Report {
    let root = &machine.root;
    let mut facts = host::kvm(root);
    let asked: Vec<_> = vm::CAPABILITIES.iter().map(machine.have).collect();
    if asked.iter().all(Option::is_some) {
        facts.extend(host::capabilities(vm::CAPABILITIES, |capability| {
            (machine.have)(capability) == Some(true)
        }));
    }
    let required = |fact: &Fact| fact.topic == Topic::Capability && fact.mark == Mark::No;
    let usable = !facts.iter().any(required);
    facts.extend(host::iommu(root));
    facts.push(host::qemu(&machine.qemu));
    facts.push(lab_kernel(&machine.lab_kernel));
    facts.push(kernel(&machine.kernel));
    facts.push(host::busybox(
        root,
        machine.busybox.clone(),
        &machine.search_path,
    ));
    facts.extend(host::system(root));
    facts.sort_by_key(|fact| fact.topic);

    let here = host::linux_guests(root);
    let lab = machine.qemu.is_ok() && machine.lab_kernel.is_ok();
    Report {
        payloads: host::KvmDevice::look(root) == host::KvmDevice::Open && usable,
        guests: match here {
            Ok(()) if usable => Guests::Here,
            here if lab => Guests::Lab(here.err().unwrap_or("this KVM is too old".into())),
            _ => Guests::Nowhere,
        },
        facts,
    }
}

fn lab_kernel(found: &Result<Kernel, LabError>) -> Fact {
    let fact = |mark, what| Fact::new(Topic::Lab, "lab kernel", mark, what);
    match found {
        Ok(kernel) => fact(Mark::Ok, kernel.name.clone()),
        Err(LabError::NoKernel { .. }) => {
            fact(Mark::No, "none with KVM and 9p".into()).mended_by("trapline kernel get debian")
        }
        Err(error) => fact(Mark::No, super::chain(error).replace('\n', " ")),
    }
}

fn kernel(found: &Result<(Kernel, Origin), KernelError>) -> Fact {
    let fact = |mark, what| Fact::new(Topic::Guests, "kernel", mark, what);
    match found {
        Ok((kernel, origin)) => fact(Mark::Ok, format!("{}, {origin}", kernel.name)),
        Err(KernelError::None { .. }) => fact(
            Mark::Warn,
            "boot needs one named: none got, built or readable in /boot".into(),
        )
        .mended_by("trapline kernel get debian-cloud"),
        Err(error) => fact(Mark::Warn, super::chain(error).replace('\n', " ")),
    }
}

/// One screen: a row for each fact, what mends it below it, and the verdict.
fn screen(report: &Report, colours: bool) -> String {
    let mut text = String::new();
    let mut topic = None;
    for fact in &rows(&report.facts) {
        let head = if topic == Some(fact.topic) {
            String::new()
        } else {
            fact.topic.to_string()
        };
        topic = Some(fact.topic);
        let mark = paint(fact.mark, colours);
        let _ = writeln!(text, "{head:<7} {mark} {:<13} {}", fact.name, fact.what);
        if let Some(mend) = &fact.mend {
            let _ = writeln!(text, "{:27}$ {mend}", "");
        }
    }
    text.push('\n');
    text.push_str(&match &report.guests {
        Guests::Here => "Linux guests boot on this machine.".into(),
        Guests::Lab(why) => format!("Linux guests boot in the lab: {why}."),
        Guests::Nowhere => {
            "Linux guests boot neither here nor in the lab: mend kvm or lab above.".into()
        }
    });
    text.push_str(if report.payloads {
        "\nBare-metal payloads run on this machine.\n"
    } else {
        "\n"
    });
    text
}

/// The facts, with all capabilities in one row that names those that are missing.
fn rows(facts: &[Fact]) -> Vec<Fact> {
    let (capabilities, mut rows): (Vec<Fact>, Vec<Fact>) = facts
        .iter()
        .cloned()
        .partition(|fact| fact.topic == Topic::Capability);
    if let Some(worst) = capabilities.iter().map(|fact| fact.mark).max() {
        let lacking = capabilities.iter().filter(|fact| fact.mark != Mark::Ok);
        let lost: Vec<_> = lacking
            .map(|fact| format!("{} ({})", fact.what, fact.name))
            .collect();
        let have = capabilities.len() - lost.len();
        let mut what = format!("{have} of {}", capabilities.len());
        if !lost.is_empty() {
            let _ = write!(what, "; lost: {}", lost.join(", "));
        }
        let at = rows.partition_point(|fact| fact.topic < Topic::Capability);
        rows.insert(at, Fact::new(Topic::Kvm, "capabilities", worst, what));
    }
    rows
}

/// The mark in a column of its own, as wide with colours as without.
fn paint(mark: Mark, colours: bool) -> String {
    let code = match mark {
        Mark::Ok => 32,
        Mark::Warn => 33,
        Mark::No => 31,
    };
    if colours {
        format!("\x1b[{code}m{mark:<4}\x1b[0m")
    } else {
        format!("{mark:<4}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::fake::Fake;

    const ALL: fn(&Capability) -> Option<bool> = |_| Some(true);

    fn no_kernel() -> Result<(Kernel, Origin), KernelError> {
        Err(KernelError::None {
            cache: PathBuf::from("/cache"),
        })
    }

    fn a_kernel(fake: Fake) -> (Fake, Kernel) {
        let fake = fake.file("/boot/vmlinuz-6.1.0-1-amd64", "x");
        let image = fake.root().path("/boot/vmlinuz-6.1.0-1-amd64");
        (fake, Kernel::from_path(&image).unwrap())
    }

    fn machine<'m>(
        root: Root,
        have: &'m dyn Fn(&Capability) -> Option<bool>,
        kernel: Option<Kernel>,
    ) -> Machine<'m> {
        let search_path = OsString::from("/usr/bin");
        Machine {
            qemu: Qemu::find_in(&root, &search_path),
            root,
            have,
            kernel: kernel
                .clone()
                .map_or_else(no_kernel, |k| Ok((k, Origin::Host))),
            lab_kernel: kernel.ok_or_else(|| LabError::NoKernel {
                cache: PathBuf::from("/cache"),
            }),
            busybox: None,
            search_path,
        }
    }

    fn fact<'r>(report: &'r Report, name: &str) -> &'r Fact {
        report.facts.iter().find(|fact| fact.name == name).unwrap()
    }

    /// One screen: at most 30 lines, and rows of at most 100 columns.
    fn fits(report: &Report) {
        let text = screen(report, false);
        assert!(text.lines().count() <= 30, "{text}");
        let rows = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('$'));
        for row in rows.filter(|row| !row.contains("capabilities")) {
            assert!(
                row.chars().count() <= 100,
                "{} columns: {row}",
                row.chars().count()
            );
        }
    }

    #[test]
    fn a_bare_machine_boots_linux_itself_without_qemu() {
        let fake = Fake::with_flags("vmx").file("/dev/kvm", "");
        let report = examine(&machine(fake.root(), &ALL, None));
        assert_eq!((&report.guests, report.payloads), (&Guests::Here, true));
        let qemu = fact(&report, "qemu");
        assert_eq!(qemu.mark, Mark::No);
        assert_eq!(
            qemu.mend.as_deref(),
            Some("sudo apt-get install qemu-system-x86")
        );
        fits(&report);
    }

    #[test]
    fn software_kvm_with_a_lab_boots_linux_there() {
        let fake = Fake::with_flags("").file("/dev/kvm", "").program(
            "/usr/bin/qemu-system-x86_64",
            "QEMU emulator version 7.2.22 (Debian)",
        );
        let (fake, kernel) = a_kernel(fake);
        let report = examine(&machine(fake.root(), &ALL, Some(kernel)));
        assert!(matches!(&report.guests, Guests::Lab(why) if why.contains("neither VMX nor SVM")));
        assert!(report.payloads);
        fits(&report);
    }

    #[test]
    fn a_qemu_that_is_too_old_is_no_lab() {
        let fake = Fake::with_flags("")
            .program("/usr/bin/qemu-system-x86_64", "QEMU emulator version 6.2.0");
        let (fake, kernel) = a_kernel(fake);
        let report = examine(&machine(fake.root(), &ALL, Some(kernel)));
        assert_eq!(report.guests, Guests::Nowhere);
        assert!(
            fact(&report, "qemu")
                .what
                .contains("is version 6.2; the lab needs 7.2")
        );
    }

    #[test]
    fn a_machine_with_nothing_says_no_and_what_to_do() {
        let fake = Fake::with_flags("svm");
        let report = examine(&machine(fake.root(), &|_| None, None));
        assert_eq!((&report.guests, report.payloads), (&Guests::Nowhere, false));
        let text = screen(&report, false);
        for mend in [
            "$ sudo modprobe kvm_amd",
            "$ sudo apt-get install qemu-system-x86",
            "$ sudo apt-get install busybox-static",
            "$ trapline kernel get debian-cloud\n",
            "$ trapline kernel get debian\n",
        ] {
            assert!(text.contains(mend), "{mend} is missing in\n{text}");
        }
        assert!(!text.contains("capabilities"), "KVM was not asked:\n{text}");
        fits(&report);
    }

    #[test]
    fn without_permission_nothing_runs_here() {
        let fake = Fake::with_flags("vmx").file("/dev/kvm", "");
        let report = examine(&machine(fake.root().locked(), &|_| None, None));
        assert_eq!((&report.guests, report.payloads), (&Guests::Nowhere, false));
        assert!(fact(&report, "device").mend.is_some());
    }

    #[test]
    fn a_kvm_that_lacks_what_is_required_boots_nothing() {
        let fake = Fake::with_flags("vmx").file("/dev/kvm", "");
        let lacks = |name: &'static str| move |asked: &Capability| Some(asked.name != name);
        let old = lacks("IMMEDIATE_EXIT");
        let report = examine(&machine(fake.root(), &old, None));
        assert_eq!((&report.guests, report.payloads), (&Guests::Nowhere, false));
        let poor = lacks("X86_MSR_FILTER");
        let report = examine(&machine(fake.root(), &poor, None));
        assert_eq!(report.guests, Guests::Here);
        let text = screen(&report, false);
        let row = text
            .lines()
            .find(|line| line.contains("capabilities"))
            .unwrap();
        assert!(row.contains("lost: a policy on MSRs"), "{row}");
    }

    #[test]
    fn ignore_msrs_is_a_warning_with_its_mend() {
        let fake = Fake::with_flags("vmx")
            .file("/dev/kvm", "")
            .file("/sys/module/kvm/parameters/ignore_msrs", "Y\n");
        let report = examine(&machine(fake.root(), &ALL, None));
        assert_eq!(fact(&report, "ignore_msrs").mark, Mark::Warn);
        assert_eq!(report.guests, Guests::Here);
        assert!(screen(&report, false).contains("$ echo 0 | sudo tee"));
    }

    #[test]
    fn colours_change_no_column() {
        let fake = Fake::with_flags("vmx").file("/dev/kvm", "");
        let report = examine(&machine(fake.root(), &ALL, None));
        let mut coloured = screen(&report, true);
        assert!(coloured.contains("\x1b[31mno  \x1b[0m"));
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, screen(&report, false));
    }
}
