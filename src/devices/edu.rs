//! `edu`, QEMU's device for learning to write drivers (QEMU docs/specs/edu.rst), with the same id,
//! registers and timing, so that drivers written for it run here.
//!
//! Different on purpose: a transfer that leaves the buffer does nothing, where QEMU ends or goes on;
//! and a reset resets it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Clock, Effects, Ns, Refusal, ResetKind, StateError, Width, Worker, state,
};
use crate::dma::{Dma, Iova};
use crate::pci::{Bar, BarKind, Capability, Header, Interrupts, MsiShape, PciDevice, Pin, Shape};

/// Address bits of its DMA engine, unless told otherwise.
pub const DEFAULT_DMA_BITS: u8 = 28;

/// Registers by offset.
const ID: u64 = 0x00;
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const IRQ_STATUS: u64 = 0x24;
const IRQ_RAISE: u64 = 0x60;
const IRQ_ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
/// Registers from here on can be 64 bits wide.
const WIDE: u64 = 0x80;

/// Major and minor version in the upper half.
const ID_VALUE: u64 = 0x0100_00ed;

/// STATUS: the factorial is being computed (read-only); its end interrupts.
const COMPUTING: u32 = 0x01;
const IRQ_FACTORIAL: u32 = 0x80;
/// DMA_COMMAND: go; to memory; its end interrupts.
const RUN: u64 = 1 << 0;
const TO_MEMORY: u64 = 1 << 1;
const DMA_IRQ: u64 = 1 << 2;
/// IRQ_STATUS: why.
const BY_FACTORIAL: u32 = 0x001;
const BY_DMA: u32 = 0x100;

/// Where the DMA engine sees its buffer; the CPU does not see it.
const BUFFER: u64 = 0x4_0000;
const BUFFER_LEN: usize = 4096;
/// From the command to the transfer.
const DMA_DELAY: u64 = 100_000_000;

const HEADER: Header = Header {
    revision: 0x10,
    pin: Some(Pin::A),
    subsystem: (0x1af4, 0x1100),
    ..Header::new(0x1234, 0x11e8, 0x00_ff00)
};
const BAR: Bar = Bar {
    index: 0,
    name: "registers",
    kind: BarKind::Memory32,
    len: 1 << 20,
};

/// What the worker changes too.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Work {
    factorial: u32,
    status: u32,
    irq_status: u32,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Engine {
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
    /// When the transfer happens, while RUN is set.
    due: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    liveness: u32,
    work: Work,
    dma: Engine,
    buffer: Vec<u8>,
}

/// Status and interrupts, shared with the worker: a leaf in the lock order, before the interrupts.
#[derive(Clone)]
struct Shared {
    work: Arc<Mutex<Work>>,
    interrupts: Interrupts,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message, or the level of INTx: set with the lock held, lest an acknowledgement on another
    /// thread come between.
    fn raise(&self, mut work: MutexGuard<'_, Work>, why: u32) {
        work.irq_status |= why;
        if self.interrupts.uses_messages() {
            // A message may wait for an IOMMU.
            drop(work);
            self.interrupts.message(0);
        } else {
            self.interrupts.set_level(work.irq_status != 0);
        }
    }

    fn acknowledge(&self, why: u32) {
        let mut work = self.lock();
        work.irq_status &= !why;
        if work.irq_status == 0 {
            self.interrupts.set_level(false);
        }
    }

    /// The worker's job.
    fn compute(&self, of: u32) {
        let factorial = factorial(of);
        let mut work = self.lock();
        work.factorial = factorial;
        work.status &= !COMPUTING;
        if work.status & IRQ_FACTORIAL != 0 {
            self.raise(work, BY_FACTORIAL);
        }
    }
}

/// `of`! modulo 2^32. From 34 on it is zero, so this never takes long.
fn factorial(of: u32) -> u32 {
    let mut product = 1_u32;
    for factor in (1..=of).rev() {
        product = product.wrapping_mul(factor);
        if product == 0 {
            break;
        }
    }
    product
}

/// The device.
pub struct Edu {
    dma: Dma,
    shared: Shared,
    clock: Arc<dyn Clock>,
    worker: Worker<u32>,
    /// Ones where its DMA engine has address bits.
    mask: u64,

    liveness: u32,
    engine: Engine,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Edu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Edu").field(&self.engine).finish()
    }
}

