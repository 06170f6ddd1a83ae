//! From a test's entry to the options of `trapline boot`, or to why it cannot run here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::Entry;
use super::words::split;
use crate::vm::cpuid::Profile;

/// A test's limit when neither it nor the user says one (kvm-unit-tests' run_tests.sh).
const TIMEOUT: Duration = Duration::from_secs(90);
/// Group of tests that run only when they are asked for.
const NOT_BY_DEFAULT: &str = "nodefault";

/// What decides for all tests of a run.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Groups or names that are wanted; none: all.
    pub groups: Vec<String>,
    /// The architecture the guests were built for.
    pub arch: String,
    /// The limit of every test, instead of its own.
    pub timeout: Option<Duration>,
    /// `$MAX_SMP`.
    pub cpus: usize,
}

/// A test ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// The guest.
    pub file: PathBuf,
    /// vCPUs.
    pub cpus: usize,
    /// Memory as the table has it: MiB, or with a suffix.
    pub memory: Option<String>,
    /// Words for the guest.
    pub append: Option<String>,
    /// The CPU as QEMU would be asked for it, and without the features that it may lack.
    pub cpu: Option<[String; 2]>,
    /// Further devices.
    pub devices: Vec<String>,
    /// Its limit; none when it has none.
    pub timeout: Option<Duration>,
    /// What was left out without harm.
    pub notes: Vec<String>,
}

/// Whether a test is wanted at all, by group or name.
fn is_wanted(entry: &Entry, groups: &[String]) -> bool {
    let named = |group: &String| entry.groups.contains(group) || entry.name == *group;
    groups.is_empty() || groups.iter().any(named)
}

/// What to do for `entry`, whose guest lies in `dir`. None when nobody asked for it.
///
/// # Errors
/// Why it is to be skipped.
pub fn plan(entry: &Entry, dir: &Path, limits: &Limits) -> Option<Result<Plan, String>> {
    is_wanted(entry, &limits.groups).then(|| make(entry, dir, limits))
}

fn make(entry: &Entry, dir: &Path, limits: &Limits) -> Result<Plan, String> {
    if limits.groups.is_empty() && entry.groups.iter().any(|group| group == NOT_BY_DEFAULT) {
        return Err(format!(
            "is not run by default; ask for it: --group {}",
            entry.name
        ));
    }
    match entry.arch.as_deref() {
        Some(arch) if arch != limits.arch => return Err(format!("is for {arch} alone")),
        _ => {}
    }
    match entry.accel.as_deref() {
        None | Some("kvm") => {}
        Some(other) => return Err(format!("is for {other} alone")),
    }
    for check in &entry.checks {
        holds(check)?;
    }
    let file = dir.join(&entry.file);
    if !file.is_file() {
        return Err(format!("there is no {}; build it", file.display()));
    }
    let mut plan = Plan {
        name: entry.name.clone(),
        file,
        cpus: 1,
        memory: None,
        append: None,
        cpu: None,
        devices: Vec::new(),
        timeout: limit(entry, limits)?,
        notes: Vec::new(),
    };
    if let Some(smp) = &entry.smp {
        plan.cpus = cpus(smp, limits)?;
    }
    plan.take_parameters(&entry.parameters, limits)?;
    if let Some(arguments) = &entry.arguments {
        plan.append = Some(split(arguments)?.join(" "));
    }
    Ok(plan)
}

/// A condition on a file of the host.
fn holds(check: &str) -> Result<(), String> {
    let Some((path, wanted)) = check.split_once('=') else {
        return Err(format!("its condition {check:?} is not PATH=VALUE"));
    };
    let found = fs::read_to_string(path).map_err(|error| format!("needs {check}: {error}"))?;
    match found.trim() {
        found if found == wanted => Ok(()),
        found => Err(format!("needs {check}; it is {found}")),
    }
}

fn limit(entry: &Entry, limits: &Limits) -> Result<Option<Duration>, String> {
    if limits.timeout.is_some() {
        return Ok(limits.timeout);
    }
    let Some(text) = entry.timeout.as_deref() else {
        return Ok(Some(TIMEOUT));
    };
    let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) => (digits, text.chars().last()),
        None => (text, None),
    };
    let seconds = match unit {
        Some('m') => 60,
        Some('h') => 3600,
        _ => 1,
    };
    let number = digits.trim().parse::<u64>().ok();
    let number = number.and_then(|number| number.checked_mul(seconds));
    let number = number.ok_or_else(|| format!("its timeout {text:?} is no duration"))?;
    // As timeout(1) has it: 0 is no limit.
    Ok((number > 0).then(|| Duration::from_secs(number)))
}

