//! Port 80h: the power-on self-test's latch, which Linux writes as its I/O delay.

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effects, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::trace::Space;

const BASE: u64 = 0x80;

/// A latch of the last code.
#[derive(Debug, Default)]
pub struct PostCode {
    state: State,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    code: u8,
}

impl PostCode {
    /// The latch after power-on.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        let mut post = PostCode::new();
        effects_of_write(&mut post, 0, Width::Byte, 0x55);
        assert_eq!(read(&mut post, 0, Width::Byte), 0x55);
    }
}
