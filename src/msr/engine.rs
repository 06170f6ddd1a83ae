//! Answers accesses by the policy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::access::{Cpu, MsrAccess, MsrAnswer, MsrHandler, Op, Reason};
use super::ask::{AskError, Asker, Question, Reply};
use super::cells::{BadMsrState, Born, Cells, MsrState};
use super::forward::{self, Plan};
use super::limiter::Limiter;
use super::names::{self, Class};
use super::policy::{Action, Policy, Rule};
use crate::bus::{Clock, ResetKind};

/// Hears what the policy has to say. Called on the vCPU's thread.
pub trait MsrListener: Send + Sync {
    /// A line of the log.
    fn line(&self, line: String);
}

/// How often one MSR came out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MsrTally {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Of both, those that got #GP.
    pub refused: u64,
}

/// MSRs of one vCPU told apart in the counts; a guest that tries more is counted under the last.
const TOLD_APART: usize = 1024;

#[derive(Debug, Default)]
struct PerVcpu {
    cells: Cells,
    /// Accesses counted by rules with `nth`.
    nth: BTreeMap<u32, u64>,
    tallies: BTreeMap<u32, MsrTally>,
    limiter: Limiter,
}

impl PerVcpu {
    fn tally(&mut self, access: MsrAccess, answer: MsrAnswer) {
        let index = match self.tallies.last_key_value() {
            Some((last, _))
                if self.tallies.len() >= TOLD_APART
                    && !self.tallies.contains_key(&access.index) =>
            {
                *last
            }
            _ => access.index,
        };
        let tally = self.tallies.entry(index).or_default();
        let counter = match access.op {
            Op::Read => &mut tally.reads,
            Op::Write(_) => &mut tally.writes,
        };
        *counter = counter.saturating_add(1);
        if answer == MsrAnswer::Fault {
            tally.refused = tally.refused.saturating_add(1);
        }
    }
}

#[derive(Debug, Default)]
struct Active {
    policy: Policy,
    asker: Option<Arc<dyn Asker>>,
}

/// Answers by a policy, which can be changed while no vCPU runs.
pub struct Engine {
    active: RwLock<Arc<Active>>,
    vcpus: Box<[Mutex<PerVcpu>]>,
    shared: Mutex<Cells>,
    born: Mutex<Born>,
    clock: Arc<dyn Clock>,
    listener: Arc<dyn MsrListener>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine of {} vCPUs", self.vcpus.len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was decided, before it is done.
struct Verdict {
    action: Action,
    log: bool,
    rule: Option<u32>,
}

impl Engine {
    /// An engine for `vcpus` vCPUs.
    #[must_use]
    pub fn new(
        policy: Policy,
        asker: Option<Arc<dyn Asker>>,
        vcpus: usize,
        clock: Arc<dyn Clock>,
        listener: Arc<dyn MsrListener>,
    ) -> Self {
        Self {
            active: RwLock::new(Arc::new(Active { policy, asker })),
            vcpus: (0..vcpus).map(|_| Mutex::default()).collect(),
            shared: Mutex::default(),
            born: Mutex::default(),
            clock,
            listener,
        }
    }

    fn active(&self) -> Arc<Active> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the policy, with all vCPUs paused. Registers that both policies keep in the same way
    /// keep their values; `nth` counts from the start.
    pub fn swap(&self, policy: Policy, asker: Option<Arc<dyn Asker>>) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        for (id, vcpu) in (0..=u8::MAX).zip(self.vcpus.iter()) {
            let mut vcpu = lock(vcpu);
            vcpu.cells.carry(&active.policy, &policy, Some(id));
            vcpu.nth.clear();
        }
        lock(&self.shared).carry(&active.policy, &policy, None);
        *active = Arc::new(Active { policy, asker });
    }

    /// A reset of the machine, with all vCPUs paused.
    pub fn reset(&self, kind: ResetKind) {
        let active = self.active();
        let power = kind == ResetKind::Cold;
        for vcpu in &self.vcpus {
            lock(vcpu).cells.reset(&active.policy, power);
        }
        lock(&self.shared).reset(&active.policy, power);
        let mut born = lock(&self.born);
        born.reset = self.clock.now().0;
        if power {
            born.power = born.reset;
        }
    }

    /// The volatile state, with all vCPUs paused.
    #[must_use]
    pub fn save(&self) -> MsrState {
        let vcpus: Vec<_> = self.vcpus.iter().map(lock).collect();
        let parts = (0..=u8::MAX)
            .zip(&vcpus)
            .map(|(id, v)| (id, &v.cells, &v.nth));
        MsrState::new(*lock(&self.born), &lock(&self.shared), parts)
    }

