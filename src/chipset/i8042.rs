//! The i8042 keyboard controller, with a keyboard and with nothing on its mouse port.
//!
//! Commands and bits are those of the IBM Personal System/2 hardware reference, keyboard and
//! auxiliary device controller. Port 0x61, which some draw into this chip, belongs to KVM's PIT.

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Line, Refusal, ResetKind, StateError, Width, Window,
    state,
};
use crate::trace::Space;

use super::ps2_keyboard::Keyboard;

/// Windows: the data port 0x60, and 0x64, which is the status when read and takes commands.
const DATA: u8 = 0;
const COMMAND: u8 = 1;

/// Status bits.
const OUTPUT_FULL: u8 = 1 << 0;
const SYSTEM: u8 = 1 << 2;
const COMMAND_LAST: u8 = 1 << 3;
const UNLOCKED: u8 = 1 << 4;
const FROM_AUX: u8 = 1 << 5;
const TIMEOUT: u8 = 1 << 6;

/// Command byte bits (byte 0 of the controller's RAM); SYSTEM is in both.
const KEYBOARD_INTERRUPT: u8 = 1 << 0;
const AUX_INTERRUPT: u8 = 1 << 1;
const KEYBOARD_OFF: u8 = 1 << 4;
const AUX_OFF: u8 = 1 << 5;
const TRANSLATE: u8 = 1 << 6;
/// How a BIOS leaves it: keyboard on, translated, with interrupts; mouse off.
const COMMAND_BYTE: u8 = KEYBOARD_INTERRUPT | SYSTEM | AUX_OFF | TRANSLATE;

/// Output port bits. NOT MODELLED: the A20 gate, which KVM does not have; the bit is kept.
const NO_RESET: u8 = 1 << 0;
const A20: u8 = 1 << 1;
const OUTPUT_FULL_KEYBOARD: u8 = 1 << 4;
const OUTPUT_FULL_AUX: u8 = 1 << 5;

/// What the driver of the mouse port hears when nothing answers.
const NO_ANSWER: u8 = 0xfe;

/// What the next byte at the data port is, when it is not for the keyboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Expect {
    Ram(u8),
    OutputPort,
    KeyboardLoop,
    AuxLoop,
    AuxDevice,
}

/// A byte for the guest, and the status bits that come with it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    byte: u8,
    status: u8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    ram: [u8; 32],
    output_port: u8,
    expect: Option<Expect>,
    command_last: bool,
    /// The output buffer.
    output: Option<Output>,
    /// The controller's own answer, when the buffer is still full. A second one overwrites it.
    answer: Option<Output>,
    keyboard: Keyboard,
}

impl Default for State {
    fn default() -> Self {
        let mut ram = [0; 32];
        ram[0] = COMMAND_BYTE;
        Self {
            ram,
            output_port: NO_RESET | A20,
            expect: None,
            command_last: false,
            output: None,
            answer: None,
            keyboard: Keyboard::default(),
        }
    }
}

impl State {
    const fn command_byte(&self) -> u8 {
        self.ram[0]
    }

    const fn change_command_byte(&mut self, set: u8, clear: u8) {
        self.ram[0] = (self.ram[0] | set) & !clear;
    }
}

/// The controller.
#[derive(Debug)]
pub struct I8042 {
    keyboard_line: Line,
    aux_line: Line,

    state: State,
}

impl I8042 {
    /// A controller that interrupts through ISA interrupts 1 and 12.
    #[must_use]
    pub fn new(keyboard_line: Line, aux_line: Line) -> Self {
        Self {
            keyboard_line,
            aux_line,
            state: State::default(),
        }
    }

    /// The levels of both lines: a full output buffer, whose source may interrupt.
    const fn levels(&self) -> (bool, bool) {
        let command_byte = self.state.command_byte();
        match self.state.output {
            Some(Output { status, .. }) if status & FROM_AUX != 0 => {
                (false, command_byte & AUX_INTERRUPT != 0)
            }
            Some(_) => (command_byte & KEYBOARD_INTERRUPT != 0, false),
            None => (false, false),
        }
    }

