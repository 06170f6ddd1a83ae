//! Rings, and the thread that drains them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_queue::ArrayQueue;
use serde::Serialize;

use super::Event;

/// Events one thread may have in flight before it starts to drop.
const RING: usize = 16 * 1024;
/// How often the drain thread looks when nothing wakes it.
const DRAIN_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug, Serialize)]
struct Record {
    /// Nanoseconds since the stream was opened.
    ns: u64,
    /// vCPU number, or none for the main thread and workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    vcpu: Option<u8>,
    #[serde(flatten)]
    event: Event,
}

#[derive(Debug)]
struct Ring {
    vcpu: Option<u8>,
    born: Instant,
    queue: ArrayQueue<Record>,
    dropped: AtomicU64,
}

/// A thread's way into the stream. The empty probe is free and always at hand.
#[derive(Debug, Clone, Default)]
pub struct Probe(Option<Arc<Ring>>);

impl Probe {
    /// The probe that records nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether events go anywhere.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records what `event` builds; with tracing off nothing is built.
    #[inline]
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(ring) = &self.0 {
            ring.push(event());
        }
    }
}

/// Nanoseconds; 64 bits last for centuries.
fn since(born: Instant) -> u64 {
    u64::try_from(born.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Ring {
    #[cold]
    fn push(&self, event: Event) {
        let ns = since(self.born);
        if self
            .queue
            .push(Record {
                ns,
                vcpu: self.vcpu,
                event,
            })
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StreamSummary {
    /// Events written.
    pub written: u64,
    /// Events lost because a ring was full.
    pub dropped: u64,
}

/// A stream that could not be opened, or stopped taking events.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The file could not be created.
    #[error("cannot create the event file {path}")]
    Create {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Writing stopped part way; what came before is in the file.
    #[error("writing events to {path} failed; the events up to then are in it")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

#[derive(Debug, Default)]
struct Shared {
    rings: Mutex<Vec<Arc<Ring>>>,
    stop: AtomicBool,
}

/// The consumer: owns the file and the drain thread. [`Stream::finish`] flushes; dropping does too,
/// but then nobody hears of a write error.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    born: Instant,
    path: String,
    drain: Option<JoinHandle<io::Result<u64>>>,
}

impl Stream {
    /// Opens a stream to `path`; `-` is standard output.
    ///
    /// # Errors
    /// [`StreamError::Create`] when the file cannot be created.
    pub fn to_path(path: &Path) -> Result<Self, StreamError> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Self::to_writer(name, io::stdout()));
        }
        let file = File::create(path).map_err(|source| StreamError::Create {
            path: name.clone(),
            source,
        })?;
        Ok(Self::to_writer(name, file))
    }

    /// Opens a stream to anything that can be written; `path` names it in errors.
    pub fn to_writer(path: String, out: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let born = Instant::now();
        let drain = thread::Builder::new()
            .name("events".into())
            .spawn(move || drain(&theirs, born, BufWriter::with_capacity(64 * 1024, out)))
            .ok();
        Self {
            shared,
            born,
            path,
            drain,
        }
    }

    /// A probe for one thread; `vcpu` stamps its records.
    #[must_use]
    pub fn probe(&self, vcpu: Option<u8>) -> Probe {
        let ring = Arc::new(Ring {
            vcpu,
            born: self.born,
            queue: ArrayQueue::new(RING),
            dropped: AtomicU64::new(0),
        });
        lock(&self.shared.rings).push(Arc::clone(&ring));
        Probe(Some(ring))
    }

    /// Drains what is left, flushes, and says what was written and what was dropped.
    ///
    /// # Errors
    /// [`StreamError::Write`] with the first error the file gave.
    pub fn finish(mut self) -> Result<StreamSummary, StreamError> {
        self.close()
    }

    fn close(&mut self) -> Result<StreamSummary, StreamError> {
        let Some(drain) = self.drain.take() else {
            return Ok(StreamSummary::default());
        };
        self.shared.stop.store(true, Ordering::Release);
        drain.thread().unpark();
        let written = drain
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the event thread panicked")))
            .map_err(|source| StreamError::Write {
                path: self.path.clone(),
                source,
            })?;
        let dropped = lock(&self.shared.rings)
            .iter()
            .map(|r| r.dropped.load(Ordering::Relaxed))
            .sum();
        Ok(StreamSummary { written, dropped })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the records of all rings in the order of their time. Each look writes what is older than
/// itself and holds the rest back, for a ring looked at earlier may have got something older meanwhile;
/// only a thread that loses its CPU between taking the time and pushing can still come late.
fn drain(shared: &Shared, born: Instant, mut out: impl Write) -> io::Result<u64> {
    let mut written = 0;
    let mut held: Vec<Record> = Vec::new();
    loop {
        // Read the flag before the rings: what was pushed before `stop` is then still drained.
        let last = shared.stop.load(Ordering::Acquire);
        let rings = lock(&shared.rings).clone();
        let until = if last { u64::MAX } else { since(born) };
        let before = held.len();
        for ring in rings {
            // No more than there are now: a busy vCPU must not keep the others' records waiting.
            held.extend((0..ring.queue.len()).map_while(|_| ring.queue.pop()));
        }
        let idle = held.len() == before;
        held.sort_by_key(|record| record.ns);
        let ready = held.partition_point(|record| record.ns <= until);
        for record in held.drain(..ready) {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
            written += 1;
        }
        if last {
            out.flush()?;
            return Ok(written);
        }
        if idle {
            out.flush()?;
            thread::park_timeout(DRAIN_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn life(step: &'static str) -> Event {
        Event::Life { step, note: None }
    }

    #[test]
    fn everything_pushed_before_finish_is_written_in_order() {
        let sink = Sink::default();
        let stream = Stream::to_writer("test".into(), sink.clone());
        let probe = stream.probe(Some(3));
        for _ in 0..100 {
            probe.emit(|| life("start"));
        }
        assert_eq!(
            stream.finish().unwrap(),
            StreamSummary {
                written: 100,
                dropped: 0
            }
        );
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let rows: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(|r| r["vcpu"] == 3 && r["event"] == "life"));
        assert!(rows.is_sorted_by_key(|r| r["ns"].as_u64()));
    }

    #[test]
    fn records_of_several_threads_are_in_the_order_of_their_time() {
        let sink = Sink::default();
        let stream = Stream::to_writer("test".into(), sink.clone());
        let probes = [stream.probe(None), stream.probe(Some(0))];
        for turn in 0..2000 {
            probes[turn % 2].emit(|| life("start"));
        }
        stream.finish().unwrap();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let rows: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(rows.len(), 2000);
        assert!(rows.is_sorted_by_key(|r| r["ns"].as_u64()));
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let ring = Ring {
            vcpu: None,
            born: Instant::now(),
            queue: ArrayQueue::new(2),
            dropped: AtomicU64::new(0),
        };
        for _ in 0..5 {
            ring.push(life("start"));
        }
        assert_eq!(ring.dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_empty_probe_builds_nothing() {
        Probe::off().emit(|| panic!("built an event with tracing off"));
    }

    #[test]
    fn a_failing_file_is_reported_at_finish() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let stream = Stream::to_writer("/full".into(), Full);
        stream.probe(None).emit(|| life("end"));
        let error = stream.finish().unwrap_err();
        assert!(error.to_string().contains("/full"), "{error}");
    }
}
