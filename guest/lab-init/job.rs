//! The command: started, fed, heard, ended.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use super::ports::Ports;
use super::wire::{self, CHUNK, Frame, Job};
use super::{Fallible, mounts, sys};

/// Runs the job to its end and gives the last frame.
pub(crate) fn run(job: &Job, ports: &mut Ports) -> Fallible<Frame> {
    let Some((program, arguments)) = job.argv.split_first() else {
        return Ok(Frame::Broken("there is no command to run".into()));
    };
    let program = OsStr::from_bytes(program);
    let cwd = OsStr::from_bytes(&job.cwd);
    if let Err(error) = std::env::set_current_dir(cwd) {
        return Ok(Frame::Broken(format!(
            "cannot enter the working directory {}: {error}",
            cwd.display()
        )));
    }

    let mut command = Command::new(program);
    command
        .args(arguments.iter().map(|a| OsStr::from_bytes(a)))
        .env_clear();
    for variable in &job.env {
        if let Some(equals) = variable.iter().position(|b| *b == b'=') {
            let (name, value) = variable.split_at(equals);
            command.env(OsStr::from_bytes(name), OsStr::from_bytes(&value[1..]));
        }
    }
    let on_terminal = job.terminal != (0, 0);
    sys::lead_session(&mut command, on_terminal);
    let plumbing = Plumbing::lay(&mut command, job)?;

    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            // As a shell says it (POSIX, 2.8.2): 127 not found, 126 found and not run.
            let status = if error.kind() == ErrorKind::NotFound {
                127
            } else {
                126
            };
            let why = format!("{}: {error}", program.display());
            return Ok(Frame::Refused(status, why));
        }
    };
    // The command's own ends of the pipes live in `command`: while they are open here, no stream ends.
    drop(command);
    std::env::set_current_dir("/")?;
    Frame::Started.send(&mut ports.control)?;

    let pid = i32::try_from(child.id())?;
    let status = attend(pid, plumbing, ports)?;
    mounts::let_go(job);
    Ok(Frame::Ended(status))
}

/// Our ends of the command's standard streams.
struct Plumbing {
    input: File,
    output: File,
    /// Absent when the terminal takes standard error too.
    errors: Option<File>,
    terminal: Option<File>,
}

impl Plumbing {
    fn lay(command: &mut Command, job: &Job) -> io::Result<Self> {
        let file = |end: OwnedFd| File::from(end);
        let errors = if job.merge {
            None
        } else {
            let (ours, theirs) = io::pipe()?;
            command.stderr(theirs);
            Some(file(ours.into()))
        };
        if job.terminal == (0, 0) {
            let (input, output) = (io::pipe()?, io::pipe()?);
            command.stdin(input.0).stdout(output.1);
            return Ok(Self {
                input: file(input.1.into()),
                output: file(output.0.into()),
                errors,
                terminal: None,
            });
        }
        let both = File::options().read(true).write(true).clone();
        let master = both.open("/dev/ptmx")?;
        let number = sys::unlock_pty(&master)?;
        sys::resize(&master, job.terminal)?;
        let slave = both.open(format!("/dev/pts/{number}"))?;
        if errors.is_none() {
            command.stderr(slave.try_clone()?);
        }
        command.stdin(slave.try_clone()?).stdout(Stdio::from(slave));
        Ok(Self {
            input: master.try_clone()?,
            output: master.try_clone()?,
            errors,
            terminal: Some(master),
        })
    }
}

/// Relays until the command has ended and everything it wrote is on its way.
fn attend(pid: i32, plumbing: Plumbing, ports: &Ports) -> Fallible<u32> {
    let terminal = plumbing.terminal;
    let end_of_input = if terminal.is_some() {
        &b"\x04"[..]
    } else {
        b""
    };
    let from = ports.stdin.try_clone()?;
    thread::spawn(move || feed(from, plumbing.input, end_of_input));

    let (mut pumps, mut stops) = (Vec::new(), Vec::new());
    for (source, port) in [
        (Some(plumbing.output), &ports.stdout),
        (plumbing.errors, &ports.stderr),
    ] {
        let (stopped, stop) = io::pipe()?;
        pumps.push(pump(source, port.try_clone()?, stopped));
        stops.push(Some(stop));
    }
    let control = ports.control.try_clone()?;
    thread::spawn(move || obey(control, pid, terminal, stops));

    // PID 1 inherits orphans; reaping them here keeps the table clean in a long session.
    let status = loop {
        let (ended, status) = sys::reap()?;
        if ended == pid {
            break status;
        }
    };
    // Whoever is left would hold the streams open for ever.
    sys::signal(-1, sys::SIGKILL);
    for pump in pumps {
        let _ = pump.join();
    }
    // wait(2): the signal is in bits 6:0, the exit status in bits 15:8.
    let [signal, code, ..] = status.to_le_bytes();
    Ok(match signal & 0x7f {
        0 => u32::from(code),
        signal => 0x100 | u32::from(signal),
    })
}

/// The caller's standard input to the command's.
fn feed(mut from: File, mut to: File, end: &[u8]) {
    let mut buffer = [0; CHUNK];
    while let Ok(length) = wire::receive_chunk(&mut from, &mut buffer) {
        if length == 0 {
            let _ = to.write_all(end);
            return;
        }
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// One of the command's outputs to its port, until it ends or nobody wants it.
fn pump(source: Option<File>, mut port: File, stopped: PipeReader) -> JoinHandle<()> {
    thread::spawn(move || {
        if let Some(mut source) = source {
            let mut buffer = [0; CHUNK];
            while let Ok((_, false)) = sys::wait_readable(source.as_fd(), stopped.as_fd()) {
                match source.read(&mut buffer) {
                    // EIO: the last process left the terminal.
                    Ok(0) | Err(_) => break,
                    Ok(length) => {
                        if wire::send_chunk(&mut port, &buffer[..length]).is_err() {
                            break;
                        }
                    }
                }
            }
        }
        let _ = wire::send_chunk(&mut port, &[]);
    })
}

/// What the caller asks for while the command runs.
fn obey(mut control: File, pid: i32, terminal: Option<File>, mut stops: Vec<Option<PipeWriter>>) {
    while let Ok(frame) = Frame::receive(&mut control) {
        match frame {
            // The command leads a group of its own: a terminal's Ctrl-C goes to all of it.
            Frame::Signal(number) => {
                if let Ok(number) = i32::try_from(number) {
                    sys::signal(-pid, number);
                }
            }
            Frame::Resize(rows, columns) => {
                if let Some(terminal) = &terminal {
                    let _ = sys::resize(terminal, (rows, columns));
                }
            }
            // Hanging up the pump's stop pipe ends it, and with it the command's pipe.
            Frame::Closed(stream @ (1 | 2)) => {
                if let Some(stop) = stops.get_mut(usize::from(stream == 2)) {
                    stop.take();
                }
            }
            _ => {}
        }
    }
    // Nobody is left out there, though QEMU was to end with them.
    sys::power_off();
}