impl Edu {
    /// A device whose DMA engine has `bits` address bits.
    ///
    /// # Errors
    /// The worker could not be started.
    pub fn new(
        dma: Dma,
        interrupts: Interrupts,
        clock: Arc<dyn Clock>,
        bits: u8,
    ) -> io::Result<Self> {
        let shared = Shared {
            work: Arc::default(),
            interrupts,
        };
        let theirs = shared.clone();
        Ok(Self {
            dma,
            shared,
            clock,
            worker: Worker::start("edu", move |of| theirs.compute(of))?,
            mask: u64::MAX
                .checked_shr(64_u32.saturating_sub(bits.into()))
                .unwrap_or(0),
            liveness: 0,
            engine: Engine::default(),
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// The part of the buffer from bus address `at`; none when the transfer would leave it.
    fn part(&mut self, at: u64) -> Option<&mut [u8]> {
        let start = usize::try_from(at.checked_sub(BUFFER)?).ok()?;
        let end = start.checked_add(usize::try_from(self.engine.count).ok()?)?;
        self.buffer.get_mut(start..end)
    }

    /// The transfer. One that leaves the buffer, or that an IOMMU or the Bus Master bit stops, ends
    /// like any other: the device has no way to say so.
    fn transfer(&mut self) {
        let (dma, mask) = (self.dma.clone(), self.mask);
        let (source, destination) = (self.engine.source, self.engine.destination);
        if self.engine.command & TO_MEMORY == 0 {
            if let Some(part) = self.part(destination) {
                let _ = dma.read(Iova(source & mask), part);
            }
        } else if let Some(part) = self.part(source) {
            let _ = dma.write(Iova(destination & mask), part);
        }
        self.engine.command &= !RUN;
        if self.engine.command & DMA_IRQ != 0 {
            self.shared.raise(self.shared.lock(), BY_DMA);
        }
    }

    fn start_dma(&mut self, command: u64) {
        self.engine.command = command;
        self.engine.due = self.clock.now().0.saturating_add(DMA_DELAY);
    }

    const fn check(at: Access) -> Answer<()> {
        match at.width {
            Width::Dword => Ok(()),
            Width::Qword if at.offset >= WIDE => Ok(()),
            _ => Err(Refusal::BadWidth),
        }
    }
}

impl PciDevice for Edu {
    fn label(&self) -> &'static str {
        "edu"
    }

    fn shape(&self) -> Shape {
        Shape {
            bars: vec![BAR],
            capabilities: vec![Capability::Msi(MsiShape {
                vectors_log2: 0,
                masks: false,
            })],
            ..Shape::new(HEADER)
        }
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        Self::check(at)?;
        Ok(match at.offset {
            ID => ID_VALUE,
            LIVENESS => self.liveness.into(),
            FACTORIAL => self.shared.lock().factorial.into(),
            STATUS => self.shared.lock().status.into(),
            IRQ_STATUS => self.shared.lock().irq_status.into(),
            DMA_SOURCE => self.engine.source,
            DMA_DESTINATION => self.engine.destination,
            DMA_COUNT => self.engine.count,
            DMA_COMMAND => self.engine.command,
            _ => return Err(Refusal::NoSuchRegister),
        })
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        Self::check(at)?;
        let low = u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        // While a transfer runs, its registers cannot be written.
        let idle = self.engine.command & RUN == 0;
        match at.offset {
            LIVENESS => self.liveness = !low,
            FACTORIAL => {
                let mut work = self.shared.lock();
                if work.status & COMPUTING == 0 {
                    work.factorial = low;
                    work.status |= COMPUTING;
                    drop(work);
                    self.worker.give(low);
                }
            }
            STATUS => {
                let mut work = self.shared.lock();
                work.status = work.status & !IRQ_FACTORIAL | low & IRQ_FACTORIAL;
            }
            IRQ_RAISE => self.shared.raise(self.shared.lock(), low),
            IRQ_ACKNOWLEDGE => self.shared.acknowledge(low),
            DMA_SOURCE if idle => self.engine.source = value,
            DMA_DESTINATION if idle => self.engine.destination = value,
            DMA_COUNT if idle => self.engine.count = value,
            DMA_COMMAND if idle && value & RUN != 0 => self.start_dma(value),
            DMA_SOURCE | DMA_DESTINATION | DMA_COUNT | DMA_COMMAND => {}
            _ => return Err(Refusal::NoSuchRegister),
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.worker.drain();
        *self.shared.lock() = Work::default();
        self.shared.interrupts.set_level(false);
        self.liveness = 0;
        self.engine = Engine::default();
        self.buffer.fill(0);
    }

    /// Waits for a factorial under way, so that none has to be saved.
    fn save(&self) -> serde_json::Value {
        self.worker.drain();
        state::save(&State {
            liveness: self.liveness,
            work: self.shared.lock().clone(),
            dma: self.engine.clone(),
            buffer: self.buffer.clone(),
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("edu", possible, what);
        check(
            loaded.buffer.len() == BUFFER_LEN,
            "a buffer of another size",
        )?;
        check(
            loaded.work.status & !IRQ_FACTORIAL == 0,
            "a factorial under way, or reserved bits of STATUS",
        )?;
        self.worker.drain();
        *self.shared.lock() = loaded.work;
        self.liveness = loaded.liveness;
        self.engine = loaded.dma;
        self.buffer = loaded.buffer;
        Ok(())
    }

    fn deadline(&self) -> Option<Ns> {
        (self.engine.command & RUN != 0).then_some(Ns(self.engine.due))
    }

    fn wake(&mut self, _: &mut Effects) {
        if self.deadline().is_some_and(|at| at <= self.clock.now()) {
            self.transfer();
        }
    }

    fn park(&mut self) {
        self.worker.drain();
    }
}

#[cfg(test)]
#[path = "edu_tests.rs"]
mod tests;
