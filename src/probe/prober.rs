//! A guest that does MSR operations for the host.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::boot::{
    Image, LoadRequest, Places, Protocol, Start, load, payload, write_long_mode_tables,
};
use crate::bus::{
    Access, Answer, Bus, BusPort, Device, Effect, EffectSink, Effects, HostClock, ResetKind,
    StateError, Window,
};
use crate::mem::{GuestRam, HugePages};
use crate::msr::filter::Traps;
use crate::msr::policy::Policy;
use crate::msr::{Cpu, Engine, MsrAccess, MsrAnswer, MsrHandler, MsrListener, Op, Reason, filter};
use crate::trace::{Probe, Space};
use crate::vm::{
    Entry, Flat, Fleet, Segments, VcpuEnd, VcpuNotice, VcpuState, Vm, VmSpec, VmState,
    cpuid::Profile, open,
};

use super::fresh::{ProbeError, Value};
use super::ops::{self, BATCH, GuestOp, Seen, TABLE};

/// Where the payload rings (guest/payloads/msrops.c).
const DOORBELL: u64 = 0xee;
/// How long a guest may take to start or to come back before it is given up ...
const PATIENCE: Duration = Duration::from_secs(5);
/// ... and more for each of its operations, that come out to user space where the processor itself is emulated.
const PATIENCE_EACH: Duration = Duration::from_millis(5);
/// The payload's first stack pointer is its own; this one only has to be in memory.
const STACK: u64 = 1 << 20;

/// What became of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What the guest saw.
    pub seen: Seen,
    /// Why KVM handed it out; none when it did not.
    pub exit: Option<Reason>,
}

/// How a guest was lost. The prober starts a new one by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It did not come back in time.
    #[error("the guest hung")]
    Hung,
    /// It could not go on.
    #[error("the guest ended: {0:?}")]
    Ended(VcpuEnd),
}

/// One access that KVM handed out: what it was, why, and where its instruction lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitSeen {
    /// The access.
    pub access: MsrAccess,
    /// Where.
    pub rip: Option<u64>,
}

struct Bell;

impl Device for Bell {
    fn label(&self) -> &'static str {
        "doorbell"
    }
    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "doorbell",
            space: Space::Pio,
            base: Some(DOORBELL),
            len: 1,
        }]
    }
    fn read(&mut self, _: Access, _: &mut Effects) -> Answer<u64> {
        Ok(0)
    }
    fn write(&mut self, _: Access, _: u64, effects: &mut Effects) -> Answer<()> {
        effects.push(Effect::Exit(0));
        Ok(())
    }
    fn reset(&mut self, _: ResetKind) {}
    fn save(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
        Ok(())
    }
}

/// Stops the guest at every ring and every end.
struct Watch {
    fleet: Fleet,
    news: SyncSender<Option<VcpuEnd>>,
}

impl EffectSink for Watch {
    fn apply(&self, _: Effect) {
        self.fleet.order_pause();
        let _ = self.news.try_send(None);
    }
}

impl VcpuNotice for Watch {
    fn ended(&self, _: u8, end: VcpuEnd) {
        self.fleet.order_pause();
        let _ = self.news.try_send(Some(end));
    }
}

/// Who answers a guest, and a guest that replaces it.
enum Answers {
    /// A policy, each time from its beginning.
    Policy(Box<Policy>),
    /// Code of the caller's, with what is to come out to it.
    Handler(Traps, Arc<dyn MsrHandler>),
}

struct Deaf;

impl MsrListener for Deaf {
    fn line(&self, _: String) {}
}

impl Answers {
    fn traps(&self) -> &Traps {
        match self {
            Self::Policy(policy) => policy.traps(),
            Self::Handler(traps, _) => traps,
        }
    }

    /// The engine of the policy; a handler has one that nobody asks.
    fn engine(&self) -> Arc<Engine> {
        let policy = match self {
            Self::Policy(policy) => (**policy).clone(),
            Self::Handler(..) => Policy::default(),
        };
        let clock = Arc::new(HostClock::new());
        Arc::new(Engine::new(policy, None, 1, clock, Arc::new(Deaf)))
    }

    fn handler(&self, engine: &Arc<Engine>) -> Arc<dyn MsrHandler> {
        match self {
            Self::Policy(_) => Arc::clone(engine) as _,
            Self::Handler(_, handler) => Arc::clone(handler),
        }
    }
}

