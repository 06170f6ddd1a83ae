//! What a channel's worker does: the media's input and output, and the bus master's copies.

use std::sync::Arc;

use crate::dma::Dma;

use super::drive::{Done, DriveKind, Fault, Plan, Request};
use super::medium::Medium;
use super::prd::{Memory, Permit, Prds, Stop};
use super::regs;

/// Bytes between medium and memory at a time.
const CHUNK: usize = 256 << 10;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    /// Which drive of the channel.
    pub(super) drive: usize,
    pub(super) request: Request,
    /// The bus master's table.
    pub(super) table: u32,
}

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done(Done),
    /// The bus master has moved what it should, or hit a fault.
    Moved {
        done: Done,
        /// Whether its table came to its end with it.
        exhausted: bool,
    },
    /// The table ended before the transfer.
    Starved,
    Revoked,
}

/// The media of a channel, and the way to memory.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) media: [Option<(DriveKind, Box<dyn Medium>)>; 2],
    pub(super) dma: Dma,
    pub(super) permit: Arc<Permit>,
    /// Room for a chunk, made when it is first needed.
    pub(super) chunk: Vec<u8>,
}

/// Reads as much of `bytes` as can be read, sector by sector after a fault: how much, and the fault.
fn read(
    medium: &mut dyn Medium,
    at: u64,
    bytes: &mut [u8],
    sector: usize,
) -> (usize, Option<Fault>) {
    if medium.read(at, bytes).is_ok() {
        return (bytes.len(), None);
    }
    let mut good = 0_usize;
    for part in bytes.chunks_mut(sector) {
        let place = at.saturating_add(good as u64);
        if let Err(fault) = medium.read(place, part) {
            return (good, Some(fault.into()));
        }
        good = good.saturating_add(part.len());
    }
    (good, None)
}

impl Hands {
    pub(super) fn work(&mut self, job: Job) -> End {
        let Some(Some((kind, medium))) = self.media.get_mut(job.drive) else {
            return End::Revoked;
        };
        let sector = match kind {
            DriveKind::Disk => regs::SECTOR,
            DriveKind::CdRom => regs::CD_SECTOR,
        };
        let sector = usize::try_from(sector).unwrap_or(usize::MAX);
        let memory = Memory {
            dma: &self.dma,
            permit: &self.permit,
            request: job.id,
        };
        let mut mover = Mover {
            medium: medium.as_mut(),
            sector,
            prds: Prds::new(memory, job.table),
            chunk: &mut self.chunk,
        };
        match job.request {
            Request::Read { at, len } => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(CHUNK).min(CHUNK)];
                let (good, fault) = read(mover.medium, at, &mut bytes, sector);
                bytes.truncate(good);
                let good = good as u64;
                End::Done(Done { bytes, good, fault })
            }
            Request::Write { at, bytes, durable } => {
                let written = mover.medium.write(at, &bytes);
                End::Done(ending(
                    bytes.len() as u64,
                    written.and_then(|()| match durable {
                        true => mover.medium.flush(),
                        false => Ok(()),
                    }),
                ))
            }
            Request::Verify { at, len } => End::Done(mover.verify(at, len)),
            Request::Flush => End::Done(ending(0, mover.medium.flush())),
            Request::Move(plan) => mover.carry(plan).unwrap_or_else(|stop| match stop {
                Stop::Revoked => End::Revoked,
                Stop::Bus => End::Moved {
                    done: Done {
                        fault: Some(Fault::Bus),
                        ..Done::default()
                    },
                    exhausted: true,
                },
            }),
        }
    }
}

fn ending(len: u64, went: Result<(), super::MediumFault>) -> Done {
    match went {
        Ok(()) => Done {
            good: len,
            ..Done::default()
        },
        Err(fault) => Done {
            fault: Some(fault.into()),
            ..Done::default()
        },
    }
}

/// One job's hands.
struct Mover<'a> {
    medium: &'a mut dyn Medium,
    sector: usize,
    prds: Prds<'a>,
    chunk: &'a mut Vec<u8>,
}

impl Mover<'_> {
    /// Makes the chunk ready for the next of `left` bytes.
    fn prepare(&mut self, left: u64) {
        let len = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        self.chunk.resize(len, 0);
    }

    fn verify(&mut self, at: u64, len: u64) -> Done {
        let mut good = 0_u64;
        while good < len {
            self.prepare(len.saturating_sub(good));
            let place = at.saturating_add(good);
            let (read, fault) = read(self.medium, place, self.chunk, self.sector);
            good = good.saturating_add(read as u64);
            if fault.is_some() {
                return Done {
                    good,
                    fault,
                    ..Done::default()
                };
            }
        }
        ending(good, Ok(()))
    }

    fn carry(&mut self, plan: Plan) -> Result<End, Stop> {
        let moved = match plan {
            Plan::FromBuffer(bytes) => {
                let len = self.prds.scatter(&bytes)?;
                (len == bytes.len()).then(Done::default)
            }
            Plan::FromMedium { at, len } => self.bring(at, len)?,
            Plan::ToMedium { at, len, durable } => {
                let moved = self.store(at, len)?;
                match moved {
                    Some(done) if durable && done.fault.is_none() => {
                        Some(ending(len, self.medium.flush()))
                    }
                    moved => moved,
                }
            }
        };
        Ok(moved.map_or(End::Starved, |done| End::Moved {
            done,
            exhausted: self.prds.is_exhausted(),
        }))
    }

    /// None when the table was too short.
    fn bring(&mut self, at: u64, len: u64) -> Result<Option<Done>, Stop> {
        let mut good = 0_u64;
        while good < len {
            self.prepare(len.saturating_sub(good));
            let place = at.saturating_add(good);
            let (read, fault) = read(self.medium, place, self.chunk, self.sector);
            let bytes = self.chunk.get(..read).unwrap_or_default();
            if self.prds.scatter(bytes)? < read {
                return Ok(None);
            }
            good = good.saturating_add(read as u64);
            if fault.is_some() {
                return Ok(Some(Done {
                    good,
                    fault,
                    ..Done::default()
                }));
            }
        }
        Ok(Some(ending(good, Ok(()))))
    }

    /// None when the table was too short; the whole sectors it had are written.
    fn store(&mut self, at: u64, len: u64) -> Result<Option<Done>, Stop> {
        let mut good = 0_u64;
        while good < len {
            self.prepare(len.saturating_sub(good));
            let got = self.prds.gather(self.chunk)?;
            let part = got.checked_rem(self.sector).unwrap_or(0);
            let bytes = self.chunk.get(..got.saturating_sub(part));
            let place = at.saturating_add(good);
            if let Err(fault) = self.medium.write(place, bytes.unwrap_or_default()) {
                return Ok(Some(Done {
                    good,
                    fault: Some(fault.into()),
                    ..Done::default()
                }));
            }
            if got < self.chunk.len() {
                return Ok(None);
            }
            good = good.saturating_add(got as u64);
        }
        Ok(Some(ending(good, Ok(()))))
    }
}
