//! The main thread of a run: it waits for everything, notes what ends the run, and ends it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::timerfd::TimerFd;

use crate::boot::job::INIT_FAILED;
use crate::bus::{Clock, Effect};
use crate::chipset::HostInput;
use crate::msr::policy::Policy;
use crate::vm::{FleetError, VcpuEnd};

use super::board::Board;
use super::console::{Console, Heard};
use super::control::{ControlServer, Name, Place};
use super::deadline::DeadlineTimer;
use super::end::End;
use super::escape::Escape;
use super::hang::Verdict;
use super::hex::Hex;
use super::notice::{Notice, Post};
use super::outcome::{Next, Outcome};
use super::printk::Level;
use super::pulse::Pulse;
use super::run::RunError;
use super::signals;
use super::spec::{Input, Rules};
use super::stdin::{Stdin, Typed};
use super::thrift;
use super::timeline::{Step, Timeline};
use super::verbs;
use super::watch::Sighting;

/// How often the run is looked at when nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// How long a kernel in trouble may take to print the rest of its report.
const SETTLE: Duration = Duration::from_secs(3);

/// What epoll's data says about who is ready.
const WAKE: u32 = 0;
const SIGNAL: u32 = 1;
const TICKED: u32 = 2;
const DEADLINE: u32 = 3;
const STDIN: u32 = 4;

/// Where the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The guest runs.
    Running,
    /// `ctl pause` stopped it.
    Paused,
    /// It is over; the vCPUs are paused.
    Over,
}

/// Where a run can be reached.
#[derive(Debug)]
pub struct Control {
    /// The folder of sockets.
    pub place: Place,
    /// This run's name.
    pub name: Name,
}

/// A run in progress.
pub struct Desk {
    board: Board,
    post: Arc<Post>,
    deadlines: Arc<DeadlineTimer>,
    console: Console,
    rules: Rules,
    outcome: Outcome,
    standing: Standing,
    started: Instant,
    settle_until: Option<Instant>,
    stdin: Stdin,
    /// Where what it reads goes.
    input: HostInput,
    tick: TimerFd,
    say: Box<dyn Fn(&str)>,
    pulse: Option<Pulse>,
    timeline: Arc<Timeline>,
}

impl Desk {
    /// A run of `board`, whose vCPUs are still paused.
    ///
    /// # Errors
    /// When the host gives no timer.
    pub fn new(
        board: Board,
        post: Arc<Post>,
        deadlines: Arc<DeadlineTimer>,
        console: Console,
        rules: Rules,
        say: Box<dyn Fn(&str)>,
        timeline: Arc<Timeline>,
    ) -> io::Result<Self> {
        let mut tick = TimerFd::new().map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        tick.reset(TICK, Some(TICK))
            .map_err(|e| io::Error::from_raw_os_error(e.errno()))?;
        let outcome = Outcome::new(rules.on_oops, rules.on_reboot).with_exit_rule(rules.exit_rule);
        let wanted = rules.input != Input::Nowhere;
        let stdin = Stdin::new(wanted, Escape::new(rules.escape));
        let input = match rules.input {
            Input::Command => board.piped().clone(),
            Input::Console | Input::Nowhere => board.input().clone(),
        };
        let pulse = rules
            .hang
            .map(|patience| Pulse::new(patience, Duration::ZERO));
        let room = Arc::clone(&post);
        input.on_room(move || room.put(Notice::InputRoom));
        Ok(Self {
            board,
            post,
            deadlines,
            console,
            rules,
            outcome,
            standing: Standing::Running,
            started: Instant::now(),
            settle_until: None,
            stdin,
            input,
            tick,
            say,
            pulse,
            timeline,
        })
    }

    /// Runs the guest until the run is over, and gives the desk back with the vCPUs paused.
    ///
    /// # Errors
    /// When the event loop itself fails.
    pub fn run(self, control: &Control) -> Result<Self, RunError> {
        let name = control.name.as_str().to_owned();
        let desk = Rc::new(RefCell::new(self));
        let server = ControlServer::new(&control.place, &control.name, verbs::of(&desk, &name))?;
        let failed = |e: event_manager::Error| RunError::Host {
            what: "wait for events",
            source: io::Error::other(e.to_string()),
        };
        let mut manager =
            EventManager::<Rc<RefCell<dyn MutEventSubscriber>>>::new().map_err(failed)?;
        manager.add_subscriber(Rc::clone(&desk) as _);
        manager.add_subscriber(Rc::new(RefCell::new(server)) as _);
        desk.borrow().timeline.mark(Step::FirstRun);
        desk.borrow().board.resume();
        while desk.borrow().standing != Standing::Over {
            manager.run().map_err(failed)?;
        }
        // The manager holds the desk and the verbs, which hold it too.
        drop(manager);
        let desk = Rc::into_inner(desk).ok_or_else(|| RunError::Host {
            what: "take the run apart",
            source: io::Error::other("something still holds its desk"),
        })?;
        Ok(desk.into_inner())
    }

