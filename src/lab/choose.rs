//! Here or in the lab.

use std::env;
use std::fmt;
use std::fs::{self, File};

/// Set, to anything, for whatever runs inside a lab.
pub const IN_LAB: &str = "TRAPLINE_IN_LAB";

/// Whether this process runs inside a lab.
#[must_use]
pub fn inside() -> bool {
    env::var_os(IN_LAB).is_some()
}

/// Where the caller wants a command to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Here when this machine can do the job.
    Auto,
    /// Here.
    Here,
    /// In a lab.
    Lab,
}

/// What a job needs of the machine it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// /dev/kvm: bare-metal payloads run on software KVM as well.
    Payload,
    /// VMX or SVM besides: Linux does not boot on software KVM.
    Linux,
    /// Nothing: the job is about files.
    Nothing,
}

/// Where a job is to run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// On this machine.
    Here,
    /// In a lab, for this reason.
    Lab(&'static str),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("running here"),
            Self::Lab(why) => write!(f, "taking the lab: {why}"),
        }
    }
}

/// What matters of this machine.
#[derive(Debug, Clone, Copy)]
struct Machine {
    kvm: Result<(), &'static str>,
    virtualises: bool,
}

impl Machine {
    fn probe() -> Self {
        let opened = File::options().read(true).write(true).open("/dev/kvm");
        let kvm = opened.map(drop).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "this host has no /dev/kvm",
            std::io::ErrorKind::PermissionDenied => "/dev/kvm is there but may not be opened",
            _ => "this host's /dev/kvm cannot be opened",
        });
        Self {
            kvm,
            virtualises: virtualises(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        }
    }
}

/// Whether the CPU has VMX or SVM.
pub(super) fn virtualises(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|f| f == "vmx" || f == "svm"))
}

/// Decides where a job with this need runs. Inside a lab everything runs here: labs do not nest.
#[must_use]
pub fn choose(place: Place, need: Need) -> Decision {
    if inside() {
        return Decision::Here;
    }
    decide(place, need, Machine::probe())
}

fn decide(place: Place, need: Need, machine: Machine) -> Decision {
    match (place, need) {
        (Place::Here, _) | (Place::Auto, Need::Nothing) => Decision::Here,
        (Place::Lab, _) => Decision::Lab("--in lab asks for it"),
        (Place::Auto, need) => match machine.kvm {
            Err(why) => Decision::Lab(why),
            Ok(()) if need == Need::Linux && !machine.virtualises => {
                Decision::Lab("this host's /dev/kvm has no VMX/SVM (software KVM)")
            }
            Ok(()) => Decision::Here,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Machine = Machine {
        kvm: Ok(()),
        virtualises: true,
    };
    const SOFTWARE: Machine = Machine {
        virtualises: false,
        ..BARE
    };
    const NONE: Machine = Machine {
        kvm: Err("none"),
        ..SOFTWARE
    };

    #[test]
    fn auto_takes_the_lab_only_where_the_machine_cannot() {
        let auto = |need, machine| decide(Place::Auto, need, machine);
        assert_eq!(auto(Need::Linux, BARE), Decision::Here);
        assert_eq!(auto(Need::Payload, SOFTWARE), Decision::Here);
        assert!(
            matches!(auto(Need::Linux, SOFTWARE), Decision::Lab(why) if why.contains("VMX/SVM"))
        );
        assert_eq!(auto(Need::Payload, NONE), Decision::Lab("none"));
        assert_eq!(auto(Need::Nothing, NONE), Decision::Here);
    }

    #[test]
    fn who_names_a_place_gets_it() {
        assert_eq!(decide(Place::Here, Need::Linux, NONE), Decision::Here);
        assert!(matches!(
            decide(Place::Lab, Need::Payload, BARE),
            Decision::Lab(_)
        ));
    }

    #[test]
    fn vmx_is_a_word_not_a_part_of_one() {
        assert!(virtualises("x : y\nflags\t\t: fpu svm sse\n"));
        assert!(!virtualises(
            "flags\t\t: fpu svm_lock vmxx\nvmx flags\t: vnmi\n"
        ));
    }
}
