//! The command's standard input when it is no terminal: from the postbox into a pipe, so that every
//! byte arrives as it is and the end is an end.

use std::io::{self, PipeWriter, Write};
use std::thread;
use std::time::Duration;

use crate::ports::Ports;
use crate::postbox_abi::{
    INPUT_AGAIN, INPUT_BYTES, INPUT_END, INPUT_NEXT, PORT, PORTS, REG_INPUT, REG_INPUT_CONTROL,
    checksum,
};
use crate::sys;

/// How often one chunk is read before the host's answer counts. A page that the kernel moves during
/// the read faults, and what the port gave then is lost; that does not happen time and again.
const TRIES: usize = 16;
/// How often an empty queue is looked at without a wait. The waits then grow, up to 64 ms.
const LOOKS: u32 = 32;

/// Copies until the end, or until nobody reads any more. Access to ports is a thread's own: this is
/// called on the thread that copies.
pub(crate) fn copy(mut to: PipeWriter) -> io::Result<()> {
    let mut input = Input::open()?;
    let mut empty = 0_u32;
    loop {
        match input.next()? {
            None => return Ok(()),
            Some([]) => {
                wait(empty);
                empty = empty.saturating_add(1);
            }
            Some(bytes) => {
                match to.write_all(bytes) {
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    done => done?,
                }
                empty = 0;
            }
        }
    }
}

/// The device has no interrupt: a slow sender is asked again and again, ever more seldom.
fn wait(looks: u32) {
    match looks.checked_sub(LOOKS) {
        None => thread::yield_now(),
        Some(more) => thread::sleep(Duration::from_millis(1 << more.min(6))),
    }
}

struct Input {
    ports: Ports,
    words: Vec<u32>,
    bytes: Vec<u8>,
}

impl Input {
    fn open() -> io::Result<Self> {
        let words = vec![0; INPUT_BYTES / 4];
        // In memory from here on: a fault in the middle of a read loses what was read.
        sys::lock_memory(&words)?;
        Ok(Self {
            ports: Ports::open(PORT, PORTS)?,
            words,
            bytes: Vec::with_capacity(INPUT_BYTES),
        })
    }

    /// The next bytes, perhaps none; `None` at the end.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.ports.write(REG_INPUT_CONTROL, INPUT_NEXT);
        for _ in 0..TRIES {
            let [head, low, high] = [(); 3].map(|()| self.ports.read(REG_INPUT));
            if head & INPUT_END != 0 {
                return Ok(None);
            }
            let count = head as usize;
            let words = self.words.get_mut(..count.div_ceil(4));
            let words = words.ok_or(io::ErrorKind::InvalidData)?;
            self.ports.read_run(REG_INPUT, words);
            self.bytes.clear();
            self.bytes
                .extend(words.iter().flat_map(|word| word.to_le_bytes()));
            self.bytes.truncate(count);
            if checksum(&self.bytes) == u64::from(high) << 32 | u64::from(low) {
                return Ok(Some(&self.bytes));
            }
            self.ports.write(REG_INPUT_CONTROL, INPUT_AGAIN);
        }
        Err(io::Error::other("what the host sends does not arrive"))
    }
}
