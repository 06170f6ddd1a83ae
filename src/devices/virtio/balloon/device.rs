//! The device.
//!
//! NOT MODELLED: VIRTIO_BALLOON_F_FREE_PAGE_HINT, which tells a migration what it need not send: there is
//! none; and VIRTIO_BALLOON_F_MUST_TELL_HOST: a page can be used before the driver says that it takes it
//! back, since touching it is what fetches it.

use std::fmt;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::super::{Ring, RingError, Served, Signals, VirtioDevice};
use super::figures::{BalloonFigures, Shared, lock};
use super::handle::BalloonHandle;
use super::pages::{frames, runs};
use super::statistics::{self, Statistics};
use crate::bus::{Clock, StateError, state};
use crate::mem::{Gpa, GuestRam, PAGE_SIZE};

/// 5.5: its virtio ID.
const ID: u16 = 5;

/// 5.5.3: features.
const STATS_VQ: u64 = 1 << 1;
const PAGE_POISON: u64 = 1 << 4;
const REPORTING: u64 = 1 << 5;

/// Its queues: the five of 5.5.2, without free page hints.
pub const BALLOON_QUEUES: u16 = 5;
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
const STATISTICS: u16 = 2;
/// Reports come through queue 4. Linux before 6.11 numbers only the queues it uses, so it takes the
/// free number of the hints for it; QEMU has them there too.
const REPORTS_UNNUMBERED: u16 = 3;
const REPORTS: u16 = 4;

/// 5.5.4: the configuration's registers.
const ACTUAL: usize = 4;
const POISON: usize = 12;
const CONFIG_LEN: usize = 16;

/// Of a buffer of frame numbers this much is read; Linux's have 1 KiB.
const FRAMES_LEN: usize = 16 << 10;
/// Pages and runs a vCPU is held up for; the rest follows on the main thread.
const BUDGET: usize = 4096;

/// What came of a run of pages.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    returned: u64,
    kept: u64,
    nonsense: u64,
}

impl Outcome {
    fn count(self, figures: &mut BalloonFigures) {
        let add = |sum: &mut u64, more| *sum = sum.saturating_add(more);
        add(&mut figures.returned, self.returned);
        add(&mut figures.kept, self.kept);
        add(&mut figures.nonsense, self.nonsense);
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    target: u32,
    actual: u32,
    poison: u32,
    /// The buffer for statistics, which the device keeps until it wants new ones.
    statistics: Option<u16>,
}

/// The balloon.
pub struct Balloon {
    ram: GuestRam,
    clock: Arc<dyn Clock>,
    shared: Arc<Mutex<Shared>>,

    poison: u32,
    statistics: Option<u16>,
}

impl fmt::Debug for Balloon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Balloon").field(&self.shared).finish()
    }
}

impl Balloon {
    /// The balloon of `ram`, empty, and the host's end of it.
    #[must_use]
    pub fn new(ram: &GuestRam, clock: Arc<dyn Clock>, signals: &Signals) -> (Self, BalloonHandle) {
        let shared = Arc::default();
        let handle = BalloonHandle {
            ram: ram.clone(),
            signals: signals.clone(),
            shared: Arc::clone(&shared),
        };
        let balloon = Self {
            ram: ram.clone(),
            clock,
            shared,
            poison: 0,
            statistics: None,
        };
        (balloon, handle)
    }

    /// Gives a range back to the host, if it is RAM and the host can have it.
    fn discard(&self, at: u64, len: u64) -> Outcome {
        if !self.ram.contains(Gpa(at), len) {
            let pages = len.div_ceil(PAGE_SIZE);
            return Outcome {
                nonsense: pages,
                ..Outcome::default()
            };
        }
        // Pinned, or refused by the host: the guest's page stays what it is, which costs memory and
        // nothing else.
        let returned = self.ram.discard(Gpa(at), len).unwrap_or(0);
        Outcome {
            returned,
            kept: len.saturating_sub(returned),
            nonsense: 0,
        }
    }

    /// Takes buffers of frame numbers until the budget is spent.
    fn frames(&self, ring: &mut Ring<'_>, inflate: bool) -> Result<Served, RingError> {
        let mut spent = 0_usize;
        while let Some(chain) = ring.take()? {
            let bytes = ring.read(&chain, FRAMES_LEN)?;
            let offered: u64 = chain.parts.iter().map(|part| u64::from(part.len)).sum();
            let runs = runs(frames(&bytes).collect());
            let pages: u64 = runs.iter().map(|run| run.1).sum();
            let len = pages.saturating_mul(PAGE_SIZE);
            let outcomes: Vec<Outcome> = match inflate {
                true => runs.iter().flat_map(|run| self.run(*run)).collect(),
                false => Vec::new(),
            };
            let mut shared = lock(&self.shared);
            let figures = &mut shared.figures;
            outcomes
                .into_iter()
                .for_each(|outcome| outcome.count(figures));
            let sum = match inflate {
                true => &mut figures.inflated,
                false => &mut figures.deflated,
            };
            *sum = sum.saturating_add(len);
            if offered > FRAMES_LEN as u64 {
                figures.nonsense = figures.nonsense.saturating_add(1);
            }
            drop(shared);
            ring.give_back(chain.head, 0)?;
            spent = spent.saturating_add(runs.len()).saturating_add(1);
            if spent >= BUDGET {
                return Ok(Served::More);
            }
        }
        Ok(Served::All)
    }

