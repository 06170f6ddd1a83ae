//! Port 80h: the power-on self-test's latch, which Linux writes as its I/O delay.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Clock, Device, Effects, Ns, Refusal, ResetKind, StateError, Width, Window,
    state,
};
use crate::trace::Space;

const BASE: u64 = 0x80;

/// How many codes a trail keeps.
const TRAIL: usize = 1024;

#[derive(Debug, Default)]
struct Trail {
    codes: Vec<(Ns, u8)>,
    lost: u64,
}

/// The codes that were written, with the guest's time: the first [`TRAIL`], and how many more.
#[derive(Debug, Clone)]
pub struct PostTrail {
    clock: Arc<dyn Clock>,
    trail: Arc<Mutex<Trail>>,
}

impl PostTrail {
    /// An empty trail on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            trail: Arc::default(),
        }
    }

    fn note(&self, code: u8) {
        let now = self.clock.now();
        let mut trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner);
        if trail.codes.len() < TRAIL {
            trail.codes.push((now, code));
        } else {
            trail.lost = trail.lost.saturating_add(1);
        }
    }

    /// The codes so far, and how many came after the trail was full.
    #[must_use]
    pub fn codes(&self) -> (Vec<(Ns, u8)>, u64) {
        let trail = self.trail.lock().unwrap_or_else(PoisonError::into_inner);
        (trail.codes.clone(), trail.lost)
    }
}

/// A latch of the last code.
#[derive(Debug, Default)]
pub struct PostCode {
    trail: Option<PostTrail>,
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    code: u8,
}

impl PostCode {
    /// The latch after power-on, with a trail of its codes when one is wanted.
    #[must_use]
    pub fn new(trail: Option<PostTrail>) -> Self {
        Self {
            trail,
            state: State::default(),
        }
    }
}

impl Device for PostCode {
    fn label(&self) -> &'static str {
        "post"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "code",
            space: Space::Pio,
            base: Some(BASE),
            len: 1,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        Ok(self.state.code.into())
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        self.state.code = match at.width {
            Width::Byte => value.to_le_bytes()[0],
            _ => return Err(Refusal::BadWidth),
        };
        if let Some(trail) = &self.trail {
            trail.note(self.state.code);
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        self.state = state::load(self.label(), saved)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::{effects_of_write, read};

    #[test]
    fn the_last_code_can_be_read_back() {
        let mut post = PostCode::new(None);
        effects_of_write(&mut post, 0, Width::Byte, 0x55);
        assert_eq!(read(&mut post, 0, Width::Byte), 0x55);
    }

    #[test]
    fn a_trail_has_every_code_with_its_time_until_it_is_full() {
        let clock = Arc::new(crate::bus::TestClock::default());
        let trail = PostTrail::new(clock.clone());
        let mut post = PostCode::new(Some(trail.clone()));
        effects_of_write(&mut post, 0, Width::Byte, 1);
        clock.advance(Ns(500));
        effects_of_write(&mut post, 0, Width::Byte, 2);
        effects_of_write(&mut post, 0, Width::Word, 3);
        assert_eq!(trail.codes(), (vec![(Ns(0), 1), (Ns(500), 2)], 0));
        for _ in 0..TRAIL {
            effects_of_write(&mut post, 0, Width::Byte, 4);
        }
        let (codes, lost) = trail.codes();
        assert_eq!((codes.len(), lost), (TRAIL, 2));
    }
}
