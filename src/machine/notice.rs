//! What vCPU threads and devices tell the main thread, and how they stop the machine.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::bus::{Effect, EffectSink};
use crate::chipset::ConsoleOut;
use crate::msr::MsrListener;
use crate::vm::{Fleet, VcpuEnd, VcpuNotice};

use super::console::{ConsoleSink, Heard};

/// Something the main thread has to act on.
#[derive(Debug)]
pub enum Notice {
    /// A vCPU cannot go on.
    Vcpu(u8, VcpuEnd),
    /// A device asked for something.
    Effect(Effect),
    /// The console heard something.
    Console(Heard),
    /// The MSR policy or a disk has something to say.
    Say(String),
    /// The serial port has room for input again.
    InputRoom,
}

/// The post of one machine. Ends pause the vCPUs at once, on whatever thread they come from: the
/// guest executes nothing between its last word and the post-mortem.
pub struct Post {
    queue: Mutex<VecDeque<Notice>>,
    wake: EventFd,
    fleet: Fleet,
    milestone: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

impl Post {
    /// A post for the machine of `fleet`; `milestone` takes the guest's steps as they happen.
    ///
    /// # Errors
    /// The error of eventfd(2).
    pub fn new(
        fleet: Fleet,
        milestone: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        Ok(Self {
            queue: Mutex::default(),
            wake,
            fleet,
            milestone: Box::new(milestone),
        })
    }

    /// Readable when there is something to take.
    #[must_use]
    pub const fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Adds a notice and wakes the main thread.
    pub fn put(&self, notice: Notice) {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(notice);
        // A full counter means the main thread is awake already.
        let _ = self.wake.write(1);
    }

    /// Takes the oldest notice.
    pub fn take(&self) -> Option<Notice> {
        self.queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// Takes the oldest thing heard on the console, whatever else is older.
    pub fn take_heard(&self) -> Option<Heard> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let at = queue.iter().position(|n| matches!(n, Notice::Console(_)))?;
        match queue.remove(at) {
            Some(Notice::Console(heard)) => Some(heard),
            _ => None,
        }
    }
}

impl EffectSink for Post {
    fn apply(&self, effect: Effect) {
        match effect {
            Effect::Milestone(step) => {
                (self.milestone)(step);
                return;
            }
            Effect::Exit(_) | Effect::PowerOff | Effect::Reset(_) => self.fleet.order_pause(),
            _ => {}
        }
        self.put(Notice::Effect(effect));
    }
}

impl MsrListener for Post {
    fn line(&self, line: String) {
        self.put(Notice::Say(line));
    }
}

impl VcpuNotice for Post {
    fn ended(&self, vcpu: u8, end: VcpuEnd) {
        self.fleet.order_pause();
        self.put(Notice::Vcpu(vcpu, end));
    }
}

impl ConsoleOut for ConsoleSink {
    fn put(&mut self, byte: u8) {
        // It takes every byte or waits; it has no error to give.
        let _ = io::Write::write(self, &[byte]);
    }
}
