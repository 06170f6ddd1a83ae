//! A thread that does a device's slow work off the vCPU threads, and stands still while parked.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

struct Queue<J> {
    jobs: VecDeque<J>,
    /// Whether a job is being done.
    busy: bool,
    stop: bool,
}

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    changed: Condvar,
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue<J>>) -> MutexGuard<'a, Queue<J>> {
        let woken = self.changed.wait(queue);
        woken.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a job is over, by a panic too: nobody may wait for a thread that is gone.
struct Done<'a, J>(&'a Shared<J>);

impl<J> Drop for Done<'_, J> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.busy = false;
        if std::thread::panicking() {
            queue.jobs.clear();
            queue.stop = true;
        }
        drop(queue);
        self.0.changed.notify_all();
    }
}

/// A worker with its queue. The bus parks devices with the vCPUs paused, so nothing arrives while
/// [`Worker::drain`] waits; afterwards the device's state is whole and can be saved. Dropping the
/// worker forgets jobs not yet begun and joins the thread.
pub struct Worker<J> {
    shared: Arc<Shared<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J> fmt::Debug for Worker<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.shared.lock();
        f.debug_struct("Worker")
            .field("waiting", &queue.jobs.len())
            .field("busy", &queue.busy)
            .finish_non_exhaustive()
    }
}

impl<J: Send + 'static> Worker<J> {
    /// Starts a thread called `name` that does jobs with `work`, one at a time, in order.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(name: &'static str, mut work: impl FnMut(J) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                busy: false,
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let mine = Arc::clone(&shared);
        let body = move || {
            let mut queue = mine.lock();
            while !queue.stop {
                let Some(job) = queue.jobs.pop_front() else {
                    queue = mine.wait(queue);
                    continue;
                };
                queue.busy = true;
                drop(queue);
                {
                    let _done = Done(&mine);
                    work(job);
                }
                queue = mine.lock();
            }
        };
        let thread = Builder::new().name(name.into()).spawn(body)?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Gives it a job.
    pub fn give(&self, job: J) {
        self.shared.lock().jobs.push_back(job);
        self.shared.changed.notify_all();
    }
}

impl<J> Worker<J> {
    /// Waits until every job given so far is done: what [`super::Device::park`] and a reset need.
    /// Called with the device's lock held, so jobs must not need it.
    pub fn drain(&self) {
        let mut queue = self.shared.lock();
        while queue.busy || !(queue.stop || queue.jobs.is_empty()) {
            queue = self.shared.wait(queue);
        }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.jobs.clear();
        queue.stop = true;
        drop(queue);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed, and ends the run with 74 at the next pause.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn jobs_are_done_in_order_and_draining_waits_for_all() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&done);
        let worker = Worker::start("test", move |job: u32| {
            std::thread::sleep(Duration::from_millis(1));
            log.lock().unwrap().push(job);
        })
        .unwrap();
        (0..20).for_each(|job| worker.give(job));
        worker.drain();
        assert_eq!(*done.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_a_worker_that_panicked() {
        let worker = Worker::start("doomed", |(): ()| panic!("on purpose")).unwrap();
        worker.give(());
        worker.give(());
        worker.drain();
    }

    #[test]
    fn dropping_it_forgets_what_has_not_begun() {
        let (begun, wait) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let count = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&count);
        let worker = Worker::start("test", move |(): ()| {
            begun.send(()).unwrap();
            gate.recv().unwrap();
            *counter.lock().unwrap() += 1;
        })
        .unwrap();
        worker.give(());
        worker.give(());
        wait.recv().unwrap();
        let dropped = std::thread::spawn(move || drop(worker));
        std::thread::sleep(Duration::from_millis(20));
        go.send(()).unwrap();
        dropped.join().unwrap();
        assert_eq!(*count.lock().unwrap(), 1);
    }
}