    /// Puts a saved state back, with all vCPUs paused and the policy it was saved under.
    ///
    /// # Errors
    /// [`BadMsrState`]; nothing has changed then.
    pub fn load(&self, state: &MsrState) -> Result<(), BadMsrState> {
        let loaded = state.load(&self.active().policy, self.vcpus.len())?;
        for (vcpu, (cells, nth)) in self.vcpus.iter().zip(loaded.vcpus) {
            let mut vcpu = lock(vcpu);
            (vcpu.cells, vcpu.nth) = (cells, nth);
        }
        *lock(&self.shared) = loaded.shared;
        *lock(&self.born) = loaded.born;
        Ok(())
    }

    /// Accesses that came out, by MSR, lowest first.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<u32, MsrTally> {
        let mut sum: BTreeMap<u32, MsrTally> = BTreeMap::new();
        for vcpu in &self.vcpus {
            for (&index, tally) in &lock(vcpu).tallies {
                let all = sum.entry(index).or_default();
                all.reads = all.reads.saturating_add(tally.reads);
                all.writes = all.writes.saturating_add(tally.writes);
                all.refused = all.refused.saturating_add(tally.refused);
            }
        }
        sum
    }

    /// Lines of the log that were not said.
    #[must_use]
    pub fn unsaid(&self) -> u64 {
        self.vcpus
            .iter()
            .map(|vcpu| lock(vcpu).limiter.unsaid())
            .sum()
    }

    fn decide(policy: &Policy, access: MsrAccess, vcpu: &mut PerVcpu) -> Verdict {
        let direction = access.op.direction();
        let mut log = false;
        for (id, rule) in policy.rules_for(access.index, direction) {
            if !rule.vcpus.has(access.vcpu) {
                continue;
            }
            if let Some(nth) = rule.nth {
                let count = vcpu.nth.entry(id).or_default();
                *count = count.saturating_add(1);
                if *count != nth {
                    continue;
                }
            }
            return Verdict {
                action: rule.action,
                log: log || rule.log,
                rule: Some(id),
            };
        }
        log |= policy.logs_rest();
        Verdict {
            action: policy.otherwise(access.reason),
            log,
            rule: None,
        }
    }

    fn emulate(&self, access: MsrAccess, verdict: &Verdict, cells: &mut Cells) -> MsrAnswer {
        let (Action::Emulate(model), Some(rule)) = (verdict.action, verdict.rule) else {
            return MsrAnswer::Fault;
        };
        let (key, now, born) = ((rule, access.index), self.clock.now().0, *lock(&self.born));
        match access.op {
            Op::Read => MsrAnswer::Value(cells.read(key, &model, born, now)),
            Op::Write(value) if cells.write(key, &model, value, born, now) => MsrAnswer::Value(0),
            Op::Write(_) => MsrAnswer::Fault,
        }
    }

    /// What KVM would have done.
    fn by_kvm(&self, active: &Active, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let reason = match access.reason {
            Reason::Filter => {
                let msr = names::of(access.index);
                let done = match access.op {
                    Op::Read => match forward::read(msr.as_ref(), cpu) {
                        Plan::Perform(_) => cpu.get(access.index),
                        _ => return MsrAnswer::Fault,
                    },
                    Op::Write(value) => match forward::write(msr.as_ref(), value, cpu) {
                        Plan::Perform(value) => cpu.set(access.index, value).then_some(0),
                        Plan::Drop => Some(0),
                        Plan::Fault | Plan::Refuse => return MsrAnswer::Fault,
                    },
                };
                match done {
                    Some(value) => return MsrAnswer::Value(value),
                    None if msr.is_none_or(|msr| msr.row.class == Class::Platform) => {
                        Reason::Unknown
                    }
                    None => Reason::Inval,
                }
            }
            refused => refused,
        };
        match active.policy.otherwise(reason) {
            Action::Ignore => MsrAnswer::Value(0),
            Action::Stop => MsrAnswer::Stop,
            Action::Ask => self.ask(active, access, cpu),
            Action::Allow | Action::Deny | Action::Emulate(_) => MsrAnswer::Fault,
        }
    }

    fn ask(&self, active: &Active, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let (Some(asker), Some(ask)) = (&active.asker, active.policy.ask()) else {
            return MsrAnswer::Fault;
        };
        let question = Question::about(0, access, cpu.rip());
        match asker.ask(question) {
            Ok(Reply::Value(value)) => MsrAnswer::Value(value),
            Ok(Reply::Fault) => MsrAnswer::Fault,
            Err(error) => self.unanswered(access, &error, ask.otherwise),
        }
    }

    fn unanswered(&self, access: MsrAccess, error: &AskError, otherwise: Action) -> MsrAnswer {
        let now = self.clock.now().0;
        let vcpu = self.vcpus.get(usize::from(access.vcpu));
        if vcpu.is_some_and(|vcpu| lock(vcpu).limiter.may(now).is_some()) {
            let what = format!("{} {}", access.op.verb(), super::describe(access.index));
            self.listener.line(format!(
                "msr: vCPU {} {what}: {error}; otherwise = {:?} answers it",
                access.vcpu,
                otherwise.word()
            ));
        }
        match otherwise {
            Action::Ignore => MsrAnswer::Value(0),
            Action::Stop => MsrAnswer::Stop,
            _ => MsrAnswer::Fault,
        }
    }

    fn log(
        &self,
        active: &Active,
        access: MsrAccess,
        answer: MsrAnswer,
        rule: Option<u32>,
        held: u64,
        rip: Option<u64>,
    ) {
        let rule = rule.and_then(|id| active.policy.rule(id));
        let mut line = line(access, answer, rip);
        if let Some(Rule { place, .. }) = rule {
            line = format!("{line} [{}]", active.policy.locate(*place));
        }
        if held > 0 {
            line = format!("{line} ({held} before it not shown)");
        }
        self.listener.line(line);
    }
}

