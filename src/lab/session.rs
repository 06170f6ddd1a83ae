//! One lab from start to end.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::command::{Command, Exit};
use super::console::Console;
use super::error::{LabError, Tail};
use super::options::Options;
use super::pump::{self, Output};
use super::qemu::{self, Engine, Plan, Wires};
use super::terminal::{self, Raw, Streams};
use super::wire::{self, Frame, Job};
use super::{child, initramfs, kernel, memory, shares, signals};
use crate::kernels::Cache;

/// How long a command may take to end after a signal that asks it to.
const GRACE: Duration = Duration::from_secs(10);
/// Two signals closer than this mean: end it, whatever the command makes of them.
const TWICE: Duration = Duration::from_secs(3);

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
}

/// Runs a command in a lab of its own. Standard input, output and error are this process's; while it
/// runs, signals to this process go to the command.
///
/// # Errors
/// When the lab could not be made or broke. A command that fails is not an error.
pub fn run(command: &Command, options: &Options) -> Result<Exit, LabError> {
    let qemu = qemu::find()?;
    memory::check(options.mem)?;
    let kernel = kernel::choose(options.kernel.as_deref())?;
    let engine = Engine::choose(options.accel)?;
    let cache = Cache::from_env()?;
    let shares = writable(options, &cache)?;
    let initramfs = initramfs::build(&kernel, engine.kvm_module, options.devices.modules())?;
    let streams = Streams::look();
    let job = Job {
        argv: bytes(command.argv.iter()),
        env: command.environment(),
        cwd: working_directory(command)?
            .into_os_string()
            .as_bytes()
            .to_vec(),
        shares: shares
            .iter()
            .enumerate()
            .map(|(n, s)| s.to_wire(n))
            .collect(),
        terminal: if streams.terminal {
            terminal::size()
        } else {
            (0, 0)
        },
        merge: streams.merge,
    };

    let (ours, theirs) = Ends::new().map_err(LabError::io("create sockets"))?;
    let plan = Plan {
        engine,
        mem: options.mem,
        cpus: options.cpus,
        image: &kernel::image(&kernel),
        devices: options.devices,
        extra: &options.extra_devices,
        shares: &shares,
        wires: Wires {
            console: theirs.console.as_fd(),
            control: theirs.control.as_fd(),
            stdin: theirs.stdin.as_fd(),
            stdout: theirs.stdout.as_fd(),
            stderr: theirs.stderr.as_fd(),
            initramfs: initramfs.as_fd(),
        },
    };
    let mut process = std::process::Command::new(qemu);
    process.args(plan.arguments()).stdin(Stdio::null());
    let own_words = |end: &UnixStream| end.try_clone().map(|end| Stdio::from(OwnedFd::from(end)));
    process
        .stdout(own_words(&theirs.console).map_err(LabError::io("copy a socket"))?)
        .stderr(own_words(&theirs.console).map_err(LabError::io("copy a socket"))?);
    let mut keep = theirs.into_fds();
    keep.push(initramfs.into());
    let child = child::spawn(&mut process, keep).map_err(LabError::io("start QEMU"))?;
    // What the command holds of the far ends must be closed here for their hang-up to be seen.
    drop(process);

    let machine = Machine {
        child,
        console: Some(Console::watch(ours.console, options.show_console)),
        log: cache.root().join("lab/console.log"),
    };
    let session = Session {
        control: ours.control,
        stdin: Arc::new(ours.stdin),
        outputs: vec![(Output::Stdout, ours.stdout), (Output::Stderr, ours.stderr)],
        look: streams,
        machine,
    };
    session.attend(job, options.start_limit)
}

/// The shares asked for, and the cache, which every command may fill.
fn writable(options: &Options, cache: &Cache) -> Result<Vec<shares::Share>, LabError> {
    let mut paths = options.writable.clone();
    std::fs::create_dir_all(cache.root()).map_err(|source| LabError::Share {
        path: cache.root().into(),
        source,
    })?;
    paths.push(cache.root().into());
    let shares = shares::resolve(&paths)?;
    if shares.len() > qemu::SHARES_MAX {
        return Err(LabError::TooManyShares {
            asked: shares.len(),
            limit: qemu::SHARES_MAX,
        });
    }
    Ok(shares)
}