/// Writes down what comes out, and lets somebody answer.
struct Scribe {
    handler: Arc<dyn MsrHandler>,
    exits: Mutex<Vec<ExitSeen>>,
}

impl MsrHandler for Scribe {
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let rip = cpu.rip();
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        exits.push(ExitSeen { access, rip });
        drop(exits);
        self.handler.answer(access, cpu)
    }

    fn why(&self, access: MsrAccess) -> String {
        self.handler.why(access)
    }
}

/// The running guest.
struct Guest {
    fleet: Fleet,
    ram: GuestRam,
    news: Receiver<Option<VcpuEnd>>,
    scribe: Arc<Scribe>,
    /// As it was before the first operation.
    ready: (VcpuState, VmState),
    /// Who keeps the emulated MSRs, when a policy answers.
    engine: Arc<Engine>,
    vm: Vm,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.fleet.stop();
    }
}

impl Guest {
    fn start(answers: &Answers, profile: &Profile) -> Result<Self, ProbeError> {
        let ram = GuestRam::new(16 << 20, HugePages::None)?;
        let spec = VmSpec {
            vcpus: 1,
            log_dirty: false,
        };
        let vm = Vm::new(open()?, &ram, spec)?;
        let filter = filter::compile(answers.traps())?;
        if filter != filter::Filter::none() {
            vm.set_msr_filter(&filter)?;
        }
        let mut vcpu = vm.vcpu(0)?;
        vcpu.set_up(&vm.cpuid(profile)?, 1)?;
        vcpu.enter_at(&load_payload(&ram)?)?;
        let fleet = Fleet::new(1);
        let (send, news) = mpsc::sync_channel(4);
        let watch = Arc::new(Watch {
            fleet: fleet.clone(),
            news: send,
        });
        let mut bus = Bus::new();
        bus.attach(Box::new(Bell))?;
        let port = BusPort {
            bus: Arc::new(bus),
            sink: Arc::clone(&watch) as _,
        };
        let engine = answers.engine();
        let scribe = Arc::new(Scribe {
            handler: answers.handler(&engine),
            exits: Mutex::default(),
        });
        let handler = Arc::clone(&scribe) as Arc<dyn MsrHandler>;
        let notice = watch as Arc<dyn VcpuNotice>;
        fleet.start(vec![vcpu], &port, &handler, &notice, |_| Probe::off())?;
        fleet.resume();
        // It rings once when it is ready for its first batch.
        match news.recv_timeout(PATIENCE) {
            Ok(None) => {}
            Ok(Some(end)) => return Err(ProbeError::Payload(format!("{end:?}"))),
            Err(_) => return Err(ProbeError::Payload("it does not start".into())),
        }
        fleet.pause()?;
        let ready = fleet.ask(0, |vcpu| vcpu.save())??;
        let ready = (ready, VmState::save(vm.fd(), &engine)?);
        Ok(Self {
            fleet,
            ram,
            news,
            scribe,
            ready,
            engine,
            vm,
        })
    }

    fn batch(&self, ops: &[GuestOp]) -> Result<Result<Vec<Outcome>, Lost>, ProbeError> {
        ops::put(&self.ram, ops)?;
        self.exits().clear();
        self.fleet.resume();
        let ops_in_batch = u32::try_from(ops.len()).unwrap_or(u32::MAX);
        let patience = PATIENCE.saturating_add(PATIENCE_EACH.saturating_mul(ops_in_batch));
        let news = self.news.recv_timeout(patience);
        self.fleet.pause()?;
        Ok(match news {
            Ok(None) => Ok(self.outcomes(ops, ops::take(&self.ram, ops.len())?)),
            Ok(Some(end)) => Err(Lost::Ended(end)),
            Err(_) => Err(Lost::Hung),
        })
    }

    fn exits(&self) -> std::sync::MutexGuard<'_, Vec<ExitSeen>> {
        let exits = &self.scribe.exits;
        exits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exits come in the order of the operations, at most one for each.
    fn outcomes(&self, ops: &[GuestOp], seen: Vec<Seen>) -> Vec<Outcome> {
        let exits = self.exits();
        let mut exits = exits.iter().peekable();
        let mut outcomes = Vec::with_capacity(seen.len());
        for (op, seen) in ops.iter().zip(seen) {
            let (index, kind) = match *op {
                GuestOp::Read(index) => (index, Op::Read),
                GuestOp::Write(index, value) => (index, Op::Write(value)),
            };
            let own = exits.next_if(|exit| (exit.access.index, exit.access.op) == (index, kind));
            outcomes.push(Outcome {
                seen,
                exit: own.map(|exit| exit.access.reason),
            });
        }
        outcomes
    }
}

