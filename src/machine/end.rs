//! The ways a run can end, each with its one line for humans.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::hang::Hang;
use super::hex::Hex;

/// Something that ends a run, or decides how an end counts. Several may happen in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// The guest switched the machine off.
    PoweredOff,
    /// The guest asked for a reset.
    Rebooted,
    /// The guest reported a status and goes on; it will switch itself off.
    Reported {
        /// What it wrote.
        value: Hex,
    },
    /// The guest reported a status through debug-exit, which ends the run.
    Exited {
        /// What it wrote.
        value: Hex,
    },
    /// The guest's kernel panicked.
    Panicked {
        /// The console line that said so, or the device that did.
        line: String,
    },
    /// The guest's kernel oopsed.
    Oopsed {
        /// The console line that said so.
        line: String,
    },
    /// A vCPU faulted while it delivered a double fault.
    TripleFault {
        /// Which.
        vcpu: u8,
    },
    /// `--timeout` ran out.
    TimedOut {
        /// What it was, in seconds.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// No vCPU made progress for `--hang`.
    Hung {
        /// For how long, and where the vCPUs stand.
        #[serde(flatten)]
        hang: Hang,
    },
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError {
        /// KVM_INTERNAL_ERROR_*.
        suberror: u32,
        /// What KVM says about it, as it lies in `kvm_run`.
        data: Vec<Hex>,
    },
    /// KVM_EXIT_FAIL_ENTRY: the processor refused the guest's state.
    FailedEntry {
        /// The hardware's reason.
        reason: Hex,
        /// The host CPU it was refused on.
        cpu: u32,
    },
    /// Trapline, a device or the lab failed.
    Vmm {
        /// The error and its causes.
        error: String,
    },
    /// A policy said stop.
    Policy {
        /// Which rule, and what the guest did.
        rule: String,
    },
    /// `trapline ctl NAME stop`.
    Ctl,
    /// A signal to Trapline; SIGPIPE stands for a standard output that nobody reads any more.
    Signal {
        /// Its number.
        number: i32,
    },
}

fn seconds<S: serde::Serializer>(after: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(after.as_secs_f64())
}

/// What KVM calls an internal error (`linux/kvm.h`, KVM_INTERNAL_ERROR_*).
fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        1 => "it could not emulate an instruction",
        2 => "exceptions while it emulated an exception",
        3 => "an exit while it delivered an event",
        4 => "an exit reason it does not know",
        _ => "a sub-error this version does not name",
    }
}

/// The reason of a failed entry where the hardware's manual names it. VMX sets bit 31 over the
/// basic exit reason (SDM 3C, 28.8); SVM gives VMEXIT_INVALID, which is -1 (APM 2, appendix C).
fn entry_name(reason: u64) -> &'static str {
    match reason {
        0x8000_0021 => ": invalid guest state",
        0x8000_0022 => ": a refused MSR in the load list",
        0x8000_0029 => ": a machine check during entry",
        0xffff_ffff | u64::MAX => ": VMEXIT_INVALID, a guest state SVM does not take",
        _ => "",
    }
}

/// The usual names; others by number.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGTERM => "SIGTERM",
        _ => return None,
    })
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the guest powered off"),
            Self::Rebooted => f.write_str("the guest rebooted"),
            Self::Reported { value } | Self::Exited { value } => {
                write!(f, "the guest reported {}", value.0)
            }
            Self::Panicked { line } => write!(f, "guest kernel panicked: {line}"),
            Self::Oopsed { line } => write!(f, "guest kernel oopsed: {line}"),
            Self::TripleFault { vcpu } => write!(f, "triple fault on vCPU {vcpu}"),
            Self::TimedOut { after } => write!(f, "timed out after {after:?}"),
            Self::Hung { hang } => write!(f, "the guest hangs: {hang}"),
            Self::InternalError { suberror, data } => {
                let name = suberror_name(*suberror);
                write!(f, "KVM internal error {suberror}: {name}")?;
                if !data.is_empty() {
                    write!(f, "; data {data:?}")?;
                }
                Ok(())
            }
            Self::FailedEntry { reason, cpu } => {
                let name = entry_name(reason.0);
                write!(
                    f,
                    "KVM could not enter the guest: hardware reason {reason} on host CPU {cpu}\
                     {name}"
                )
            }
            Self::Vmm { error } => f.write_str(error),
            Self::Policy { rule } => write!(f, "stopped by policy: {rule}"),
            Self::Ctl => f.write_str("stopped by trapline ctl"),
            Self::Signal { number } if *number == libc::SIGPIPE => {
                f.write_str("nobody reads standard output any more")
            }
            Self::Signal { number } => match signal_name(*number) {
                Some(name) => write!(f, "stopped by {name}"),
                None => write!(f, "stopped by signal {number}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::hang::Stuck;

    #[test]
    fn lines_name_what_happened() {
        let table = [
            (
                End::Panicked {
                    line: "Fatal exception".into(),
                },
                "guest kernel panicked: Fatal exception",
            ),
            (
                End::InternalError {
                    suberror: 1,
                    data: vec![Hex(0x8b05)],
                },
                "KVM internal error 1: it could not emulate an instruction; data [0x8b05]",
            ),
            (
                End::FailedEntry {
                    reason: Hex(0x8000_0021),
                    cpu: 3,
                },
                "KVM could not enter the guest: hardware reason 0x80000021 on host CPU 3: \
                 invalid guest state",
            ),
            (
                End::Signal {
                    number: libc::SIGTERM,
                },
                "stopped by SIGTERM",
            ),
            (End::Signal { number: 40 }, "stopped by signal 40"),
            (
                End::TimedOut {
                    after: Duration::from_secs(90),
                },
                "timed out after 90s",
            ),
        ];
        for (end, line) in table {
            assert_eq!(end.to_string(), line);
        }
    }

    #[test]
    fn json_tells_where_a_guest_hangs() {
        let stuck = Stuck {
            vcpu: 1,
            rip: Hex(0x1000),
            interrupts: false,
            halted: false,
            symbol: Some("spin+0x0".into()),
        };
        let hang = Hang {
            after: Duration::from_secs(10),
            stuck: vec![stuck],
        };
        assert_eq!(
            serde_json::to_value(End::Hung { hang }).unwrap(),
            serde_json::json!({"end": "hung", "after": 10.0, "stuck": [{
                "vcpu": 1, "rip": "0x1000", "interrupts": false, "halted": false,
                "symbol": "spin+0x0",
            }]})
        );
    }

    #[test]
    fn json_keeps_64_bit_values_whole() {
        let end = End::Reported {
            value: Hex(u64::MAX),
        };
        let json = serde_json::to_value(end).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"end": "reported", "value": "0xffffffffffffffff"})
        );
    }
}