fn cpus(text: &str, limits: &Limits) -> Result<usize, String> {
    match text {
        "$MAX_SMP" => Ok(limits.cpus.max(1)),
        _ => text
            .split(',')
            .next()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| format!("its smp {text:?} is no number")),
    }
}

impl Plan {
    fn take_parameters(&mut self, text: &str, limits: &Limits) -> Result<(), String> {
        let mut words = split(text)?.into_iter();
        while let Some(word) = words.next() {
            // QEMU takes both spellings.
            let option = word.strip_prefix("--").or(word.strip_prefix('-'));
            let Some(option) = option else {
                return Err(format!("has a parameter that is no option: {word}"));
            };
            if matches!(option, "enable-kvm" | "no-reboot" | "nodefaults") {
                continue;
            }
            let Some(value) = words.next() else {
                return Err(format!("needs QEMU's {word}"));
            };
            match option {
                "append" => self.append = Some(value),
                "smp" => self.cpus = cpus(&value, limits)?,
                "m" => self.memory = Some(value.trim_start_matches("size=").to_owned()),
                "cpu" => self.take_cpu(&value)?,
                "device" => self.take_device(&value)?,
                "machine" | "M" => machine(&value)?,
                "global" if value.starts_with("kvm-pit.") => {}
                _ => return Err(format!("needs QEMU's {word} {value}")),
            }
        }
        Ok(())
    }

    /// Named CPUs become the host's: the tests want features of them, not the rest. What KVM then
    /// lacks QEMU would leave out with a warning, and so does the second choice.
    fn take_cpu(&mut self, value: &str) -> Result<(), String> {
        let mut words = value.split(',');
        let model = words.next().unwrap_or_default();
        if !matches!(model, "host" | "max") {
            self.notes.push(format!("-cpu {model} is the host's CPU"));
        }
        let (mut whole, mut least) = (vec!["host".to_owned()], vec!["host".to_owned()]);
        for word in words {
            let word = match word.split_once('=') {
                Some((name, "on" | "yes")) => format!("+{name}"),
                Some((name, "off" | "no")) => format!("-{name}"),
                _ => word.to_owned(),
            };
            let name = word.trim_start_matches(['+', '-']);
            match name.split('=').next().unwrap_or_default() {
                "migratable" | "host-phys-bits" => continue,
                "phys-bits" => return Err(format!("needs QEMU's -cpu {value}: {word}")),
                name if name.starts_with("hv_") || name.starts_with("hv-") => {
                    self.notes.push(format!("without {name}"));
                    continue;
                }
                _ => {}
            }
            // What no CPU of this program has a word for cannot be asked for.
            match format!("host,{word}").parse::<Profile>() {
                Ok(_) if word.starts_with('+') => whole.push(word),
                Ok(_) => {
                    least.push(word.clone());
                    whole.push(word);
                }
                Err(error) if word.starts_with('+') => {
                    self.notes.push(format!("without {name}: {error}"));
                }
                Err(error) => return Err(format!("needs QEMU's -cpu {value}: {error}")),
            }
        }
        // Together they may contradict each other, as the tests of such CPUs mean them to.
        if let Err(error) = whole.join(",").parse::<Profile>() {
            return Err(format!("needs QEMU's -cpu {value}: {error}"));
        }
        self.cpu = (whole.len() > 1).then(|| [whole.join(","), least.join(",")]);
        Ok(())
    }

    fn take_device(&mut self, value: &str) -> Result<(), String> {
        match value.split(',').next().unwrap_or_default() {
            // Always there.
            "pc-testdev" | "pci-testdev" | "isa-debug-exit" => {}
            "edu" => self.devices.push("edu".into()),
            _ => return Err(format!("needs QEMU's -device {value}")),
        }
        Ok(())
    }
}