fn load_payload(ram: &GuestRam) -> Result<Entry, ProbeError> {
    let lacking = || ProbeError::Payload("it is not built in".into());
    let found = payload::find("msrops").ok_or_else(lacking)?;
    let image = Image::from_bytes(found.name, found.elf)?;
    let places = Places::default();
    let request = LoadRequest {
        protocol: Protocol::Linux,
        cmdline: &format!("msrops {TABLE:#x}"),
        initrd: None,
        modules: &[],
        rsdp: None,
        reserved: &[],
        places,
    };
    let Start::Long64 { rip, rsi } = load(ram, &image, &request)? else {
        return Err(lacking());
    };
    let tables = write_long_mode_tables(ram, &places)?;
    let flat = Flat::Long {
        rip,
        rsi,
        cr3: tables.cr3,
        rsp: STACK,
    };
    let segments = Segments {
        gdt_base: tables.gdt_base,
        gdt_limit: tables.gdt_limit,
        code: tables.cs,
        data: tables.ds,
        task: tables.tr,
    };
    Ok(Entry { flat, segments })
}

/// Does MSR operations in a guest; a guest that is lost is replaced.
pub struct Prober {
    answers: Answers,
    profile: Profile,
    guest: Guest,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// Starts a guest whose accesses a policy answers.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn new(policy: Policy, profile: Profile) -> Result<Self, ProbeError> {
        Self::start(Answers::Policy(Box::new(policy)), profile)
    }

    /// Starts a guest whose accesses `handler` answers, which may be a closure: those that KVM refuses, and
    /// of those that KVM would handle the ones in `traps`.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn answered_by(
        handler: impl MsrHandler + 'static,
        traps: Traps,
        profile: Profile,
    ) -> Result<Self, ProbeError> {
        Self::start(Answers::Handler(traps, Arc::new(handler)), profile)
    }

    fn start(answers: Answers, profile: Profile) -> Result<Self, ProbeError> {
        let guest = Guest::start(&answers, &profile)?;
        Ok(Self {
            answers,
            profile,
            guest,
        })
    }

    /// Does operations in their order.
    ///
    /// # Errors
    /// [`ProbeError`]; `Ok(Err(...))` when they cost the guest its life, which is a finding and no error.
    pub fn run(&mut self, ops: &[GuestOp]) -> Result<Result<Vec<Outcome>, Lost>, ProbeError> {
        let mut outcomes = Vec::with_capacity(ops.len());
        for batch in ops.chunks(BATCH) {
            match self.guest.batch(batch)? {
                Ok(more) => outcomes.extend(more),
                Err(lost) => {
                    self.guest = Guest::start(&self.answers, &self.profile)?;
                    return Ok(Err(lost));
                }
            }
        }
        Ok(Ok(outcomes))
    }

    /// What came out during the last batch.
    #[must_use]
    pub fn exits(&self) -> Vec<ExitSeen> {
        self.guest.exits().clone()
    }

    /// Puts the vCPU and the emulated MSRs back as they were before the first operation.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn restore(&mut self) -> Result<(), ProbeError> {
        let (ready, state) = self.guest.ready.clone();
        let emulated = state.restore_msrs(&self.guest.engine);
        let restored = self.guest.fleet.ask(0, move |vcpu| vcpu.restore(&ready))?;
        if restored.is_err() || emulated.is_err() {
            // What cannot be put back cannot be gone on from.
            self.guest = Guest::start(&self.answers, &self.profile)?;
        }
        Ok(())
    }

    /// Reads as the host; none when KVM does not give it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn host_read(&self, index: u32) -> Result<Value, ProbeError> {
        Ok(self.guest.fleet.ask(0, move |vcpu| vcpu.msr(index))??)
    }

    /// Writes as the host; whether KVM took it.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn host_write(&self, index: u32, data: u64) -> Result<bool, ProbeError> {
        let entry = kvm_bindings::kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let set = self
            .guest
            .fleet
            .ask(0, move |vcpu| vcpu.set_msrs(&[entry]))?;
        Ok(set.is_ok())
    }

    /// Whether KVM hands out what it refuses.
    #[must_use]
    pub fn sees_exits(&self) -> bool {
        self.guest.vm.sees_msrs()
    }
}