    fn settle(&self) {
        let (keyboard, aux) = self.levels();
        self.keyboard_line.set(keyboard);
        self.aux_line.set(aux);
    }

    /// Fills an empty output buffer from whoever has something to say, and moves the lines.
    fn refill(&mut self) {
        let state = &mut self.state;
        if state.output.is_none() {
            state.output = state.answer.take();
        }
        if state.output.is_none() && state.command_byte() & KEYBOARD_OFF == 0 {
            state.output = state.keyboard.send().map(|byte| Output { byte, status: 0 });
        }
        self.settle();
    }

    const fn answer(&mut self, byte: u8, status: u8) {
        self.state.answer = Some(Output { byte, status });
    }

    fn status(&self) -> u8 {
        let output = self.state.output.map_or(0, |o| o.status | OUTPUT_FULL);
        let command_last = if self.state.command_last {
            COMMAND_LAST
        } else {
            0
        };
        output | command_last | UNLOCKED | self.state.command_byte() & SYSTEM
    }

    const fn output_port(&self) -> u8 {
        let full = match self.state.output {
            Some(Output { status, .. }) if status & FROM_AUX != 0 => OUTPUT_FULL_AUX,
            Some(_) => OUTPUT_FULL_KEYBOARD,
            None => 0,
        };
        self.state.output_port | full
    }

    fn command(&mut self, command: u8, effects: &mut Effects) {
        self.state.command_last = true;
        self.state.expect = None;
        let ram = command & 0x1f;
        match command {
            0x20..=0x3f => {
                let byte = self.state.ram.get(usize::from(ram)).copied();
                self.answer(byte.unwrap_or_default(), 0);
            }
            0x60..=0x7f => self.state.expect = Some(Expect::Ram(ram)),
            0xa7 => self.state.change_command_byte(AUX_OFF, 0),
            0xa8 => self.state.change_command_byte(0, AUX_OFF),
            // Interface tests: clock and data lines of both ports are sound.
            0xa9 | 0xab => self.answer(0x00, 0),
            0xaa => {
                self.state.change_command_byte(SYSTEM, 0);
                self.answer(0x55, 0);
            }
            0xad => self.state.change_command_byte(KEYBOARD_OFF, 0),
            0xae => self.state.change_command_byte(0, KEYBOARD_OFF),
            // The input port: bit 7 says that the keyboard is not locked.
            0xc0 => self.answer(0x80, 0),
            0xd0 => self.answer(self.output_port(), 0),
            0xd1 => self.state.expect = Some(Expect::OutputPort),
            0xd2 => self.state.expect = Some(Expect::KeyboardLoop),
            0xd3 => self.state.expect = Some(Expect::AuxLoop),
            0xd4 => self.state.expect = Some(Expect::AuxDevice),
            // Pulses the output port's low bits that are zero in the command; bit 0 is the CPU's reset.
            0xf0..=0xff if command & NO_RESET == 0 => {
                effects.push(Effect::Reset(ResetKind::Warm));
            }
            _ => {}
        }
    }

    fn data(&mut self, byte: u8, effects: &mut Effects) {
        self.state.command_last = false;
        match self.state.expect.take() {
            None => {
                // A byte for the keyboard switches its interface on.
                self.state.change_command_byte(0, KEYBOARD_OFF);
                let translated = self.state.command_byte() & TRANSLATE != 0;
                self.state.keyboard.take(byte, translated);
            }
            Some(Expect::Ram(at)) => {
                if let Some(slot) = self.state.ram.get_mut(usize::from(at)) {
                    *slot = byte;
                }
            }
            Some(Expect::OutputPort) => {
                self.state.output_port = byte & A20 | NO_RESET;
                if byte & NO_RESET == 0 {
                    effects.push(Effect::Reset(ResetKind::Warm));
                }
            }
            Some(Expect::KeyboardLoop) => self.answer(byte, 0),
            Some(Expect::AuxLoop) => self.answer(byte, FROM_AUX),
            Some(Expect::AuxDevice) => self.answer(NO_ANSWER, FROM_AUX | TIMEOUT),
        }
    }
}

