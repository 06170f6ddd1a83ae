//! Every MSR access of a run and its answer, kept until the run is over, when there are names for addresses.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{Clock, HostClock};
use crate::mem::{Gpa, GuestRam};
use crate::msr::record::Recorded;
use crate::msr::{Cpu, Engine, MsrAccess, MsrAnswer, MsrHandler};

use super::postmortem::{Names, Symbol};

/// Accesses that are kept; a boot of Linux has some thousands. More are counted.
const KEPT: usize = 1 << 20;
const PAGE: u64 = 4096;

/// Keeps what the engine answers.
pub struct Recorder {
    kept: Mutex<Vec<Recorded>>,
    lost: AtomicU64,
    clock: Arc<HostClock>,
}

/// Where an access was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The code of the instruction.
    pub symbol: Option<Symbol>,
    /// Who called it, when it is an accessor that a kernel with paravirtual operations keeps out of line.
    pub caller: Option<Symbol>,
}

/// Such accessors push at most one register before the instruction (Linux, asm/msr.h and asm/paravirt.h, as gcc
/// compiles them).
const ACCESSORS: [&str; 4] = [
    "native_read_msr",
    "native_write_msr",
    "paravirt_read_msr",
    "paravirt_write_msr",
];

fn is_accessor(symbol: &Symbol) -> bool {
    ACCESSORS.iter().any(|name| symbol.name.starts_with(name))
}

impl Place {
    fn of(one: &Recorded, names: &Names<'_>) -> Self {
        let symbol = one.rip.and_then(|rip| names.of_code(rip));
        let called = symbol.as_ref().is_some_and(is_accessor);
        let stack = one.stack.filter(|_| called).into_iter().flatten();
        let mut code = stack.filter_map(|at| names.of_code(at));
        Self {
            symbol,
            caller: code.find(|symbol| !is_accessor(symbol)),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// A run's accesses.
#[derive(Debug, Default)]
pub struct MsrTrace {
    /// In the order of guest time, with names for where they were made.
    pub accesses: Vec<(Recorded, Place)>,
    /// Accesses beyond what is kept.
    pub lost: u64,
}

impl Recorder {
    pub(super) fn new(clock: Arc<HostClock>) -> Self {
        Self {
            kept: Mutex::default(),
            lost: AtomicU64::new(0),
            clock,
        }
    }

    /// The engine, overheard.
    pub(super) fn around(self: Arc<Self>, engine: Arc<Engine>, ram: GuestRam) -> impl MsrHandler {
        Overheard {
            recorder: self,
            engine,
            ram,
        }
    }

    fn keep(&self, one: Recorded) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(one);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was kept, with names.
    pub(super) fn finish(&self, names: &Names<'_>) -> MsrTrace {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut accesses: Vec<_> = std::mem::take(&mut *kept)
            .into_iter()
            .map(|one| (one, Place::of(&one, names)))
            .collect();
        accesses.sort_by_key(|(one, _)| one.ns);
        MsrTrace {
            accesses,
            lost: self.lost.load(Ordering::Relaxed),
        }
    }
}

struct Overheard {
    recorder: Arc<Recorder>,
    engine: Arc<Engine>,
    ram: GuestRam,
}

impl MsrHandler for Overheard {
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let (ns, rip) = (self.recorder.clock.now().0, cpu.rip());
        let stack = cpu.stack().and_then(|at| {
            let mut words = [0; 4];
            for (word, offset) in words.iter_mut().zip((0..).step_by(8)) {
                let mut bytes = [0; 8];
                // The next page may lie anywhere.
                if at % PAGE + offset + 8 <= PAGE {
                    self.ram.read(Gpa(at + offset), &mut bytes).ok()?;
                }
                *word = u64::from_le_bytes(bytes);
            }
            Some(words)
        });
        let answer = self.engine.answer(access, cpu);
        self.recorder.keep(Recorded {
            ns,
            access,
            rip,
            stack,
            answer,
        });
        answer
    }

    fn why(&self, access: MsrAccess) -> String {
        self.engine.why(access)
    }
}
