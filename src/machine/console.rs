//! From the serial port to standard output, past the watch.
//!
//! The vCPU only puts bytes into a bounded buffer. A thread of its own takes them out in batches,
//! shows them to the watch and writes them. When standard output stands still the buffer fills and
//! the vCPU waits: output is never dropped while somebody may still read it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::watch::{AlarmCounts, Sighting, Watch};

/// Bytes in the buffer before a vCPU waits.
const CAPACITY: usize = 64 * 1024;
/// A batch of this size is written at once. It is also the most that a pipe with any room takes
/// without blocking (PIPE_BUF), so that the thread blocks only in poll(2), where it can be called
/// off.
const BATCH: usize = 4096;
/// How long a smaller batch waits for more.
const GATHER: Duration = Duration::from_millis(2);
/// How often a standard output that stands still is looked at again.
const RETRY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// What the console tells the run. Told on the console's thread.
#[derive(Debug)]
pub enum Heard {
    /// The guest printed its first byte.
    FirstByte(Instant),
    /// The watch saw something.
    Sighting(Sighting),
    /// Standard output takes no more: its reader is gone (EPIPE), its disk is full. The watch goes
    /// on.
    Gone(io::Error),
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many of them the watch has seen.
    watched: usize,
    first: Option<Instant>,
    closed: bool,
    /// Nobody waits for room: the run pauses or ends.
    freed: bool,
    done: bool,
}

type Tell = Box<dyn FnMut(Heard) + Send>;

/// The watch and whom it tells. Locked before the buffer where both are, so that bytes are watched
/// in their order whoever takes them out.
struct Ear {
    watch: Watch,
    told_first: bool,
    tell: Tell,
}

impl std::fmt::Debug for Ear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.watch.fmt(f)
    }
}

impl Ear {
    fn hear(&mut self, bytes: &[u8], first: Option<Instant>) {
        let tell = &mut self.tell;
        if !self.told_first
            && let Some(at) = first
        {
            self.told_first = true;
            tell(Heard::FirstByte(at));
        }
        self.watch.feed(bytes, |s| tell(Heard::Sighting(s)));
    }
}