impl Device for I8042 {
    fn label(&self) -> &'static str {
        "i8042"
    }

    fn windows(&self) -> Vec<Window> {
        let port = |id, name, base| Window {
            id,
            name,
            space: Space::Pio,
            base: Some(base),
            len: 1,
        };
        vec![port(DATA, "data", 0x60), port(COMMAND, "command", 0x64)]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.width != Width::Byte {
            return Err(Refusal::BadWidth);
        }
        if at.window == COMMAND {
            return Ok(self.status().into());
        }
        // An empty buffer reads as zero.
        let byte = self.state.output.take().map_or(0, |output| output.byte);
        // The lines fall before the next byte can raise them: each byte is an edge.
        self.settle();
        self.refill();
        Ok(byte.into())
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        let byte = match at.width {
            Width::Byte => value.to_le_bytes()[0],
            _ => return Err(Refusal::BadWidth),
        };
        if at.window == COMMAND {
            self.command(byte, effects);
        } else {
            self.data(byte, effects);
        }
        self.refill();
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.state = State::default();
        self.settle();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&self.state)
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("i8042", possible, what);
        let ram_fits = !matches!(loaded.expect, Some(Expect::Ram(32..)));
        check(ram_fits, "a write past the controller's RAM")?;
        check(loaded.keyboard.is_possible(), "an impossible keyboard")?;
        for output in [loaded.output, loaded.answer].into_iter().flatten() {
            let bits = output.status & !(FROM_AUX | TIMEOUT) == 0;
            check(bits, "an output with other status bits")?;
        }
        check(
            loaded.output_port & !A20 == NO_RESET,
            "an output port that holds the CPU in reset",
        )?;
        self.state = loaded;
        let (keyboard, aux) = self.levels();
        self.keyboard_line.restore(keyboard);
        self.aux_line.restore(aux);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::Wires;

    struct Rig {
        wires: Wires,
        device: I8042,
    }

    impl Rig {
        fn new() -> Self {
            let wires = Wires::new();
            let device = I8042::new(wires.line(1), wires.line(12));
            Self { wires, device }
        }

        fn at(window: u8) -> Access {
            Access {
                window,
                offset: 0,
                width: Width::Byte,
            }
        }

        fn write(&mut self, window: u8, byte: u8) -> Vec<Effect> {
            let mut effects = Effects::new();
            let at = Self::at(window);
            self.device.write(at, byte.into(), &mut effects).unwrap();
            effects.drain().collect()
        }

        fn read(&mut self, window: u8) -> u8 {
            let value = self.device.read(Self::at(window), &mut Effects::new());
            value.unwrap().to_le_bytes()[0]
        }

        /// A command with its argument, and the answer with the status that announced it.
        fn ask(&mut self, command: u8, argument: Option<u8>) -> Option<(u8, u8)> {
            self.write(COMMAND, command);
            if let Some(byte) = argument {
                self.write(DATA, byte);
            }
            let status = self.read(COMMAND);
            (status & OUTPUT_FULL != 0).then(|| (self.read(DATA), status))
        }
    }

    /// drivers/input/serio/i8042.c: i8042_controller_selftest(), i8042_controller_init(),
    /// i8042_check_aux(), i8042_check_mux().
    #[test]
    fn linux_finds_a_working_controller_with_two_ports_and_no_multiplexer() {
        let mut rig = Rig::new();
        assert_eq!(rig.ask(0xaa, None).unwrap().0, 0x55);
        let command_byte = rig.ask(0x20, None).unwrap().0;
        assert_eq!(rig.ask(0x60, Some(command_byte | KEYBOARD_OFF)), None);
        assert_eq!(rig.ask(0x20, None).unwrap().0, command_byte | KEYBOARD_OFF);
        let (byte, status) = rig.ask(0xd3, Some(0x5a)).unwrap();
        assert_eq!((byte, status & FROM_AUX), (0x5a, FROM_AUX));
        for (command, bit) in [(0xa7, AUX_OFF), (0xa8, 0)] {
            rig.write(COMMAND, command);
            assert_eq!(rig.ask(0x20, None).unwrap().0 & AUX_OFF, bit);
        }
        assert_eq!(rig.ask(0xd3, Some(0xa4)).unwrap().0, 0xa4, "no multiplexer");
        assert_ne!(rig.read(COMMAND) & UNLOCKED, 0, "no warning of a key lock");
    }

    /// i8042_check_aux() again: a byte through the loop must bring interrupt 12.
    #[test]
    fn the_aux_loop_interrupts_on_12_and_the_keyboard_on_1() {
        let mut rig = Rig::new();
        rig.ask(0x60, Some(AUX_INTERRUPT));
        rig.write(COMMAND, 0xd3);
        rig.write(DATA, 0xa5);
        assert!(rig.wires.level(12) && !rig.wires.level(1));
        rig.read(DATA);
        assert!(!rig.wires.level(12));
        rig.ask(0x60, Some(KEYBOARD_INTERRUPT));
        rig.write(DATA, 0xf2);
        assert!(rig.wires.level(1) && !rig.wires.level(12));
    }

    #[test]
    fn every_byte_of_an_answer_is_an_edge_of_its_own() {
        let mut rig = Rig::new();
        rig.write(DATA, 0xff);
        assert_eq!(rig.wires.take(), [(1, true)]);
        assert_eq!(rig.read(DATA), 0xfa);
        assert_eq!(rig.wires.take(), [(1, false), (1, true)]);
        assert_eq!(rig.read(DATA), 0xaa);
        assert_eq!(rig.wires.take(), [(1, false)]);
        assert_eq!(rig.read(COMMAND) & OUTPUT_FULL, 0);
    }

    #[test]
    fn a_mouse_that_is_not_there_times_out_at_once() {
        let mut rig = Rig::new();
        let (byte, status) = rig.ask(0xd4, Some(0xff)).unwrap();
        assert_eq!(byte, NO_ANSWER);
        assert_eq!(status & (FROM_AUX | TIMEOUT), FROM_AUX | TIMEOUT);
    }

    #[test]
    fn a_keyboard_that_is_off_keeps_its_answer_until_it_is_on() {
        let mut rig = Rig::new();
        rig.write(DATA, 0xee);
        rig.write(DATA, 0xee);
        rig.write(COMMAND, 0xad);
        assert_eq!(rig.read(DATA), 0xee, "this one was out already");
        assert_eq!(rig.read(COMMAND) & OUTPUT_FULL, 0);
        rig.write(COMMAND, 0xae);
        assert_eq!(rig.read(DATA), 0xee);
    }

    #[test]
    fn pulsing_or_writing_the_reset_bit_low_resets() {
        let mut rig = Rig::new();
        let reset = [Effect::Reset(ResetKind::Warm)];
        assert_eq!(rig.write(COMMAND, 0xfe), reset);
        assert_eq!(rig.write(COMMAND, 0xff), []);
        rig.write(COMMAND, 0xd1);
        assert_eq!(rig.write(DATA, 0xfe), reset);
        rig.write(COMMAND, 0xd1);
        assert_eq!(rig.write(DATA, 0x03), []);
        assert_eq!(rig.ask(0xd0, None).unwrap().0, NO_RESET | A20);
    }

    #[test]
    fn a_loaded_controller_drives_its_lines_as_before_without_an_edge() {
        let mut rig = Rig::new();
        rig.write(DATA, 0xff);
        let saved = rig.device.save();
        let mut other = Rig::new();
        other.device.load(&saved).unwrap();
        assert_eq!(other.wires.take(), []);
        assert_eq!((other.read(DATA), other.read(DATA)), (0xfa, 0xaa));
        assert_eq!(other.wires.take(), [(1, false), (1, true), (1, false)]);
    }
}