fn working_directory(command: &Command) -> Result<PathBuf, LabError> {
    match &command.cwd {
        Some(dir) => Ok(dir.clone()),
        None => std::env::current_dir().map_err(LabError::io("find the working directory")),
    }
}

fn bytes<'a>(words: impl Iterator<Item = &'a std::ffi::OsString>) -> Vec<Vec<u8>> {
    words.map(|word| word.as_bytes().to_vec()).collect()
}

/// One side of the sockets between this process and QEMU.
#[derive(Debug)]
struct Ends {
    console: UnixStream,
    control: UnixStream,
    stdin: UnixStream,
    stdout: UnixStream,
    stderr: UnixStream,
}

impl Ends {
    fn new() -> io::Result<(Self, Self)> {
        let (console, control) = (UnixStream::pair()?, UnixStream::pair()?);
        let (stdin, stdout) = (UnixStream::pair()?, UnixStream::pair()?);
        let stderr = UnixStream::pair()?;
        let ours = Self {
            console: console.0,
            control: control.0,
            stdin: stdin.0,
            stdout: stdout.0,
            stderr: stderr.0,
        };
        let theirs = Self {
            console: console.1,
            control: control.1,
            stdin: stdin.1,
            stdout: stdout.1,
            stderr: stderr.1,
        };
        Ok((ours, theirs))
    }

    fn into_fds(self) -> Vec<OwnedFd> {
        let all = [
            self.console,
            self.control,
            self.stdin,
            self.stdout,
            self.stderr,
        ];
        all.into_iter().map(OwnedFd::from).collect()
    }
}

/// QEMU, killed when dropped.
#[derive(Debug)]
struct Machine {
    child: Child,
    console: Option<Console>,
    log: PathBuf,
}

impl Machine {
    /// Ends QEMU and gives the end of its console.
    fn post_mortem(&mut self) -> Tail {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let console = self.console.take();
        console.map_or_else(Tail::default, |console| console.finish(Some(&self.log)))
    }