fn machine(value: &str) -> Result<(), String> {
    let is_ours = |word: &str| {
        matches!(
            word,
            "pc" | "accel=kvm" | "kernel_irqchip=on" | "kernel-irqchip=on" | "vmport=off"
        )
    };
    match value.split(',').find(|word| !is_ours(word)) {
        Some(word) => Err(format!("needs QEMU's -machine {word}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            arch: "x86_64".into(),
            cpus: 4,
            ..Limits::default()
        }
    }

    fn entry(parameters: &str) -> Entry {
        Entry {
            name: "test".into(),
            file: "self".into(),
            parameters: parameters.into(),
            ..Entry::default()
        }
    }

    /// With a file that is there.
    fn planned(entry: &Entry) -> Result<Plan, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("self"), b"").unwrap();
        plan(entry, dir.path(), &limits()).unwrap()
    }

    #[test]
    fn what_boot_has_an_option_for_is_honoured() {
        let plan = planned(&entry(
            "-enable-kvm -m 4g -append 'a b' -device edu -device pci-testdev -smp 3 -machine pc,accel=kvm",
        ))
        .unwrap();
        assert_eq!(plan.cpus, 3);
        assert_eq!(plan.memory.as_deref(), Some("4g"));
        assert_eq!(plan.append.as_deref(), Some("a b"));
        assert_eq!(plan.devices, ["edu"]);
        assert_eq!((plan.timeout, plan.cpu), (Some(TIMEOUT), None));
    }

    #[test]
    fn features_of_a_named_cpu_are_asked_for_and_the_name_is_not() {
        let plan = planned(&entry("-cpu qemu64,+x2apic,-pcid,umip=on,hv_time")).unwrap();
        let [whole, least] = plan.cpu.unwrap();
        assert_eq!(whole, "host,+x2apic,-pcid,+umip");
        assert_eq!(least, "host,-pcid");
        assert_eq!(
            plan.notes,
            ["-cpu qemu64 is the host's CPU", "without hv_time"]
        );
        assert_eq!(
            planned(&entry("-cpu host,migratable=no")).unwrap().cpu,
            None
        );
        let plan = planned(&entry("-cpu max,vendor=GenuineIntel")).unwrap();
        assert_eq!(
            plan.cpu.unwrap(),
            ["host,vendor=GenuineIntel"; 2].map(String::from)
        );
    }

    #[test]
    fn what_boot_cannot_honour_is_a_skip_with_the_reason() {
        for (parameters, says) in [
            ("-device hyperv-testdev", "-device hyperv-testdev"),
            ("-machine vmport=on", "-machine vmport=on"),
            ("-M q35,kernel-irqchip=split", "-machine q35"),
            ("-cpu IvyBridge,phys-bits=36", "phys-bits=36"),
            ("-overcommit cpu-pm=on", "-overcommit cpu-pm=on"),
            ("-snapshot", "needs QEMU's -snapshot"),
            ("-append 'x", "open '"),
            ("stray", "no option: stray"),
        ] {
            let why = planned(&entry(parameters)).unwrap_err();
            assert!(why.contains(says), "{parameters}: {why}");
        }
    }

    #[test]
    fn conditions_groups_and_architectures_decide_before() {
        let with = |change: fn(&mut Entry)| {
            let mut entry = entry("");
            change(&mut entry);
            planned(&entry)
        };
        let why = |change| with(change).unwrap_err();
        assert!(why(|e| e.arch = Some("i386".into())).contains("for i386 alone"));
        assert!(why(|e| e.accel = Some("tcg".into())).contains("for tcg alone"));
        assert!(why(|e| e.groups = vec!["nodefault".into()]).contains("--group test"));
        assert!(
            why(|e| e.checks = vec!["/proc/sys/kernel/ostype=BeOS".into()]).contains("is Linux")
        );
        assert!(why(|e| e.checks = vec!["/nowhere=1".into()]).contains("No such file"));
        assert!(why(|e| e.file = "missing.flat".into()).contains("build it"));
        with(|e| e.checks = vec!["/proc/sys/kernel/ostype=Linux".into()]).unwrap();
        let mut some = limits();
        some.groups = vec!["vmexit".into()];
        assert!(plan(&entry(""), Path::new("."), &some).is_none());
        some.groups = vec!["test".into()];
        let mut only = entry("");
        only.groups = vec!["nodefault".into()];
        let why = plan(&only, Path::new("/nowhere"), &some)
            .unwrap()
            .unwrap_err();
        assert!(why.contains("build it"), "asked for by name: {why}");
    }

    #[test]
    fn limits_are_the_tests_own_unless_the_user_says() {
        let with = |timeout: &str| {
            let entry = Entry {
                timeout: Some(timeout.into()),
                ..entry("")
            };
            planned(&entry).map(|plan| plan.timeout)
        };
        assert_eq!(with("30"), Ok(Some(Duration::from_secs(30))));
        assert_eq!(with("2m"), Ok(Some(Duration::from_secs(120))));
        assert_eq!(with("0"), Ok(None));
        assert!(with("soon").unwrap_err().contains("no duration"));
        let mut all = limits();
        all.timeout = Some(Duration::from_secs(7));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("self"), b"").unwrap();
        let plan = plan(&entry(""), dir.path(), &all).unwrap().unwrap();
        assert_eq!(plan.timeout, Some(Duration::from_secs(7)));
    }

    #[test]
    fn max_smp_is_what_the_host_has() {
        let mut all = entry("");
        all.smp = Some("$MAX_SMP".into());
        assert_eq!(planned(&all).unwrap().cpus, 4);
        all.smp = Some("$(nproc)".into());
        assert!(planned(&all).unwrap_err().contains("no number"));
    }
}
