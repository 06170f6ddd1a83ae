//! The vCPU threads: started paused, kicked, paused at an instruction boundary, asked, stopped.
//!
//! Each thread has its own orders behind its own lock; the run loop looks at one atomic flag per
//! iteration and takes the lock only when it is set. Whoever gives an order sets the flag and kicks.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vmm_sys_util::signal::Killable;

use crate::bus::BusPort;
use crate::msr::MsrHandler;
use crate::trace::Probe;

use super::counts::ExitCounts;
use super::kick::{self, Kick};
use super::vcpu::{Step, Vcpu, VcpuEnd};

/// Hears of vCPUs that cannot go on. Called on the vCPU's thread, which then pauses itself.
pub trait VcpuNotice: Send + Sync {
    /// vCPU `vcpu` came to an end.
    fn ended(&self, vcpu: u8, end: VcpuEnd);
}

/// One vCPU's end, for those who prefer a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcpuReport {
    /// Which.
    pub vcpu: u8,
    /// Why.
    pub end: VcpuEnd,
}

/// What a fleet could not do.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// No thread to be had.
    #[error("cannot start the thread of vCPU {vcpu}")]
    Thread {
        /// Which vCPU.
        vcpu: u8,
        /// Why.
        source: io::Error,
    },
    /// A vCPU that did not answer in time.
    #[error("vCPU {vcpu} did not {what} within {} s", limit.as_secs())]
    Slow {
        /// Which vCPU.
        vcpu: u8,
        /// What was asked.
        what: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// No such vCPU, or its thread is gone.
    #[error("there is no vCPU {0} to ask")]
    Gone(u8),
}

/// How long a vCPU may take to come out of the guest before something is wrong with the host.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Run,
    Pause,
    Leave,
}

type Job = Box<dyn FnOnce(&mut Vcpu) + Send>;

struct Orders {
    want: Want,
    /// The thread is out of the guest with nothing half done.
    paused: bool,
    gone: bool,
    jobs: VecDeque<Job>,
}

struct Control {
    pending: AtomicBool,
    orders: Mutex<Orders>,
    changed: Condvar,
    kick: Kick,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Mutex<Option<Arc<ExitCounts>>>,
}

impl Control {
    fn new() -> Self {
        let orders = Orders {
            want: Want::Pause,
            paused: false,
            gone: false,
            jobs: VecDeque::new(),
        };
        Self {
            pending: AtomicBool::new(true),
            orders: Mutex::new(orders),
            changed: Condvar::new(),
            kick: Kick::default(),
            thread: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        lock(&self.orders)
    }

    /// Changes the orders and makes the thread look at them.
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock());
        self.pending.store(true, Ordering::SeqCst);
        self.changed.notify_all();
        self.kick.set();
        if let Some(thread) = &*lock(&self.thread) {
            // A thread that has ended has nothing left to be kicked out of.
            let _ = thread.kill(kick::signal());
        }
    }

    fn wait(&self, until: Instant, done: impl Fn(&Orders) -> bool) -> bool {
        let mut orders = self.lock();
        while !done(&orders) {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return false;
            };
            let (back, _) = self
                .changed
                .wait_timeout(orders, left)
                .unwrap_or_else(PoisonError::into_inner);
            orders = back;
        }
        true
    }
}

