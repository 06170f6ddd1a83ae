//! COM1: a 16550A.
//!
//! The register file is vm-superio's. This shell adds what that leaves out, all of it visible to a
//! driver: the interrupt is a level that follows the enabled causes, IIR names one cause at a time
//! and a read acknowledges only the one it names, FCR switches and clears the FIFO.
//!
//! The receiver is filled only while the guest listens: with the received-data interrupt on, it does
//! when RTS says so (or when it has not touched the modem lines), and then [`Pace`] says how fast;
//! with that interrupt off, when it polls LSR over and over. Otherwise what a user pipes in would be
//! thrown away by the FIFO clears of Linux's probe and first open, and by a driver that throttles
//! with RTS.
//!
//! NOT MODELLED: line speed (bytes move at once), receiver trigger levels, line errors, changes of
//! the modem lines, OUT2 as the gate of the interrupt. The receiver FIFO holds 64 bytes where a 16550A's holds 16.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial as Core, Trigger};

use crate::bus::{
    Access, Answer, Clock, Device, Effect, Effects, Line, Ns, ResetKind, StateError, Window, state,
};
use crate::trace::Space;

use super::host_input::HostInput;
use super::lanes;
use super::serial_pace::Pace;

/// COM1, on ISA interrupt 4.
const BASE: u64 = 0x3f8;

/// Registers by offset (16550D data sheet, table II).
const DATA: u8 = 0;
const IER: u8 = 1;
const IIR_FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;

/// IER: received data available, transmitter holding register empty.
const ERBFI: u8 = 1 << 0;
const ETBEI: u8 = 1 << 1;
/// IER's bits that exist.
const IER_BITS: u8 = 0x0f;
/// IIR: no cause, and the two there are.
const NO_INTERRUPT: u8 = 0x01;
const RECEIVED_DATA: u8 = 0x04;
const HOLDING_EMPTY: u8 = 0x02;
/// IIR: both set while the FIFOs are on.
const FIFOS_ENABLED: u8 = 0xc0;
/// FCR: enable, clear the receiver.
const FIFO_ENABLE: u8 = 1 << 0;
const RECEIVER_RESET: u8 = 1 << 1;
/// LCR: offsets 0 and 1 are the divisor.
const DLAB: u8 = 1 << 7;
/// MCR: the modem lines, and loopback.
const DTR: u8 = 1 << 0;
const RTS: u8 = 1 << 1;
const LOOP: u8 = 1 << 4;

/// vm-superio's receiver FIFO.
const FIFO: usize = 64;
/// Reads of LSR in a row, with nothing in between, that make a guest one that polls for input: the
/// transmitter is always ready, so nobody waits for that.
const POLLS: u8 = 16;

/// Takes what the guest prints.
pub trait ConsoleOut: Send {
    /// Takes one byte. Called with the UART's lock held.
    fn put(&mut self, byte: u8);
}

/// vm-superio's interrupt: unused, the shell drives the line from the registers.
struct Quiet;

impl Trigger for Quiet {
    type E = std::convert::Infallible;

    fn trigger(&self) -> Result<(), Self::E> {
        Ok(())
    }
}

/// vm-superio's output: the byte it just sent, for the shell to take.
#[derive(Default)]
struct Outbox(Option<u8>);

impl io::Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = bytes.last().copied();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Uart = Core<Quiet, NoEvents, Outbox>;

fn uart(state: &SerialState) -> Option<Uart> {
    Core::from_state(state, Quiet, NoEvents, Outbox::default()).ok()
}

/// The shell's own registers.
#[derive(Debug, Default, Clone)]
struct Shell {
    /// IER and MCR as last written: vm-superio reads need `&mut`, and DLAB hides IER.
    ier: u8,
    mcr: u8,
    /// FCR's enable bit.
    fifos: bool,
    /// The transmitter became empty and nobody was told.
    holding_empty: bool,
    /// Reads of LSR in a row.
    polls: u8,
    /// The guest has sent a byte.
    spoke: bool,
    /// The guest has raised RTS, so it means something when it drops it.
    uses_rts: bool,
}

impl Shell {
    /// After reset, with vm-superio's own idea of MCR.
    fn fresh() -> Self {
        Self {
            mcr: SerialState::default().modem_control,
            ..Self::default()
        }
    }
}

/// The volatile state as it is saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    divisor: u16,
    lcr: u8,
    mcr: u8,
    scr: u8,
    received: Vec<u8>,
    ier: u8,
    fifos: bool,
    holding_empty: bool,
    polls: u8,
    spoke: bool,
    uses_rts: bool,
}

