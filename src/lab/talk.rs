//! The conversation with a lab: from the command handed in to the last word on it.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::command::Exit;
use super::error::LabError;
use super::machine::Machine;
use super::pump::{self, Leave, Output};
use super::signals;
use super::terminal::{self, Streams};
use super::tunnel::{self, Tunnel};
use super::wire::{self, Frame, Job};
use crate::machine::RawTerminal;

/// How long a command may take to end after a signal that asks it to.
const GRACE: Duration = Duration::from_secs(10);
/// Two signals closer than this mean: end it, whatever the command makes of them.
const TWICE: Duration = Duration::from_secs(3);

/// What a command is ended by when its terminal's user leaves.
const SIGTERM: u8 = 15;

/// What happens while a lab runs.
#[derive(Debug)]
pub(super) enum Event {
    /// The lab says something.
    Frame(Frame),
    /// The control port is closed: QEMU has ended.
    Gone,
    /// An output of the command has come to its end.
    Ended,
    /// Nobody reads this output of ours.
    Unwanted(Output),
    /// We got a signal.
    Signal(u8),
    /// The user of the terminal wants to be rid of the lab.
    Leave,
}

/// One command in one lab.
#[derive(Debug)]
pub(super) struct Talk {
    control: UnixStream,
    stdin: Arc<UnixStream>,
    /// The command's outputs, until somebody listens to them.
    outputs: Vec<(Output, UnixStream)>,
    look: Streams,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    threads: Threads,
    stage: Stage,
    /// How many of the outputs have not ended.
    open: usize,
    /// How the command ended.
    ended: Option<Exit>,
    /// The signal that last asked the command to end, and when.
    asked: Option<(Instant, u8)>,
    /// When waiting ends.
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// The lab is coming up, and may take this long.
    Starting(Duration),
    /// The command runs; the terminal is raw when it has one.
    Running(Option<RawTerminal>),
}

/// The threads of a conversation, and the pipe that stops them by closing.
#[derive(Debug)]
struct Threads {
    stop: PipeWriter,
    stopped: PipeReader,
    running: Vec<JoinHandle<()>>,
}

impl Talk {
    pub(super) fn new(
        control: UnixStream,
        stdin: UnixStream,
        [stdout, stderr]: [UnixStream; 2],
        look: Streams,
    ) -> Result<Self, LabError> {
        let (events, inbox) = mpsc::channel();
        let (stopped, stop) = io::pipe().map_err(LabError::io("create a pipe"))?;
        Ok(Self {
            control,
            stdin: Arc::new(stdin),
            outputs: vec![(Output::Stdout, stdout), (Output::Stderr, stderr)],
            look,
            events,
            inbox,
            threads: Threads {
                stop,
                stopped,
                running: Vec::new(),
            },
            stage: Stage::Starting(Duration::ZERO),
            open: 2,
            ended: None,
            asked: None,
            deadline: None,
        })
    }

    /// Lets connections through to the command.
    pub(super) fn dig(&mut self, tunnel: &Tunnel, port: UnixStream) -> Result<(), LabError> {
        let listener = Arc::clone(&tunnel.listener);
        let threads = tunnel::open(listener, port, self.stopped()?);
        self.threads
            .running
            .extend(threads.map_err(LabError::io("copy a socket"))?);
        Ok(())
    }

    /// Hands the command in and stays until its last word. QEMU has ended after it.
    pub(super) fn hold(
        mut self,
        mut machine: Machine,
        job: Job,
        limit: Duration,
    ) -> Result<Exit, LabError> {
        self.stage = Stage::Starting(limit);
        self.deadline = Some(Instant::now() + limit);
        self.listen()?;
        let told = Frame::Run(job).send(&mut self.control);
        let result = match told {
            Ok(()) => self.converse(&mut machine),
            Err(_) => Err(machine.died(" before it was told what to run")),
        };
        // QEMU ends first: every socket a thread waits for closes with it.
        drop(machine);
        let Threads {
            stop,
            stopped: _,
            running,
        } = self.threads;
        drop(stop);
        for thread in running {
            let _ = thread.join();
        }
        result
    }

    /// From now on the lab and signals are heard.
    fn listen(&mut self) -> Result<(), LabError> {
        let mut control = self
            .control
            .try_clone()
            .map_err(LabError::io("copy a socket"))?;
        let tell = self.events.clone();
        self.threads.running.push(thread::spawn(move || {
            while let Ok(frame) = Frame::receive(&mut control) {
                let _ = tell.send(Event::Frame(frame));
            }
            let _ = tell.send(Event::Gone);
        }));

        let caught = signals::catch().map_err(LabError::io("catch signals"))?;
        let stopped = self.stopped()?;
        let tell = self.events.clone();
        self.threads.running.push(thread::spawn(move || {
            loop {
                let mut fds = [
                    PollFd::from_borrowed_fd(caught.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN),
                ];
                let _ = poll(&mut fds, None);
                let [_, stop] = fds.map(|fd| !fd.revents().is_empty());
                if stop {
                    return;
                }
                while let Some(number) = signals::next(caught) {
                    let _ = tell.send(Event::Signal(number));
                }
            }
        }));
        Ok(())
    }