/// One access and its answer in words.
fn line(access: MsrAccess, answer: MsrAnswer, rip: Option<u64>) -> String {
    let what = match access.op {
        Op::Read => String::new(),
        Op::Write(value) => format!(" <- {value:#x}"),
    };
    let came = match (access.op, answer) {
        (_, MsrAnswer::Fault) => " -> #GP".into(),
        (_, MsrAnswer::Stop) => " -> stop".into(),
        (Op::Read, MsrAnswer::Value(value)) => format!(" -> {value:#x}"),
        (Op::Write(_), MsrAnswer::Value(_)) => String::new(),
    };
    let rip = rip.map_or_else(String::new, |rip| format!(" at {rip:#x}"));
    format!(
        "msr: vCPU {}{rip}: {} {}{what}{came} ({})",
        access.vcpu,
        access.op.verb(),
        super::describe(access.index),
        access.reason
    )
}

impl MsrHandler for Engine {
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let active = self.active();
        // The run loop asks only for vCPUs the engine was made for.
        let Some(vcpu) = self.vcpus.get(usize::from(access.vcpu)) else {
            return MsrAnswer::Fault;
        };
        let mut own = lock(vcpu);
        let verdict = Self::decide(&active.policy, access, &mut own);
        let answer = match verdict.action {
            Action::Deny => MsrAnswer::Fault,
            Action::Ignore => MsrAnswer::Value(0),
            Action::Emulate(model) if model.shared => {
                self.emulate(access, &verdict, &mut lock(&self.shared))
            }
            Action::Emulate(_) => self.emulate(access, &verdict, &mut own.cells),
            slow => {
                // KVM, a program and a listener are called with no lock held.
                drop(own);
                let answer = match slow {
                    Action::Ask => self.ask(&active, access, cpu),
                    Action::Stop => MsrAnswer::Stop,
                    _ => self.by_kvm(&active, access, cpu),
                };
                own = lock(vcpu);
                answer
            }
        };
        own.tally(access, answer);
        if verdict.log {
            let held = own.limiter.may(self.clock.now().0);
            drop(own);
            if let Some(held) = held {
                let rip = cpu.rip();
                self.log(&active, access, answer, verdict.rule, held, rip);
            }
        }
        answer
    }

    fn why(&self, access: MsrAccess) -> String {
        let (active, verb) = (self.active(), access.op.verb());
        let mut rules = active.policy.rules_for(access.index, access.op.direction());
        let rule = rules.find(|(_, rule)| {
            rule.vcpus.has(access.vcpu) && matches!(rule.action, Action::Stop | Action::Ask)
        });
        let place = match rule {
            Some((_, rule)) => active.policy.locate(rule.place),
            None => "[default]".into(),
        };
        let msr = super::describe(access.index);
        format!("{place}: vCPU {}: {verb} {msr}", access.vcpu)
    }
}

#[cfg(test)]
mod tests;