    /// A run that lies partly outside RAM is taken page by page.
    fn run(&self, (first, count): (u64, u64)) -> Vec<Outcome> {
        let at = |frame: u64| frame.saturating_mul(PAGE_SIZE);
        if self.ram.contains(Gpa(at(first)), at(count)) {
            return vec![self.discard(at(first), at(count))];
        }
        let frames = first..first.saturating_add(count);
        let pages = frames.map(|frame| self.discard(at(frame), PAGE_SIZE));
        pages.collect()
    }

    /// Takes reports: each part of a buffer is a run of free pages (5.5.6.7).
    fn reports(&self, ring: &mut Ring<'_>) -> Result<Served, RingError> {
        // Free pages are to read as the poison when they are used again (5.5.6.6), and what is given
        // back reads as zero.
        let keep = ring.has(PAGE_POISON) && self.poison != 0;
        let mut spent = 0_usize;
        while let Some(chain) = ring.take()? {
            for part in chain.parts.iter().filter(|part| part.writable) {
                let len = u64::from(part.len);
                let outcome = match keep {
                    true => Outcome {
                        kept: len,
                        ..Outcome::default()
                    },
                    false => self.discard(part.at.0, len),
                };
                let mut shared = lock(&self.shared);
                let figures = &mut shared.figures;
                outcome.count(figures);
                if outcome.nonsense == 0 {
                    figures.reported = figures.reported.saturating_add(len);
                }
            }
            ring.give_back(chain.head, 0)?;
            spent = spent.saturating_add(chain.parts.len()).saturating_add(1);
            if spent >= BUDGET {
                return Ok(Served::More);
            }
        }
        Ok(Served::All)
    }

    /// The driver keeps one buffer here with its latest figures. Given back, it fills and sends it
    /// again.
    fn statistics(&mut self, ring: &mut Ring<'_>) -> Result<Served, RingError> {
        let asked = std::mem::take(&mut lock(&self.shared).asked);
        if asked && let Some(head) = self.statistics.take() {
            ring.give_back(head, 0)?;
        }
        while let Some(chain) = ring.take()? {
            let figures = Statistics::of(&ring.read(&chain, statistics::LEN)?);
            let mut shared = lock(&self.shared);
            shared.figures.statistics = Some(figures);
            shared.figures.statistics_at = self.clock.now();
            drop(shared);
            // A second one is not what a driver does; it gets the first one back.
            if let Some(before) = self.statistics.replace(chain.head) {
                ring.give_back(before, 0)?;
                return Ok(Served::More);
            }
        }
        Ok(Served::All)
    }
}

impl VirtioDevice for Balloon {
    fn label(&self) -> &'static str {
        "balloon"
    }

    fn id(&self) -> u16 {
        ID
    }

    fn queues(&self) -> u16 {
        BALLOON_QUEUES
    }

    fn features(&self) -> u64 {
        STATS_VQ | PAGE_POISON | REPORTING
    }

    fn config(&self) -> Vec<u8> {
        let (target, actual) = {
            let shared = lock(&self.shared);
            (shared.target_pages, shared.actual_pages)
        };
        let no_hints = 0_u32;
        let words = [target, actual, no_hints, self.poison];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        let mut config = self.config();
        for (to, from) in config.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
        let word = |at: usize| {
            let bytes = config.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        debug_assert_eq!(config.len(), CONFIG_LEN);
        lock(&self.shared).actual_pages = word(ACTUAL);
        self.poison = word(POISON);
    }

    fn driver(&mut self, features: Option<u64>) {
        lock(&self.shared).figures.driver = features.is_some();
    }

    fn serve(&mut self, queue: u16, ring: &mut Ring<'_>) -> Result<Served, RingError> {
        match queue {
            INFLATE => self.frames(ring, true),
            DEFLATE => self.frames(ring, false),
            STATISTICS if ring.has(STATS_VQ) => self.statistics(ring),
            REPORTS_UNNUMBERED | REPORTS if ring.has(REPORTING) => self.reports(ring),
            _ => Ok(Served::All),
        }
    }

    fn broken(&mut self, error: &RingError) {
        lock(&self.shared).figures.broken = Some(error.to_string());
    }

    fn wants(&self) -> Option<u16> {
        let asked = lock(&self.shared).asked;
        (asked && self.statistics.is_some()).then_some(STATISTICS)
    }

    /// What the host wants stays: it is not the guest's to forget.
    fn reset(&mut self) {
        self.poison = 0;
        self.statistics = None;
        let mut shared = lock(&self.shared);
        shared.actual_pages = 0;
        shared.asked = false;
        shared.figures.statistics = None;
        shared.figures.broken = None;
    }

    fn save(&self) -> serde_json::Value {
        let shared = lock(&self.shared);
        state::save(&State {
            target: shared.target_pages,
            actual: shared.actual_pages,
            poison: self.poison,
            statistics: self.statistics,
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let pages = self.ram.size().checked_div(PAGE_SIZE).unwrap_or(0);
        let possible = u64::from(loaded.target) <= pages;
        state::check("balloon", possible, "a target larger than memory")?;
        let mut shared = lock(&self.shared);
        shared.target_pages = loaded.target;
        shared.actual_pages = loaded.actual;
        drop(shared);
        self.poison = loaded.poison;
        self.statistics = loaded.statistics;
        Ok(())
    }
}