    fn stopped(&self) -> Result<PipeReader, LabError> {
        let stopped = self.threads.stopped.try_clone();
        stopped.map_err(LabError::io("copy a pipe"))
    }

    fn converse(&mut self, machine: &mut Machine) -> Result<Exit, LabError> {
        loop {
            if self.open == 0
                && let Some(exit) = self.ended.take()
            {
                return Ok(exit);
            }
            let event = match self.deadline {
                None => self.inbox.recv().map_err(RecvTimeoutError::from),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.inbox.recv_timeout(left)
                }
            };
            let last = match event {
                Ok(Event::Frame(frame)) => self.hear(frame, machine)?,
                Ok(Event::Ended) => {
                    self.open -= 1;
                    None
                }
                Ok(Event::Unwanted(which)) => {
                    let stream = if which == Output::Stdout { 1 } else { 2 };
                    let _ = Frame::Closed(stream).send(&mut self.control);
                    None
                }
                Ok(Event::Signal(number)) => self.pass_on(number),
                Ok(Event::Leave) => Some(Exit::Signal(SIGTERM)),
                Ok(Event::Gone) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(machine.died(match self.stage {
                        Stage::Starting(_) => " before it was up",
                        Stage::Running(_) => " while its command ran",
                    }));
                }
                Err(RecvTimeoutError::Timeout) => Some(self.too_late(machine)?),
            };
            if let Some(exit) = last {
                return Ok(exit);
            }
        }
    }

    fn hear(&mut self, frame: Frame, machine: &mut Machine) -> Result<Option<Exit>, LabError> {
        match frame {
            Frame::Started => {
                self.deadline = None;
                self.connect()?;
            }
            Frame::Ended(status) => {
                // What is left to be written takes the time its reader takes.
                self.deadline = None;
                let [low, high, ..] = status.to_le_bytes();
                self.ended = Some(match high {
                    0 => Exit::Code(low),
                    _ => Exit::Signal(low),
                });
            }
            Frame::Refused(status, why) => {
                let status = u8::try_from(status).unwrap_or(126);
                return Ok(Some(Exit::Refused { status, why }));
            }
            Frame::Broken(why) => {
                let tail = machine.post_mortem();
                return Err(LabError::Broken { why, tail });
            }
            // These go the other way.
            Frame::Run(_) | Frame::Signal(_) | Frame::Resize(..) | Frame::Closed(_) => {}
        }
        Ok(None)
    }

    /// The command is there to read and to be heard.
    fn connect(&mut self) -> Result<(), LabError> {
        let raw = if self.look.terminal {
            // A terminal that refuses works line by line, which is better than not at all.
            RawTerminal::enter(rustix::stdio::stdin()).ok().flatten()
        } else {
            None
        };
        self.stage = Stage::Running(raw);
        if self.look.input {
            let leave = matches!(self.stage, Stage::Running(Some(_)));
            let leave = leave.then(|| (Leave::default(), self.events.clone()));
            let input = pump::input(Arc::clone(&self.stdin), self.stopped()?, leave);
            self.threads.running.push(input);
        } else {
            let _ = wire::send_chunk(&mut self.stdin.as_ref(), &[]);
        }
        // Not joined: one that waits for whoever reads our output may wait for ever.
        for (which, stream) in self.outputs.drain(..) {
            pump::output(which, stream, self.events.clone());
        }
        Ok(())
    }

    fn pass_on(&mut self, number: u8) -> Option<Exit> {
        let signal = i32::from(number);
        if signal == libc::SIGWINCH {
            if self.look.terminal {
                let (rows, columns) = terminal::size();
                let _ = Frame::Resize(rows, columns).send(&mut self.control);
            }
            return None;
        }
        if let (libc::SIGCONT, Stage::Running(Some(raw))) = (signal, &self.stage) {
            let _ = raw.again();
        }
        if signal == libc::SIGCONT {
            return None;
        }
        let again = self.asked.is_some_and(|(at, _)| at.elapsed() < TWICE);
        // Before there is a command, and when it was asked just now, the lab ends.
        if again || matches!(self.stage, Stage::Starting(_)) {
            return Some(Exit::Signal(number));
        }
        let _ = Frame::Signal(number.into()).send(&mut self.control);
        self.asked = Some((Instant::now(), number));
        // Ctrl-C is for the command to make of it what it likes; the others mean the end.
        if signal != libc::SIGINT {
            self.deadline = Some(Instant::now() + GRACE);
        }
        None
    }

    fn too_late(&self, machine: &mut Machine) -> Result<Exit, LabError> {
        match (&self.stage, self.asked) {
            (Stage::Running(_), Some((_, number))) => Ok(Exit::Signal(number)),
            (Stage::Running(_), None) => Ok(Exit::Signal(9)),
            (Stage::Starting(limit), _) => Err(LabError::Slow {
                limit: *limit,
                tail: machine.post_mortem(),
            }),
        }
    }
}
