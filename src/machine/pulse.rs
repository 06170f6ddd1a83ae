//! Feels the pulse of a running guest for the hang watch.

use std::time::Duration;

use kvm_bindings::{KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE};

use crate::vm::{Fleet, Vcpu, VmError};

use super::hang::{Activity, Hang, HangWatch, Sample, Verdict};
use super::walk::EFER_LMA;

/// RFLAGS.IF.
const INTERRUPT_FLAG: u64 = 1 << 9;
/// How much of a segment selector is the privilege level.
const RPL: u16 = 3;

/// The watch, and what the guest had done when it was last looked at.
#[derive(Debug)]
pub(super) struct Pulse {
    watch: HangWatch,
    next: Duration,
    exits: Vec<u64>,
    printed: u64,
}

impl Pulse {
    pub(super) const fn new(patience: Duration, now: Duration) -> Self {
        Self {
            watch: HangWatch::new(patience, now),
            next: now,
            exits: Vec::new(),
            printed: 0,
        }
    }

    /// Time was lost that was not the guest's.
    pub(super) fn restart(&mut self, now: Duration) {
        self.watch.restart(now);
        self.next = now;
    }

    /// The hang an NMI is being tried on.
    pub(super) const fn suspected(&self) -> Option<&Hang> {
        self.watch.suspected()
    }

    /// Looks when it is time. A guest that prints or exits is well and is not disturbed for it.
    pub(super) fn feel(&mut self, now: Duration, fleet: &Fleet, printed: u64) -> Verdict {
        if now < self.next {
            return Verdict::Fine;
        }
        self.next = now.saturating_add(self.watch.period());
        let count = u8::try_from(fleet.len()).unwrap_or(u8::MAX);
        self.exits.resize(count.into(), 0);
        let new = printed.saturating_sub(self.printed);
        self.printed = printed;
        let mut made = Vec::with_capacity(count.into());
        for (vcpu, before) in (0..count).zip(&mut self.exits) {
            let total = fleet.counts(vcpu).map_or(0, |counts| counts.useful());
            made.push((vcpu, total.saturating_sub(*before)));
            *before = total;
        }
        let moves = new > 0 || made.iter().any(|(_, exits)| *exits > 0);
        if moves && self.suspected().is_none() {
            self.watch.restart(now);
            return Verdict::Fine;
        }
        // One that does not answer cannot be judged; pausing it will say so.
        let look = |(vcpu, exits)| fleet.ask(vcpu, move |v| sample(v, exits)).ok()?.ok();
        let samples: Vec<_> = made.into_iter().filter_map(look).collect();
        self.watch.look(now, &samples, new)
    }
}

/// The last byte of vector 2's gate: 16 bytes each in long mode, 8 before, 4 in real mode, where
/// the limit is never smaller than all of them.
const fn nmi_gate_end(efer: u64) -> u16 {
    if efer & EFER_LMA != 0 { 47 } else { 23 }
}

fn sample(vcpu: &Vcpu, exits: u64) -> Result<Sample, VmError> {
    let (regs, sregs) = (vcpu.regs()?, vcpu.sregs()?);
    let activity = match vcpu.mp_state()? {
        KVM_MP_STATE_RUNNABLE => Activity::Running,
        KVM_MP_STATE_HALTED => Activity::Halted,
        _ => Activity::NotStarted,
    };
    Ok(Sample {
        vcpu: vcpu.id(),
        activity,
        rip: regs.rip,
        interrupts: regs.rflags & INTERRUPT_FLAG != 0,
        user: sregs.cs.selector & RPL == RPL,
        exits,
        takes_nmi: sregs.idt.limit >= nmi_gate_end(sregs.efer),
    })
}