/// A 16550A on COM1.
pub struct Serial {
    line: Line,
    out: Box<dyn ConsoleOut>,
    input: HostInput,
    clock: Arc<dyn Clock>,
    pace: Pace,

    uart: Uart,
    shell: Shell,
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial")
            .field("line", &self.line)
            .field("input", &self.input)
            .field("shell", &self.shell)
            .finish_non_exhaustive()
    }
}

impl Serial {
    /// A UART that prints to `out`, is fed from `input` at the pace of `clock` and interrupts through
    /// `line`.
    #[must_use]
    pub fn new(
        line: Line,
        out: Box<dyn ConsoleOut>,
        input: HostInput,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            line,
            out,
            input,
            clock,
            pace: Pace::default(),
            uart: Core::new(Quiet, Outbox::default()),
            shell: Shell::fresh(),
        }
    }

    fn data_ready(&self) -> bool {
        self.uart.fifo_capacity() < FIFO
    }

    fn divisor_access(&mut self) -> bool {
        self.uart.read(LCR) & DLAB != 0
    }

    /// The cause IIR names: the enabled one of highest priority.
    fn cause(&self) -> u8 {
        if self.shell.ier & ERBFI != 0 && self.data_ready() {
            RECEIVED_DATA
        } else if self.shell.ier & ETBEI != 0 && self.shell.holding_empty {
            HOLDING_EMPTY
        } else {
            NO_INTERRUPT
        }
    }

    fn settle_line(&self, was: u8) {
        let now = self.cause();
        if (now == NO_INTERRUPT) != (was == NO_INTERRUPT) {
            self.line.set(now != NO_INTERRUPT);
        }
    }

    fn takes_interrupts(&self) -> bool {
        self.shell.ier & ERBFI != 0
    }

    /// Bytes the receiver would take now, but for the pace.
    fn appetite(&self) -> usize {
        let mcr = self.shell.mcr;
        let listens = if !self.takes_interrupts() {
            self.shell.polls >= POLLS
        } else if self.shell.uses_rts {
            mcr & RTS != 0
        } else {
            mcr & DTR == 0
        };
        if mcr & LOOP != 0 || !listens {
            0
        } else if !self.data_ready() {
            if self.shell.fifos { FIFO } else { 1 }
        } else if self.takes_interrupts() || !self.shell.fifos {
            // An interrupt is asserted for what is there.
            0
        } else {
            self.uart.fifo_capacity()
        }
    }

    /// When the receiver may be given what waits.
    fn feeding_time(&self) -> Ns {
        match self.takes_interrupts() {
            true => self.pace.next(),
            false => Ns(0),
        }
    }

    /// Moves waiting bytes into the receiver.
    fn feed(&mut self) {
        if self.input.waiting() == 0 || self.appetite() == 0 {
            return;
        }
        let now = self.clock.now();
        if now < self.feeding_time() {
            return;
        }
        let was = self.cause();
        self.pace.filled(now);
        let mut bytes = [0; FIFO];
        let room = self.appetite();
        let Some(wanted) = bytes.get_mut(..room).filter(|w| !w.is_empty()) else {
            return;
        };
        let taken = self.input.take(wanted);
        if let Some(taken) = bytes.get(..taken) {
            // The room was asked for, and the trigger cannot fail.
            let _ = self.uart.enqueue_raw_bytes(taken);
        }
        self.settle_line(was);
    }

    /// FCR. Switching the FIFOs clears them, as RECEIVER_RESET does.
    fn control_fifo(&mut self, value: u8) {
        let enable = value & FIFO_ENABLE != 0;
        if (value & RECEIVER_RESET != 0 || enable != self.shell.fifos)
            && self.data_ready()
            && let Some(emptied) = uart(&SerialState {
                in_buffer: Vec::new(),
                line_status: SerialState::default().line_status,
                ..self.uart.state()
            })
        {
            self.uart = emptied;
        }
        self.shell.fifos = enable;
    }

    fn read_byte(&mut self, offset: u8) -> u8 {
        let was = self.cause();
        let held = self.data_ready();
        let value = match offset {
            IIR_FCR => {
                if was == HOLDING_EMPTY {
                    self.shell.holding_empty = false;
                }
                was | if self.shell.fifos { FIFOS_ENABLED } else { 0 }
            }
            _ => self.uart.read(offset),
        };
        if held && !self.data_ready() {
            self.pace.drained(self.clock.now());
        }
        self.shell.polls = match offset {
            LSR => self.shell.polls.saturating_add(1).min(POLLS),
            // A polling guest that found a byte still polls.
            DATA => self.shell.polls,
            _ => 0,
        };
        self.settle_line(was);
        value
    }

    fn write_byte(&mut self, offset: u8, value: u8, effects: &mut Effects) {
        let mut was = self.cause();
        let divisor = self.divisor_access();
        self.shell.polls = 0;
        match offset {
            DATA if !divisor => {
                // The write acknowledges the cause, and the byte is gone at once: a guest that
                // never reads IIR gets its edge.
                self.shell.holding_empty = false;
                self.settle_line(was);
                was = self.cause();
                self.shell.holding_empty = true;
            }
            IER if !divisor => {
                let rises = value & !self.shell.ier & ETBEI != 0;
                self.shell.holding_empty |= rises;
                self.shell.ier = value & IER_BITS;
            }
            IIR_FCR => self.control_fifo(value),
            MCR => {
                self.shell.mcr = value;
                self.shell.uses_rts |= value & RTS != 0;
            }
            _ => {}
        }
        // Neither the outbox nor the trigger can fail.
        let _ = self.uart.write(offset, value);
        if let Some(byte) = self.uart.writer_mut().0.take() {
            self.out.put(byte);
            if !self.shell.spoke {
                self.shell.spoke = true;
                effects.push(Effect::Milestone("first_byte"));
            }
        }
        self.settle_line(was);
    }
}

