//! The MSR policy on this board: its filter in KVM, its program, its counts.

use std::io;
use std::sync::Arc;

use crate::bus::{Clock, HostClock};
use crate::msr::filter::{self, DoesNotFit, Filter};
use crate::msr::policy::Policy;
use crate::msr::{Asker, Engine, MsrListener, names};
use crate::vm::{Vm, VmError, ignores_msrs};

use super::hex::Hex;
use super::msr_ask::Program;
use super::report::MsrCount;
use super::spec::Spec;

/// A policy that cannot be put to work on this host.
#[derive(Debug, thiserror::Error)]
pub enum MsrSetupError {
    /// No filter holds it.
    #[error(transparent)]
    Filter(#[from] DoesNotFit),
    /// KVM cannot do it.
    #[error(
        "the MSR policy needs {capability}, which this host's KVM lacks; it came with Linux 5.10"
    )]
    Lacks {
        /// The capability.
        capability: &'static str,
    },
    /// KVM refused it.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The program that answers cannot be started.
    #[error("cannot start the program that answers MSRs, {command:?}")]
    Program {
        /// Its command.
        command: String,
        /// Why.
        source: io::Error,
    },
}

/// The engine for a new machine, with the filter in place.
pub(super) fn engine(
    vm: &Vm,
    spec: &Spec,
    clock: &Arc<HostClock>,
    listener: Arc<dyn MsrListener>,
) -> Result<Engine, MsrSetupError> {
    let policy = spec.equipment.msr_policy.clone();
    for line in remarks(vm, &policy) {
        listener.line(line);
    }
    let filter = fit(vm, &policy)?;
    let asker = program(&policy)?;
    // A new VM has no filter to take away, and setting one costs milliseconds.
    if filter != Filter::none() {
        vm.set_msr_filter(&filter)?;
    }
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Ok(Engine::new(policy, asker, spec.cpus, clock, listener))
}

/// Changes the policy, with all vCPUs paused.
pub(super) fn change(
    vm: &Vm,
    engine: &Engine,
    policy: Policy,
) -> Result<Vec<String>, MsrSetupError> {
    let remarks = remarks(vm, &policy);
    let filter = fit(vm, &policy)?;
    let asker = program(&policy)?;
    if vm.filters_msrs() {
        vm.set_msr_filter(&filter)?;
    }
    engine.swap(policy, asker);
    Ok(remarks)
}

fn fit(vm: &Vm, policy: &Policy) -> Result<Filter, MsrSetupError> {
    let filter = filter::compile(policy.traps())?;
    if filter != Filter::none() && !vm.filters_msrs() {
        let capability = if vm.sees_msrs() {
            "KVM_CAP_X86_MSR_FILTER"
        } else {
            "KVM_CAP_X86_USER_SPACE_MSR"
        };
        return Err(MsrSetupError::Lacks { capability });
    }
    Ok(filter)
}

fn program(policy: &Policy) -> Result<Option<Arc<dyn Asker>>, MsrSetupError> {
    let Some(ask) = policy.ask() else {
        return Ok(None);
    };
    let program = Program::start(ask).map_err(|source| MsrSetupError::Program {
        command: ask.command.clone(),
        source,
    })?;
    Ok(Some(Arc::new(program)))
}

/// What is to be said of a policy, and of this host under it.
fn remarks(vm: &Vm, policy: &Policy) -> Vec<String> {
    let mut lines: Vec<_> = policy
        .warnings()
        .iter()
        .map(|w| format!("msr: {w}"))
        .collect();
    if policy.says_anything() && ignores_msrs() {
        lines.push(
            "msr: this host's kvm has ignore_msrs=1: MSRs that KVM does not know read as zero and \
             never come out as unknown; echo 0 > /sys/module/kvm/parameters/ignore_msrs changes it"
                .into(),
        );
    }
    if policy.says_anything() && !vm.sees_msrs() {
        lines.push(
            "msr: this host's KVM has no KVM_CAP_X86_USER_SPACE_MSR: what it refuses gets #GP and is \
             not seen here"
                .into(),
        );
    }
    lines
}

/// Accesses that came out, for the report.
pub(super) fn counts(engine: &Engine) -> Vec<MsrCount> {
    let count = |(index, tally): (u32, crate::msr::MsrTally)| MsrCount {
        index: Hex(index.into()),
        name: names::of(index).map(|msr| msr.name.to_string()),
        reads: tally.reads,
        writes: tally.writes,
        refused: tally.refused,
    };
    engine.tallies().into_iter().map(count).collect()
}
