//! Here or in the lab.

use std::env;
use std::fmt;

use crate::host::{KvmDevice, Root, linux_guests};

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
    /// Nothing: the job is about files, and those are the same everywhere.
    Nothing,
}

/// Where a job is to run, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// On this machine.
    Here,
    /// In a lab, for this reason.
    Lab(String),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("running here"),
            Self::Lab(why) => write!(f, "taking the lab: {why}"),
        }
    }
}

/// Decides where a job with this need runs. Inside a lab everything runs here: labs do not nest.
#[must_use]
pub fn choose(place: Place, need: Need) -> Decision {
    if inside() {
        return Decision::Here;
    }
    let root = Root::system();
    decide(place, need, || match need {
        Need::Nothing => Ok(()),
        Need::Linux => linux_guests(&root),
        Need::Payload => match KvmDevice::look(&root) {
            KvmDevice::Open => Ok(()),
            // Whoever may not open it gets no Linux either, for the same reason.
            _ => linux_guests(&root),
        },
    })
}

fn decide(place: Place, need: Need, can: impl FnOnce() -> Result<(), String>) -> Decision {
    match place {
        Place::Here => Decision::Here,
        Place::Lab if need == Need::Nothing => Decision::Here,
        Place::Lab => Decision::Lab("--in lab asks for it".into()),
        Place::Auto => can().map_or_else(Decision::Lab, |()| Decision::Here),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cannot() -> Result<(), String> {
        Err("why".into())
    }

    #[test]
    fn auto_takes_the_lab_only_where_the_machine_cannot() {
        let auto = |can: fn() -> _| decide(Place::Auto, Need::Linux, can);
        assert_eq!(auto(|| Ok(())), Decision::Here);
        assert_eq!(auto(cannot).to_string(), "taking the lab: why");
    }

    #[test]
    fn who_names_a_place_gets_it() {
        assert_eq!(decide(Place::Here, Need::Linux, cannot), Decision::Here);
        let lab = decide(Place::Lab, Need::Payload, || Ok(()));
        assert!(matches!(lab, Decision::Lab(_)));
    }
}
