//! Runs what the job asks for and says how it ended, in the words of a shell.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;

use crate::job_abi::{Action, INIT_FAILED, Job};
use crate::{end, input, say, sys};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOT_FOUND: u32 = 127;
const NOT_EXECUTABLE: u32 = 126;
/// The kernel gives init no controlling terminal, and must not when init opens one.
const O_NOCTTY: i32 = 0o400;

/// Runs the job's action to its end and gives its status; nothing to run is status 0.
pub(crate) fn run(job: &Job) -> Result<u32, String> {
    let (program, arguments) = match &job.action {
        Action::Nothing => return Ok(0),
        Action::Shell => ("/bin/sh".into(), vec![]),
        Action::Script(text) => ("/bin/sh".into(), vec!["-c".into(), os(text)]),
        Action::Program(words) => {
            let mut words = words.iter().map(|word| os(word));
            (words.next().unwrap_or_default(), words.collect())
        }
    };
    let mut command = Command::new(&program);
    command.args(arguments);
    environment(&mut command, job);
    terminal(&mut command, job).map_err(|e| format!("cannot open the console: {e}"))?;
    let input = job.input.then(|| piped_input(&mut command)).transpose();
    let input = input.map_err(|e| format!("cannot make a pipe: {e}"))?;
    match command.spawn() {
        Ok(child) => {
            // It holds the end of the pipe that is the child's alone.
            drop(command);
            if let Some(input) = input {
                thread::spawn(|| feed(input));
            }
            wait_for(child.id())
        }
        Err(error) => Ok(refused(&program, &error)),
    }
}

/// Gives the command a pipe for standard input, in place of the console.
fn piped_input(command: &mut Command) -> io::Result<PipeWriter> {
    let (theirs, ours) = io::pipe()?;
    command.stdin(theirs);
    Ok(ours)
}

fn feed(to: PipeWriter) {
    if let Err(e) = input::copy(to) {
        say!("standard input ends early: {e}");
        end(INIT_FAILED);
    }
}

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn environment(command: &mut Command, job: &Job) {
    let term = job.terminal.as_ref().map(|terminal| os(&terminal.name));
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .env("TERM", term.unwrap_or_else(|| "vt102".into()));
    for (name, value) in &job.environment {
        command.env(os(name), os(value));
    }
}

/// Gives the command the console as its own terminal, so that Ctrl-C and job control work there.
/// /dev/console itself can never be one.
fn terminal(command: &mut Command, job: &Job) -> io::Result<()> {
    let Ok(tty) = open_tty() else {
        return Ok(());
    };
    if let Some(terminal) = &job.terminal
        && terminal.columns > 0
    {
        sys::set_window_size(tty.as_fd(), terminal.columns, terminal.rows)?;
    }
    command
        .stdin(Stdio::from(tty.try_clone()?))
        .stdout(Stdio::from(tty.try_clone()?))
        .stderr(Stdio::from(tty.try_clone()?));
    before_exec(command, tty.into());
    Ok(())
}

fn open_tty() -> io::Result<File> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let name = active.split_whitespace().last().unwrap_or("ttyS0");
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_NOCTTY)
        .open(format!("/dev/{name}"))
}

#[expect(
    unsafe_code,
    reason = "std has no safe way to act between fork and exec"
)]
fn before_exec(command: &mut Command, tty: OwnedFd) {
    // SAFETY: two system calls and no allocation, which is what may be done after a fork.
    unsafe {
        command.pre_exec(move || sys::own_terminal(tty.as_fd()));
    }
}

/// Reaps everything that ends, as PID 1 must, until `pid` has.
fn wait_for(pid: u32) -> Result<u32, String> {
    loop {
        match sys::wait_any() {
            Ok(ended) if ended.pid == pid => return Ok(ended.status),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("cannot wait for the command: {e}")),
        }
    }
}

fn refused(program: &OsStr, error: &io::Error) -> u32 {
    say!("cannot run {}: {error}", program.display());
    if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    }
}