    fn died(&mut self, when: &'static str) -> LabError {
        // The sockets close a moment before the process has ended.
        let status = self.child.wait().unwrap_or_default();
        LabError::Died {
            when,
            status,
            tail: self.post_mortem(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
struct Session {
    control: UnixStream,
    stdin: Arc<UnixStream>,
    /// The command's outputs, until somebody listens to them.
    outputs: Vec<(Output, UnixStream)>,
    look: Streams,
    machine: Machine,
}

/// The threads of a session.
#[derive(Debug)]
struct Threads {
    stop: Option<PipeWriter>,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Waits for them. QEMU has ended by now, and with it every socket they may wait for.
    fn join(mut self) {
        self.stop.take();
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Session {
    fn attend(mut self, job: Job, start_limit: Duration) -> Result<Exit, LabError> {
        let (events, inbox) = mpsc::channel();
        let (stopped, stop) = io::pipe().map_err(LabError::io("create a pipe"))?;
        let mut threads = Threads {
            stop: Some(stop),
            running: Vec::new(),
        };
        self.listen(&events, &stopped, &mut threads)?;
        Frame::Run(job)
            .send(&mut self.control)
            .map_err(|_| self.machine.died(" before it was told what to run"))?;
        let result = self.converse(&inbox, &events, &stopped, &mut threads, start_limit);
        drop(self);
        threads.join();
        result
    }

    fn listen(
        &self,
        events: &Sender<Event>,
        stopped: &PipeReader,
        threads: &mut Threads,
    ) -> Result<(), LabError> {
        let mut control = self
            .control
            .try_clone()
            .map_err(LabError::io("copy a socket"))?;
        let tell = events.clone();
        threads.running.push(thread::spawn(move || {
            while let Ok(frame) = Frame::receive(&mut control) {
                let _ = tell.send(Event::Frame(frame));
            }
            let _ = tell.send(Event::Gone);
        }));

        let caught = signals::catch().map_err(LabError::io("catch signals"))?;
        let stopped = stopped.try_clone().map_err(LabError::io("copy a pipe"))?;
        let tell = events.clone();
        threads.running.push(thread::spawn(move || {
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

    /// Starts copying: from now on the command is there to read and to be heard.
    fn connect(
        &mut self,
        events: &Sender<Event>,
        stopped: &PipeReader,
        threads: &mut Threads,
    ) -> Result<(), LabError> {
        if self.look.input {
            let stopped = stopped.try_clone().map_err(LabError::io("copy a pipe"))?;
            threads
                .running
                .push(pump::input(Arc::clone(&self.stdin), stopped));
        } else {
            let _ = wire::send_chunk(&mut self.stdin.as_ref(), &[]);
        }
        // Not joined: one that waits for whoever reads our output may wait for ever.
        for (which, stream) in self.outputs.drain(..) {
            pump::output(which, stream, events.clone());
        }
        Ok(())
    }

    fn converse(
        &mut self,
        inbox: &Receiver<Event>,
        events: &Sender<Event>,
        stopped: &PipeReader,
        threads: &mut Threads,
        start_limit: Duration,
    ) -> Result<Exit, LabError> {
        let mut deadline = Some(Instant::now() + start_limit);
        let mut raw = None;
        let mut started = false;
        // The last word on the command, and how many of its two outputs are still open.
        let (mut ended, mut open) = (None, 2);
        let mut asked_to_end = None;
        loop {
            if open == 0
                && let Some(exit) = ended.take()
            {
                drop(raw);
                return Ok(exit);
            }
            let event = match deadline {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Frame(Frame::Started)) => {
                    (started, deadline) = (true, None);
                    if self.look.terminal {
                        raw = Raw::enter().ok();
                    }
                    self.connect(events, stopped, threads)?;
                }
                Ok(Event::Frame(Frame::Ended(status))) => {
                    // Nothing more will come of input; what is left to write may take its time.
                    deadline = None;
                    let [low, high, ..] = status.to_le_bytes();
                    ended = Some(if high == 0 {
                        Exit::Code(low)
                    } else {
                        Exit::Signal(low)
                    });
                }
                Ok(Event::Frame(Frame::Refused(status, why))) => {
                    return Ok(Exit::Refused {
                        status: u8::try_from(status).unwrap_or(126),
                        why,
                    });
                }
                Ok(Event::Frame(Frame::Broken(why))) => {
                    let tail = self.machine.post_mortem();
                    return Err(LabError::Broken { why, tail });
                }
                // Frames for the other direction.
                Ok(Event::Frame(_)) => {}
                Ok(Event::Gone) => {
                    drop(raw);
                    let when = if started { "" } else { " before it was up" };
                    return Err(self.machine.died(when));
                }
                Ok(Event::Ended) => open -= 1,
                Ok(Event::Unwanted(which)) => {
                    let stream = if which == Output::Stdout { 1 } else { 2 };
                    let _ = Frame::Closed(stream).send(&mut self.control);
                }
                Ok(Event::Signal(number)) if i32::from(number) == libc::SIGWINCH => {
                    if self.look.terminal {
                        let (rows, columns) = terminal::size();
                        let _ = Frame::Resize(rows, columns).send(&mut self.control);
                    }
                }
                Ok(Event::Signal(number)) => {
                    // Before there is a command, and when it was asked just now, the lab ends.
                    let again =
                        asked_to_end.is_some_and(|(at, _): (Instant, u8)| at.elapsed() < TWICE);
                    if !started || again {
                        return Ok(Exit::Signal(number));
                    }
                    let _ = Frame::Signal(number.into()).send(&mut self.control);
                    asked_to_end = Some((Instant::now(), number));
                    if i32::from(number) != libc::SIGINT {
                        deadline = Some(Instant::now() + GRACE);
                    }
                }
                Err(RecvTimeoutError::Timeout) => match asked_to_end {
                    Some((_, number)) => return Ok(Exit::Signal(number)),
                    None => {
                        let tail = self.machine.post_mortem();
                        return Err(LabError::Slow {
                            limit: start_limit,
                            tail,
                        });
                    }
                },
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.machine.died(""));
                }
            }
        }
    }
}