#[derive(Debug)]
struct Shared {
    ear: Mutex<Ear>,
    buffer: Mutex<Buffer>,
    filled: Condvar,
    emptied: Condvar,
    done: Condvar,
    total: AtomicU64,
    /// Standard output had its chance.
    abandon: AtomicBool,
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ear(&self) -> MutexGuard<'_, Ear> {
        self.ear.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The serial port's end: an [`io::Write`] that never fails.
#[derive(Debug, Clone)]
pub struct ConsoleSink(Arc<Shared>);

impl io::Write for ConsoleSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.buffer();
        while buffer.bytes.len() >= CAPACITY && !buffer.freed {
            let waited = self.0.emptied.wait(buffer);
            buffer = waited.unwrap_or_else(PoisonError::into_inner);
        }
        let before = buffer.bytes.len();
        if before == 0 && buffer.first.is_none() && !bytes.is_empty() {
            buffer.first = Some(Instant::now());
        }
        buffer.bytes.extend_from_slice(bytes);
        let after = buffer.bytes.len();
        drop(buffer);
        self.0
            .total
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // One wake-up for the first byte of a batch and one when it is full, not one per byte.
        if before == 0 || (before < BATCH && after >= BATCH) {
            self.0.filled.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is known of the console when the run is over.
#[derive(Debug)]
pub struct ConsoleSummary {
    /// The last lines, oldest first.
    pub last_lines: Vec<String>,
    /// What the watch counted.
    pub alarms: AlarmCounts,
    /// Bytes the guest printed.
    pub bytes: u64,
    /// Of them, those that standard output did not take.
    pub lost: u64,
}

/// The console's thread.
#[derive(Debug)]
pub struct Console {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<u64>>,
}

impl Console {
    /// Starts the thread, which writes to `out` and tells `heard`.
    ///
    /// # Errors
    /// When the host gives no thread.
    pub fn start(out: OwnedFd, heard: impl FnMut(Heard) + Send + 'static) -> io::Result<Self> {
        let ear = Ear {
            watch: Watch::new(),
            told_first: false,
            tell: Box::new(heard),
        };
        let shared = Arc::new(Shared {
            ear: Mutex::new(ear),
            buffer: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            done: Condvar::new(),
            total: AtomicU64::new(0),
            abandon: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("console".into())
            .spawn(move || run(&theirs, &out))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// An end for a serial port.
    #[must_use]
    pub fn sink(&self) -> ConsoleSink {
        ConsoleSink(Arc::clone(&self.shared))
    }

    /// Bytes the guest has printed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.total.load(Ordering::Relaxed)
    }

    /// The last lines so far, oldest first.
    #[must_use]
    pub fn last_lines(&self) -> Vec<String> {
        self.shared.ear().watch.last_lines()
    }

    /// Shows the watch everything printed so far, on this thread. A kernel that panics and resets
    /// does both within the time that a batch gathers: whoever hears of the reset must have heard
    /// of the panic.
    pub fn catch_up(&self) {
        let mut ear = self.shared.ear();
        let mut buffer = self.shared.buffer();
        let all = buffer.bytes.len();
        let watched = std::mem::replace(&mut buffer.watched, all);
        let bytes = buffer.bytes.get(watched..).unwrap_or_default().to_vec();
        let first = buffer.first;
        drop(buffer);
        ear.hear(&bytes, first);
    }

    /// With `false`, a vCPU that waits for room goes on and none waits from then on: a vCPU that is
    /// to pause or stop must reach its boundary even when nobody reads standard output.
    pub fn hold_back(&self, hold: bool) {
        self.shared.buffer().freed = !hold;
        self.shared.emptied.notify_all();
    }

    /// Writes what is left, but waits no longer than `patience` for a standard output that stands
    /// still.
    #[must_use]
    pub fn finish(mut self, patience: Duration) -> ConsoleSummary {
        let lost = self.close(patience);
        let ear = self.shared.ear();
        ConsoleSummary {
            last_lines: ear.watch.last_lines(),
            alarms: ear.watch.counts(),
            bytes: self.bytes(),
            lost,
        }
    }

    fn close(&mut self, patience: Duration) -> u64 {
        let Some(thread) = self.thread.take() else {
            return 0;
        };
        let mut buffer = self.shared.buffer();
        buffer.closed = true;
        buffer.freed = true;
        self.shared.filled.notify_all();
        self.shared.emptied.notify_all();
        let waited = self
            .shared
            .done
            .wait_timeout_while(buffer, patience, |b| !b.done);
        drop(waited);
        self.shared.abandon.store(true, Ordering::Release);
        thread.join().unwrap_or(0)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.close(Duration::from_secs(1));
    }
}

/// Sets `done` however the thread ends.
struct Done<'a>(&'a Shared);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut buffer = self.0.buffer();
        buffer.done = true;
        buffer.freed = true;
        drop(buffer);
        self.0.done.notify_all();
        self.0.emptied.notify_all();
    }
}

fn run(shared: &Shared, out: &OwnedFd) -> u64 {
    let _done = Done(shared);
    let mut lost = 0;
    let mut gone = false;
    let mut batch = Vec::with_capacity(BATCH);
    while gather(shared) {
        take(shared, &mut batch);
        if gone {
            lost += batch.len() as u64;
        } else if let Err((left, error)) = write_out(shared, out, &batch) {
            lost += left as u64;
            gone = true;
            (shared.ear().tell)(Heard::Gone(error));
        }
        batch.clear();
    }
    let ear = &mut *shared.ear();
    let tell = &mut ear.tell;
    ear.watch.finish(|s| tell(Heard::Sighting(s)));
    // Serial ports may outlive the console; what it told does not hang on them.
    ear.tell = Box::new(drop);
    lost
}

/// Waits for a batch. Returns false when the buffer is closed and empty.
fn gather(shared: &Shared) -> bool {
    let buffer = shared.buffer();
    let waited = shared
        .filled
        .wait_while(buffer, |b| b.bytes.is_empty() && !b.closed);
    let buffer = waited.unwrap_or_else(PoisonError::into_inner);
    let gathered = shared
        .filled
        .wait_timeout_while(buffer, GATHER, |b| b.bytes.len() < BATCH && !b.closed);
    let (buffer, _) = gathered.unwrap_or_else(PoisonError::into_inner);
    !buffer.bytes.is_empty()
}

/// Swaps the buffer's content into the empty `batch` and shows it to the watch. Before it is
/// written: a standard output that stands still must not hide a panic.
fn take(shared: &Shared, batch: &mut Vec<u8>) {
    let mut ear = shared.ear();
    let mut buffer = shared.buffer();
    std::mem::swap(&mut buffer.bytes, batch);
    let watched = std::mem::take(&mut buffer.watched);
    let first = buffer.first;
    drop(buffer);
    shared.emptied.notify_all();
    ear.hear(batch.get(watched..).unwrap_or_default(), first);
}

/// Writes everything, or says how many bytes were left and why.
fn write_out(shared: &Shared, out: &OwnedFd, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    for chunk in bytes.chunks(BATCH) {
        let mut rest = chunk;
        while !rest.is_empty() {
            match write_some(shared, out, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => {
                    let chunk_at = chunk.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
                    let sent = chunk_at + (chunk.len() - rest.len());
                    return Err((bytes.len() - sent, error));
                }
            }
        }
    }
    Ok(())
}

fn write_some(shared: &Shared, out: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let mut ready = [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::OUT)];
        match rustix::event::poll(&mut ready, Some(&RETRY)) {
            Ok(0) if shared.abandon.load(Ordering::Acquire) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            // Descriptors that poll(2) does not know (it answers with an error) may still be
            // writable.
            Ok(_) | Err(_) => {}
        }
        match rustix::io::write(out, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::sync::mpsc;

    use super::*;
    use crate::machine::printk::Level;

    fn pipe() -> (File, OwnedFd) {
        let (read, write) = rustix::pipe::pipe().unwrap();
        (File::from(read), write)
    }

    fn start(out: OwnedFd) -> (Console, mpsc::Receiver<Heard>) {
        let (tell, hear) = mpsc::channel();
        let console = Console::start(out, move |heard| {
            let _ = tell.send(heard);
        });
        (console.unwrap(), hear)
    }

    #[test]
    fn output_to_a_slow_pipe_arrives_whole_and_in_order() {
        let (mut read, write) = pipe();
        let (console, _hear) = start(write);
        let wanted: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = wanted.clone();
        let mut sink = console.sink();
        let guest = std::thread::spawn(move || {
            for byte in sent {
                sink.write_all(&[byte]).unwrap();
            }
        });
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            let mut got = Vec::new();
            read.read_to_end(&mut got).unwrap();
            got
        });
        guest.join().unwrap();
        let summary = console.finish(Duration::from_secs(30));
        assert_eq!((summary.bytes, summary.lost), (1_000_000, 0));
        assert!(reader.join().unwrap() == wanted);
    }

    #[test]
    fn what_is_printed_just_before_the_end_is_not_lost() {
        let (mut read, write) = pipe();
        let (console, hear) = start(write);
        console
            .sink()
            .write_all(b"[    1.000000] Kernel panic - not syncing: x")
            .unwrap();
        let summary = console.finish(Duration::from_secs(30));
        let mut got = String::new();
        read.read_to_string(&mut got).unwrap();
        assert!(got.ends_with("not syncing: x"));
        assert_eq!(summary.alarms.panics, 1);
        let heard: Vec<Heard> = hear.iter().collect();
        assert!(matches!(heard[0], Heard::FirstByte(_)));
        assert!(
            matches!(&heard[1], Heard::Sighting(Sighting::Alarm(a)) if a.level == Level::Panic)
        );
    }

    #[test]
    fn a_reader_that_goes_away_is_told_once_and_the_watch_goes_on() {
        let (read, write) = pipe();
        drop(read);
        let (console, hear) = start(write);
        let mut sink = console.sink();
        sink.write_all(b"hello\n").unwrap();
        let gone = hear.iter().find_map(|h| match h {
            Heard::Gone(error) => Some(error.kind()),
            _ => None,
        });
        assert_eq!(gone, Some(io::ErrorKind::BrokenPipe));
        sink.write_all(&vec![b'x'; 4 * CAPACITY]).unwrap();
        sink.write_all(b"\nKernel panic - not syncing: x\n")
            .unwrap();
        let summary = console.finish(Duration::from_secs(30));
        assert_eq!(summary.alarms.panics, 1);
        assert_eq!(summary.lost, summary.bytes);
        assert!(!hear.iter().any(|h| matches!(h, Heard::Gone(_))));
    }

    #[test]
    fn a_vcpu_waits_for_room_until_it_is_let_go() {
        let (read, write) = pipe();
        let (console, _hear) = start(write);
        let mut sink = console.sink();
        let vcpu = std::thread::spawn(move || {
            for _ in 0..16 {
                sink.write_all(&[b'x'; CAPACITY]).unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(
            !vcpu.is_finished(),
            "nobody reads, yet everything was taken"
        );
        console.hold_back(false);
        vcpu.join().unwrap();
        let summary = console.finish(Duration::from_millis(20));
        assert!(summary.lost > 0 && summary.lost < summary.bytes);
        drop(read);
    }

    #[test]
    fn whoever_catches_up_has_heard_everything_once() {
        let (_read, write) = pipe();
        let (console, hear) = start(write);
        let mut sink = console.sink();
        for n in 0..200 {
            let line = format!("[{n:5}.000000] Kernel panic - not syncing: {n}\n");
            sink.write_all(line.as_bytes()).unwrap();
            console.catch_up();
            let wanted = format!("Kernel panic - not syncing: {n}");
            let told: Vec<Heard> = hear.try_iter().collect();
            let panics: Vec<&str> = told
                .iter()
                .filter_map(|h| match h {
                    Heard::Sighting(Sighting::Alarm(alarm)) => Some(alarm.line.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(panics, [wanted]);
        }
        assert_eq!(console.finish(Duration::from_secs(30)).alarms.panics, 200);
    }

    #[test]
    fn a_lone_byte_is_written_without_waiting_for_more() {
        let (mut read, write) = pipe();
        let (console, _hear) = start(write);
        let mut byte = [0];
        for _ in 0..3 {
            console.sink().write_all(b"#").unwrap();
            read.read_exact(&mut byte).unwrap();
        }
        assert_eq!(console.bytes(), 3);
    }
}
