//! The program that answers MSR accesses: a child with a line in and a line out.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::msr::policy::Ask;
use crate::msr::{AskError, Asker, Question, Reply, understand};

/// The longest line a program may write.
const LINE: usize = 4096;

/// A running program. vCPUs ask one at a time; who is answered late is answered as the policy says, and the
/// late answer is thrown away when it comes.
#[derive(Debug)]
pub struct Program {
    timeout: Duration,
    talk: Mutex<Talk>,
}

#[derive(Debug)]
struct Talk {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// What was read beyond the last line.
    rest: Vec<u8>,
    next: u64,
}

impl Program {
    /// Starts the policy's program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(ask: &Ask) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &ask.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lost = || io::Error::other("its pipes were not made");
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = (to.ok_or_else(lost)?, from.ok_or_else(lost)?);
        // A program that does not read must not hold a vCPU up beyond the time limit.
        fcntl_setfl(&to, fcntl_getfl(&to)? | OFlags::NONBLOCK)?;
        fcntl_setfl(&from, fcntl_getfl(&from)? | OFlags::NONBLOCK)?;
        Ok(Self {
            timeout: ask.timeout,
            talk: Mutex::new(Talk {
                child,
                to,
                from,
                rest: Vec::new(),
                next: 1,
            }),
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let talk = self.talk.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It has nothing more to answer; one that has ended is only collected.
        let _ = talk.child.kill();
        let _ = talk.child.wait();
    }
}

impl Asker for Program {
    fn ask(&self, question: Question) -> Result<Reply, AskError> {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now().checked_add(self.timeout);
        let late = || AskError::Slow(self.timeout.as_millis());
        let id = talk.next;
        talk.next = talk.next.saturating_add(1);
        let question = Question { id, ..question };
        let mut line =
            serde_json::to_vec(&question).map_err(|e| AskError::Dead(format!(": {e}")))?;
        line.push(b'\n');
        talk.send(&line, until, &late)?;
        loop {
            let line = talk.line(until, &late)?;
            let (answered, reply) = understand(&line)?;
            match answered {
                answered if answered == id => return Ok(reply),
                // The answer to one that was given up.
                answered if answered < id => {}
                _ => {
                    let why = "nobody has asked that yet".into();
                    return Err(AskError::Rubbish { line, why });
                }
            }
        }
    }
}

/// Waits for a descriptor; false when time is up.
fn ready(fd: &impl AsFd, flags: PollFlags, until: Option<Instant>) -> bool {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let time = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(fd, flags)], time.as_ref()) {
            // The signal that kicks a vCPU out of the guest also ends a wait.
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

impl Talk {
    fn dead(&mut self) -> AskError {
        let how = match self.child.try_wait() {
            Ok(Some(status)) => format!(": {status}"),
            _ => ": it closed its end".into(),
        };
        AskError::Dead(how)
    }

    fn send(
        &mut self,
        mut line: &[u8],
        until: Option<Instant>,
        late: &impl Fn() -> AskError,
    ) -> Result<(), AskError> {
        while !line.is_empty() {
            match self.to.write(line) {
                Ok(sent) => line = line.get(sent..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !ready(&self.to, PollFlags::OUT, until) {
                        return Err(late());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.dead()),
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        until: Option<Instant>,
        late: &impl Fn() -> AskError,
    ) -> Result<String, AskError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.rest.len() > LINE {
                let line = String::from_utf8_lossy(&self.rest)
                    .chars()
                    .take(80)
                    .collect();
                self.rest.clear();
                let why = format!("a line longer than {LINE} bytes");
                return Err(AskError::Rubbish { line, why });
            }
            let mut bytes = [0; 512];
            match self.from.read(&mut bytes) {
                Ok(0) => return Err(self.dead()),
                Ok(read) => self.rest.extend(bytes.iter().take(read)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !ready(&self.from, PollFlags::IN, until) {
                        return Err(late());
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.dead()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msr::policy::Action;
    use crate::msr::{MsrAccess, Op, Reason};

    fn program(command: &str) -> Program {
        let ask = Ask {
            command: command.into(),
            timeout: Duration::from_millis(300),
            otherwise: Action::Deny,
        };
        Program::start(&ask).unwrap()
    }

    fn ask(program: &Program) -> Result<Reply, AskError> {
        let access = MsrAccess {
            vcpu: 0,
            index: 0x10,
            op: Op::Read,
            reason: Reason::Filter,
        };
        program.ask(Question::about(0, access, None))
    }

    const COUNTER: &str = "n=0; while read line; do n=$((n+1)); \
                           echo \"{\\\"id\\\":$n,\\\"value\\\":$n}\"; done";

    #[test]
    fn questions_are_answered_in_turn() {
        let program = program(COUNTER);
        for n in 1..=100 {
            assert_eq!(ask(&program), Ok(Reply::Value(n)));
        }
    }

    #[test]
    fn a_program_that_dies_is_slow_or_talks_rubbish_is_told_apart() {
        let dead = ask(&program("exit 3")).unwrap_err();
        assert!(matches!(dead, AskError::Dead(_)), "{dead}");
        assert_eq!(ask(&program("sleep 9")), Err(AskError::Slow(300)));
        for rubbish in [
            "echo hello; sleep 9",
            "echo '{\"id\":7,\"value\":1}'; sleep 9",
        ] {
            let error = ask(&program(rubbish)).unwrap_err();
            assert!(matches!(error, AskError::Rubbish { .. }), "{error}");
        }
        let endless = ask(&program("exec cat /dev/zero")).unwrap_err();
        assert!(matches!(endless, AskError::Rubbish { .. }), "{endless}");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next() {
        let late = program(
            "read a; sleep 0.5; echo '{\"id\":1,\"value\":1}'; read b; echo '{\"id\":2,\"value\":2}'; read c",
        );
        assert_eq!(ask(&late), Err(AskError::Slow(300)));
        assert_eq!(ask(&late), Ok(Reply::Value(2)));
    }
}