/// All vCPUs of a machine. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet(Arc<[Control]>);

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fleet of {}", self.0.len())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Orders for `vcpus` vCPUs, none of which runs yet: whoever stops the machine can hold the
    /// fleet before there are threads.
    #[must_use]
    pub fn new(vcpus: usize) -> Self {
        Self((0..vcpus).map(|_| Control::new()).collect())
    }

    /// Starts one thread per vCPU, all paused.
    ///
    /// # Errors
    /// [`FleetError::Thread`].
    pub fn start(
        &self,
        vcpus: Vec<Vcpu>,
        port: &BusPort,
        msrs: &Arc<dyn MsrHandler>,
        notice: &Arc<dyn VcpuNotice>,
        probe: impl Fn(u8) -> Probe,
    ) -> Result<(), FleetError> {
        kick::install();
        for (index, vcpu) in vcpus.into_iter().enumerate() {
            let Some(control) = self.0.get(index) else {
                return Err(FleetError::Gone(vcpu.id()));
            };
            let id = vcpu.id();
            control.kick.attach(vcpu.page());
            *lock(&control.counts) = Some(Arc::clone(vcpu.counts()));
            let runner = Runner {
                fleet: self.clone(),
                index,
                vcpu,
                port: port.clone(),
                msrs: Arc::clone(msrs),
                notice: Arc::clone(notice),
                probe: probe(id),
            };
            let thread = thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(move || runner.run())
                .map_err(|source| FleetError::Thread { vcpu: id, source })?;
            *lock(&control.thread) = Some(thread);
        }
        Ok(())
    }

    /// Lets all vCPUs run.
    pub fn resume(&self) {
        for control in self.0.iter() {
            control.order(|o| {
                if o.want == Want::Pause {
                    (o.want, o.paused) = (Want::Run, false);
                }
            });
        }
    }

    /// Takes one vCPU out of the guest for a moment, and does not wait.
    pub fn nudge(&self, vcpu: u8) {
        if let Some(control) = self.0.get(usize::from(vcpu)) {
            control.order(|_| {});
        }
    }

    /// Orders all vCPUs to pause and does not wait: safe on a vCPU's own thread.
    pub fn order_pause(&self) {
        for control in self.0.iter() {
            control.order(|o| {
                if o.want == Want::Run {
                    o.want = Want::Pause;
                }
            });
        }
    }

    /// Pauses all vCPUs at an instruction boundary with their exits retired, and waits for it.
    ///
    /// # Errors
    /// [`FleetError::Slow`] with the vCPU that does not come out.
    pub fn pause(&self) -> Result<(), FleetError> {
        self.order_pause();
        let until = Instant::now()
            .checked_add(PATIENCE)
            .unwrap_or_else(Instant::now);
        for (vcpu, control) in (0..=u8::MAX).zip(self.0.iter()) {
            if !control.wait(until, |o| o.paused || o.gone) {
                return Err(FleetError::Slow {
                    vcpu,
                    what: "pause",
                    limit: PATIENCE,
                });
            }
        }
        Ok(())
    }

    /// Runs `job` on the vCPU's own thread, at an instruction boundary; a running vCPU goes on after.
    ///
    /// # Errors
    /// [`FleetError`] when there is no such vCPU or it does not come out.
    pub fn ask<R: Send + 'static>(
        &self,
        vcpu: u8,
        job: impl FnOnce(&mut Vcpu) -> R + Send + 'static,
    ) -> Result<R, FleetError> {
        let control = self
            .0
            .get(usize::from(vcpu))
            .ok_or(FleetError::Gone(vcpu))?;
        let (send, receive) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |vcpu| {
            let _ = send.send(job(vcpu));
        });
        let mut refused = false;
        control.order(|o| {
            refused = o.gone;
            if !refused {
                o.jobs.push_back(job);
            }
        });
        if refused {
            return Err(FleetError::Gone(vcpu));
        }
        receive.recv_timeout(PATIENCE).map_err(|e| match e {
            mpsc::RecvTimeoutError::Timeout => FleetError::Slow {
                vcpu,
                what: "answer",
                limit: PATIENCE,
            },
            mpsc::RecvTimeoutError::Disconnected => FleetError::Gone(vcpu),
        })
    }

    /// Stops all threads and waits for them.
    pub fn stop(&self) {
        for control in self.0.iter() {
            control.order(|o| o.want = Want::Leave);
        }
        for control in self.0.iter() {
            let thread = lock(&control.thread).take();
            if let Some(thread) = thread {
                // A thread that panicked has reported itself as a broken vCPU.
                let _ = thread.join();
            }
        }
    }

    /// How many vCPUs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The exit counters of one vCPU; none before it started.
    #[must_use]
    pub fn counts(&self, vcpu: u8) -> Option<Arc<ExitCounts>> {
        lock(&self.0.get(usize::from(vcpu))?.counts).clone()
    }
}

struct Runner {
    fleet: Fleet,
    index: usize,
    vcpu: Vcpu,
    port: BusPort,
    msrs: Arc<dyn MsrHandler>,
    notice: Arc<dyn VcpuNotice>,
    probe: Probe,
}

/// Whatever way the thread ends, nobody waits for it and nobody writes its run page any more.
struct Leaving<'a>(&'a Control, &'a Arc<dyn VcpuNotice>, u8);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.kick.detach();
        {
            let mut orders = self.0.lock();
            (orders.gone, orders.paused) = (true, true);
            orders.jobs.clear();
        }
        self.0.changed.notify_all();
        if thread::panicking() {
            let end = VcpuEnd::Broken("its thread panicked; this is a bug in Trapline".into());
            self.1.ended(self.2, end);
        }
    }
}

impl Runner {
    fn run(mut self) {
        let (controls, notice) = (Arc::clone(&self.fleet.0), Arc::clone(&self.notice));
        let Some(control) = controls.get(self.index) else {
            return;
        };
        let _leaving = Leaving(control, &notice, self.vcpu.id());
        loop {
            if control.pending.load(Ordering::SeqCst) && !self.obey(control) {
                return;
            }
            match self.vcpu.step(&self.port, &*self.msrs, &self.probe) {
                Step::Continue | Step::Interrupted => {}
                Step::End(end) => self.end(control, end),
            }
        }
    }

    fn end(&self, control: &Control, end: VcpuEnd) {
        {
            let mut orders = control.lock();
            if orders.want == Want::Run {
                orders.want = Want::Pause;
            }
        }
        control.pending.store(true, Ordering::SeqCst);
        self.notice.ended(self.vcpu.id(), end);
    }

    /// Does what was ordered; false when the thread is to leave.
    fn obey(&mut self, control: &Control) -> bool {
        control.pending.store(false, Ordering::SeqCst);
        let mut orders = control.lock();
        loop {
            if let Some(job) = orders.jobs.pop_front() {
                drop(orders);
                self.retire(control);
                job(&mut self.vcpu);
                orders = control.lock();
                continue;
            }
            match orders.want {
                Want::Leave => return false,
                Want::Run => {
                    orders.paused = false;
                    return true;
                }
                Want::Pause if !orders.paused => {
                    drop(orders);
                    self.retire(control);
                    orders = control.lock();
                    orders.paused = orders.want == Want::Pause;
                    control.changed.notify_all();
                }
                Want::Pause => {
                    orders = control
                        .changed
                        .wait(orders)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn retire(&mut self, control: &Control) {
        if let Step::End(end) = self.vcpu.retire(&self.port, &*self.msrs, &self.probe) {
            self.end(control, end);
        }
    }
}