    /// Notes an end and does what follows from it.
    pub fn note(&mut self, end: End) {
        if self.standing == Standing::Over {
            // What vCPUs still had to say when they were paused counts, but changes nothing.
            self.outcome.note(end);
            return;
        }
        match self.outcome.note(end) {
            Next::GoOn => {}
            Next::Settle => {
                let until = Instant::now().checked_add(SETTLE);
                self.settle_until = self.settle_until.or(until);
            }
            Next::Reset => self.reset(),
            Next::Stop => self.stop(),
        }
    }

    fn reset(&mut self) {
        match self.board.reset() {
            Ok(()) => {
                self.restart_pulse();
                self.board.resume();
            }
            Err(error) => self.note(vmm(&error)),
        }
    }

    /// Ends the run: every vCPU at an instruction boundary, whatever it waits for.
    fn stop(&mut self) {
        self.standing = Standing::Over;
        self.console.hold_back(false);
        if let Err(error) = self.board.pause() {
            self.outcome.note(vmm(&error));
        }
        self.hear_out();
        while let Some(notice) = self.post.take() {
            self.heed(notice);
        }
    }

    fn heed(&mut self, notice: Notice) {
        match notice {
            Notice::Vcpu(vcpu, end) => {
                let end = match (end, self.pulse.as_ref().and_then(Pulse::suspected)) {
                    // A guest that hangs without a handler for our NMI fell over it.
                    (VcpuEnd::TripleFault, Some(hang)) => End::Hung { hang: hang.clone() },
                    (end, _) => of_vcpu(vcpu, end),
                };
                self.note(end);
            }
            Notice::Effect(effect) => {
                self.hear_out();
                self.effect(effect);
            }
            Notice::Console(heard) => self.heard(heard),
            Notice::Say(line) => (self.say)(&line),
            Notice::InputRoom => {}
        }
    }

    /// Heeds everything printed so far. A kernel that panics and resets at once has printed first.
    fn hear_out(&mut self) {
        self.console.catch_up();
        while let Some(heard) = self.post.take_heard() {
            self.heard(heard);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reset(_) => self.note(End::Rebooted),
            Effect::PowerOff => self.note(End::PoweredOff),
            Effect::Exit(value) => self.note(End::Exited { value: Hex(value) }),
            Effect::Report(value) if value == u64::from(INIT_FAILED) => {
                let error = "the guest's init could not do its job; its console says why".into();
                self.note(End::Vmm { error });
            }
            Effect::Report(value) => self.note(End::Reported { value: Hex(value) }),
            Effect::Panicked => {
                self.note(End::Panicked {
                    line: "reported through pvpanic".into(),
                });
            }
            // A crash kernel starts in place of this one; its own words will follow.
            Effect::CrashLoaded | Effect::Milestone(_) => {}
            // The bus applies these itself.
            Effect::Place { .. } | Effect::Withdraw { .. } => {}
        }
    }

    fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Sighting(Sighting::Alarm(alarm)) => match alarm.level {
                Level::Panic => self.note(End::Panicked { line: alarm.line }),
                Level::Oops => self.note(End::Oopsed { line: alarm.line }),
                Level::Warning => {}
            },
            Heard::Sighting(Sighting::ReportEnds) => {
                if self.settle_until.is_some() && self.standing != Standing::Over {
                    self.stop();
                }
            }
            Heard::Gone(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.note(End::Signal {
                    number: libc::SIGPIPE,
                });
            }
            Heard::Gone(error) => self.note(End::Vmm {
                error: format!("cannot write the guest's console to standard output: {error}"),
            }),
            Heard::FirstByte(_) => {}
        }
    }

    fn ticked(&mut self) {
        // By the first tick the guest runs and all that starts it has been run.
        static STARTED: Once = Once::new();
        STARTED.call_once(thrift::drop_code);
        let now = Instant::now();
        if self.settle_until.is_some_and(|until| now >= until) {
            self.stop();
            return;
        }
        if let Some(after) = self.rules.timeout
            && self.started.elapsed() >= after
        {
            self.note(End::TimedOut { after });
        }
        if self.standing == Standing::Running {
            self.board.hasten_writes();
            self.feel_pulse();
        }
    }

    fn feel_pulse(&mut self) {
        let now = self.started.elapsed();
        let Some(pulse) = &mut self.pulse else { return };
        match pulse.feel(now, self.board.fleet(), self.console.bytes()) {
            Verdict::Fine => {}
            Verdict::SendNmi(vcpus) => {
                for vcpu in vcpus {
                    // One that takes none is about to be judged anyway.
                    let _ = self.board.fleet().ask(vcpu, |vcpu| vcpu.nmi());
                }
            }
            Verdict::Hung(hang) => self.note(End::Hung { hang }),
        }
    }

    /// Guest time stood still or began anew: what happened before says nothing about a hang.
    fn restart_pulse(&mut self) {
        let now = self.started.elapsed();
        if let Some(pulse) = &mut self.pulse {
            pulse.restart(now);
        }
    }

    /// Wakes devices whose deadline may have come.
    pub(super) fn due(&self) {
        self.deadlines.fired();
        if self.standing == Standing::Running {
            self.wake_devices();
        }
    }

    fn wake_devices(&self) {
        let port = self.board.port();
        if let Some(next) = port.bus.wake(self.board.clock().now(), &*port.sink) {
            self.deadlines.arm(next);
        }
    }

    fn pump(&mut self, readable: bool, ops: &mut EventOps<'_>) {
        let typed = self.stdin.pump(readable, &self.input, STDIN, ops);
        for typed in typed {
            match typed {
                Typed::Bytes => self.wake_devices(),
                Typed::Leave => self.note(End::Signal {
                    number: libc::SIGINT,
                }),
                Typed::Help => (self.say)(&self.stdin.help()),
            }
        }
    }

    /// Stops the guest until [`Desk::resume`].
    ///
    /// # Errors
    /// When a vCPU does not come out of the guest.
    pub fn pause(&mut self) -> Result<(), FleetError> {
        if self.standing == Standing::Running {
            self.console.hold_back(false);
            self.board.pause()?;
            self.console.hold_back(true);
            self.standing = Standing::Paused;
        }
        Ok(())
    }

    /// Lets a paused guest go on.
    pub fn resume(&mut self) {
        if self.standing == Standing::Paused {
            self.standing = Standing::Running;
            self.restart_pulse();
            self.board.resume();
            self.due();
        }
    }

    /// Changes the MSR policy at an instruction boundary of every vCPU; the guest goes on if it ran.
    ///
    /// # Errors
    /// What is wrong with the policy, or with pausing; the old policy stays.
    pub fn set_msr_policy(&mut self, policy: Policy) -> Result<Vec<String>, String> {
        let chain = |error: &dyn std::error::Error| vmm(error).to_string();
        let ran = self.standing == Standing::Running;
        self.pause().map_err(|error| chain(&error))?;
        let set = self.board.set_msr_policy(policy);
        if ran {
            self.resume();
        }
        set.map_err(|error| chain(&error))
    }

    /// Where the run stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Since the run began.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where effects go that no device asked for.
    #[must_use]
    pub fn sink(&self) -> Arc<Post> {
        Arc::clone(&self.post)
    }

    /// The ends so far.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The board.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    /// Takes the desk apart when the run is over.
    #[must_use]
    pub fn into_parts(self) -> (Board, Console, Outcome) {
        (self.board, self.console, self.outcome)
    }
}

