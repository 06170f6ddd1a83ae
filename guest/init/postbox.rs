//! The guest's side of the postbox: milestones, and a stream of bytes to the host.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::ports::Ports;
use crate::postbox_abi::{
    DESCRIPTOR_FRAMES, DESCRIPTOR_MAGIC, MILESTONE_INIT, PAGE, PORT, PORTS, REG_MILESTONE,
    REG_PARCEL, REG_SIGNATURE, REG_VERSION, SIGNATURE, STATUS_OK, STATUS_REFUSED, VERSION,
    checksum,
};
use crate::sys;

/// Data pages of one parcel: 1 MiB, so that a parcel costs little more than its bytes.
const DATA_PAGES: usize = 256;

/// How often a parcel is posted before the host's answer counts. The kernel may move locked pages
/// while their frames are looked up, but not time and again.
const TRIES: usize = 16;

/// `pagemap` (Documentation/admin-guide/mm/pagemap.rst): present, and the frame number.
const PRESENT: u64 = 1 << 63;
const FRAME_MASK: u64 = (1 << 55) - 1;

/// The device, where the machine has it.
#[derive(Debug)]
pub(crate) struct Postbox {
    ports: Ports,
}

impl Postbox {
    /// Looks for it; other machines answer the ports with ones.
    pub(crate) fn find() -> Option<Self> {
        let ports = Ports::open(PORT, PORTS).ok()?;
        let found = ports.read(REG_SIGNATURE) == SIGNATURE && ports.read(REG_VERSION) == VERSION;
        found.then_some(Self { ports })
    }

    /// Says that init is running.
    pub(crate) fn running(&self) {
        self.ports.write(REG_MILESTONE, MILESTONE_INIT);
    }
}

/// Bytes on their way to the host; what is not flushed is not sent.
#[derive(Debug)]
pub(crate) struct Stream<'a> {
    postbox: &'a Postbox,
    pagemap: File,
    /// One descriptor page, then the data pages; locked, and aligned from `start` on.
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl<'a> Stream<'a> {
    /// An empty stream.
    pub(crate) fn open(postbox: &'a Postbox) -> io::Result<Self> {
        let pagemap = File::open("/proc/self/pagemap").map_err(|e| {
            let why = format!("{e} (/proc/self/pagemap needs CONFIG_PROC_PAGE_MONITOR)");
            io::Error::new(e.kind(), why)
        })?;
        let memory = vec![0; (DATA_PAGES + 2) * PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        sys::lock_memory(&memory)?;
        Ok(Self {
            postbox,
            pagemap,
            memory,
            start,
            filled: 0,
        })
    }

    fn data(&mut self) -> &mut [u8] {
        &mut self.memory[self.start + PAGE..][..DATA_PAGES * PAGE]
    }

    /// Posts one parcel.
    fn post(&mut self) -> io::Result<()> {
        let filled = self.filled;
        let sum = checksum(&self.data()[..filled]);
        for _ in 0..TRIES {
            let frames = self.frames(1 + filled.div_ceil(PAGE))?;
            let (own, data) = frames.split_first().ok_or(io::ErrorKind::InvalidData)?;
            self.describe(sum, data);
            self.postbox.ports.write(REG_PARCEL, *own);
            match self.postbox.ports.read(REG_PARCEL) {
                STATUS_OK => {
                    self.filled = 0;
                    return Ok(());
                }
                STATUS_REFUSED => return Err(io::Error::other("the host could not keep it")),
                _ => {}
            }
        }
        Err(io::Error::other("the host could not read it"))
    }

    /// The frames of the first `count` pages.
    fn frames(&self, count: usize) -> io::Result<Vec<u32>> {
        let first = (self.memory.as_ptr().addr() + self.start) / PAGE;
        let mut entries = vec![0; count * 8];
        self.pagemap.read_exact_at(&mut entries, first as u64 * 8)?;
        let frame = |entry: &[u8; 8]| {
            let entry = u64::from_le_bytes(*entry);
            let frame = u32::try_from(entry & FRAME_MASK).ok()?;
            (entry & PRESENT != 0 && frame != 0).then_some(frame)
        };
        let frames: Option<Vec<u32>> = entries.as_chunks().0.iter().map(frame).collect();
        frames.ok_or_else(|| io::Error::other("the kernel does not give page frame numbers"))
    }

    fn describe(&mut self, sum: u64, frames: &[u32]) {
        let count = u32::try_from(frames.len()).unwrap_or(0);
        let bytes = u32::try_from(self.filled).unwrap_or(0);
        let page = &mut self.memory[self.start..][..PAGE];
        let (header, list) = page.split_at_mut(DESCRIPTOR_FRAMES);
        for (field, value) in header
            .chunks_mut(4)
            .zip([DESCRIPTOR_MAGIC, count, bytes, 0])
        {
            field.copy_from_slice(&value.to_le_bytes());
        }
        header[16..].copy_from_slice(&sum.to_le_bytes());
        for (entry, frame) in list.chunks_mut(4).zip(frames) {
            entry.copy_from_slice(&frame.to_le_bytes());
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let filled = self.filled;
        let room = &mut self.data()[filled..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        if self.filled == DATA_PAGES * PAGE {
            self.post()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        self.post()
    }
}