/// The register of an offset in the window of eight.
fn register(offset: u64) -> u8 {
    offset.to_le_bytes()[0] & 7
}

impl Device for Serial {
    fn label(&self) -> &'static str {
        "serial"
    }

    fn windows(&self) -> Vec<Window> {
        vec![Window {
            id: 0,
            name: "COM1",
            space: Space::Pio,
            base: Some(BASE),
            len: 8,
        }]
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        let value = lanes::read(at, |offset| self.read_byte(register(offset)));
        self.feed();
        Ok(value)
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        lanes::write(at, value, |offset, byte| {
            self.write_byte(register(offset), byte, effects);
        });
        self.feed();
        Ok(())
    }

    /// Bytes the host has queued stay queued: they are not the machine's yet.
    fn reset(&mut self, _: ResetKind) {
        self.uart = Core::new(Quiet, Outbox::default());
        self.shell = Shell::fresh();
        self.pace = Pace::default();
        self.line.set(false);
    }

    fn save(&self) -> serde_json::Value {
        let uart = self.uart.state();
        let shell = self.shell.clone();
        state::save(&State {
            divisor: u16::from_be_bytes([uart.baud_divisor_high, uart.baud_divisor_low]),
            lcr: uart.line_control,
            mcr: shell.mcr,
            scr: uart.scratch,
            received: uart.in_buffer,
            ier: shell.ier,
            fifos: shell.fifos,
            holding_empty: shell.holding_empty,
            polls: shell.polls,
            spoke: shell.spoke,
            uses_rts: shell.uses_rts,
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        let check = |possible, what| state::check("serial", possible, what);
        check(loaded.received.len() <= FIFO, "the receiver overflows")?;
        check(loaded.ier & !IER_BITS == 0, "reserved bits of IER are set")?;
        check(loaded.polls <= POLLS, "more polls than are counted")?;
        let fresh = SerialState::default();
        let [high, low] = loaded.divisor.to_be_bytes();
        let restored = uart(&SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: loaded.ier,
            line_control: loaded.lcr,
            line_status: fresh.line_status | u8::from(!loaded.received.is_empty()),
            modem_control: loaded.mcr,
            scratch: loaded.scr,
            in_buffer: loaded.received,
            ..fresh
        });
        self.uart = restored.ok_or_else(|| StateError::Impossible {
            device: "serial".into(),
            what: "vm-superio refuses it".into(),
        })?;
        self.shell = Shell {
            ier: loaded.ier,
            mcr: loaded.mcr,
            fifos: loaded.fifos,
            holding_empty: loaded.holding_empty,
            polls: loaded.polls,
            spoke: loaded.spoke,
            uses_rts: loaded.uses_rts,
        };
        self.line.restore(self.cause() != NO_INTERRUPT);
        Ok(())
    }

    /// When bytes that the host has pushed and the receiver would take may reach it.
    fn deadline(&self) -> Option<Ns> {
        (self.input.waiting() > 0 && self.appetite() > 0).then(|| self.feeding_time())
    }

    fn wake(&mut self, _: &mut Effects) {
        self.feed();
    }
}

#[cfg(test)]
mod tests;