impl MutEventSubscriber for Desk {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let mut add = |events: Events| {
            if let Err(error) = ops.add(events) {
                self.outcome.note(End::Vmm {
                    error: format!("cannot wait for events: {error}"),
                });
                self.standing = Standing::Over;
            }
        };
        add(Events::with_data(self.post.wake(), WAKE, EventSet::IN));
        add(Events::with_data(&self.tick, TICKED, EventSet::IN));
        add(Events::with_data(&*self.deadlines, DEADLINE, EventSet::IN));
        match signals::watch() {
            Ok(fd) => add(Events::with_data(fd, SIGNAL, EventSet::IN)),
            Err(error) => self.note(vmm(&error)),
        }
        self.stdin.register(STDIN, ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            WAKE => {
                let _ = self.post.wake().read();
                let mut room = false;
                while self.standing != Standing::Over {
                    let Some(notice) = self.post.take() else {
                        break;
                    };
                    room |= matches!(notice, Notice::InputRoom);
                    self.heed(notice);
                }
                if room {
                    self.pump(false, ops);
                }
            }
            SIGNAL => {
                for number in signals::take() {
                    if number != libc::SIGWINCH {
                        self.note(End::Signal { number });
                    }
                }
            }
            TICKED => {
                let _ = self.tick.wait();
                self.ticked();
                self.pump(false, ops);
            }
            DEADLINE => self.due(),
            STDIN => self.pump(true, ops),
            _ => {}
        }
    }
}

fn vmm(error: &dyn std::error::Error) -> End {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    End::Vmm { error: text }
}

fn of_vcpu(vcpu: u8, end: VcpuEnd) -> End {
    match end {
        VcpuEnd::TripleFault => End::TripleFault { vcpu },
        VcpuEnd::InternalError { suberror, data } => End::InternalError {
            suberror,
            data: data.into_iter().map(Hex).collect(),
        },
        VcpuEnd::FailedEntry { reason, cpu } => End::FailedEntry {
            reason: Hex(reason),
            cpu,
        },
        VcpuEnd::SystemEvent(kind) => End::Vmm {
            error: format!(
                "vCPU {vcpu}: KVM system event {kind}, which this board does not ask for"
            ),
        },
        VcpuEnd::Failed { errno, address } => {
            let cause = io::Error::from_raw_os_error(errno);
            let at = address
                .map(|a| format!(" at guest address {a:#x}"))
                .unwrap_or_default();
            End::Vmm {
                error: format!("vCPU {vcpu}: KVM_RUN failed{at}: {cause}"),
            }
        }
        VcpuEnd::Unexpected(what) => End::Vmm {
            error: format!("vCPU {vcpu}: an exit this run never asks for: {what}"),
        },
        VcpuEnd::StoppedByPolicy(rule) => End::Policy { rule },
        VcpuEnd::Broken(what) => End::Vmm {
            error: format!("vCPU {vcpu}: {what}"),
        },
    }
}
