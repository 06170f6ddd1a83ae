//! Raw mode, and back again on every way out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{OptionalActions, OutputModes, Termios};

/// How the terminal was found, while it is raw. Static, because a panic on any thread has to put it
/// back before the panic's own words are printed.
static FOUND: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A terminal that does not do as it is told.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the terminal raw; run without --shell, or with standard input from a file")]
pub struct TerminalError {
    #[source]
    source: io::Error,
}

impl From<rustix::io::Errno> for TerminalError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self {
            source: errno.into(),
        }
    }
}

/// The terminal is raw for as long as this lives.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes the terminal raw. None when `input` is no terminal, when it is another job's (a
    /// background job that touched it would be stopped by SIGTTOU), or when it is raw already by
    /// another guard.
    ///
    /// # Errors
    /// [`TerminalError`] when the terminal refuses.
    pub fn enter(input: BorrowedFd<'_>) -> Result<Option<Self>, TerminalError> {
        if !rustix::termios::isatty(input) || !is_foreground(input) {
            return Ok(None);
        }
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_some() {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(input)?;
        let own = input.try_clone_to_owned();
        let own = own.map_err(|source| TerminalError { source })?;
        make_raw(input, &before)?;
        *found = Some((own, before));
        drop(found);
        restore_on_panic();
        Ok(Some(Self(())))
    }

    /// Makes the terminal raw again after the shell put it back, as it does between SIGSTOP and
    /// SIGCONT.
    ///
    /// # Errors
    /// [`TerminalError`] when the terminal refuses.
    pub fn again(&self) -> Result<(), TerminalError> {
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some((terminal, before)) => make_raw(terminal.as_fd(), before),
            None => Ok(()),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was found. Nothing happens when it is not raw.
pub fn restore() {
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((terminal, before)) = found {
        // Neither flush nor drain: what the user typed meanwhile is for the shell, and a terminal
        // stopped by Ctrl-S would never drain.
        let _ = rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

fn make_raw(terminal: BorrowedFd<'_>, before: &Termios) -> Result<(), TerminalError> {
    let mut raw = before.clone();
    raw.make_raw();
    // Trapline's own words end in a line feed alone; the guest's carriage return does not mind a
    // second one.
    raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)?;
    Ok(())
}

fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    // ENOTTY: not our controlling terminal, so no job control either.
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            next(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    use super::*;

    fn terminal() -> (OwnedFd, OwnedFd) {
        let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&host).unwrap();
        unlockpt(&host).unwrap();
        let name = ptsname(&host, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let user = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
        (host, user)
    }

    // One test: the terminal is the process's.
    #[test]
    fn the_terminal_is_put_back_on_every_way_out() {
        let (_host, user) = terminal();
        let is_raw = || {
            let modes = tcgetattr(&user).unwrap().local_modes;
            !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
        };
        assert!(!is_raw());

        let guard = RawTerminal::enter(user.as_fd()).unwrap().unwrap();
        assert!(is_raw());
        assert!(RawTerminal::enter(user.as_fd()).unwrap().is_none());
        drop(guard);
        assert!(!is_raw(), "dropped");

        let guard = RawTerminal::enter(user.as_fd()).unwrap().unwrap();
        let panicked =
            std::thread::spawn(|| panic!("a vCPU thread's panic, which this test wants"));
        assert!(panicked.join().is_err());
        assert!(!is_raw(), "panicked on another thread");
        drop(guard);

        let guard = RawTerminal::enter(user.as_fd()).unwrap().unwrap();
        restore();
        assert!(!is_raw(), "restored by a signal's handler");
        drop(guard);
        assert!(!is_raw());
    }

    #[test]
    fn a_file_is_no_terminal() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(RawTerminal::enter(null.as_fd()).unwrap().is_none());
    }
}
