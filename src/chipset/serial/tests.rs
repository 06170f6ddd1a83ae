use super::*;
use crate::bus::{TestClock, Width};
use crate::chipset::rig::{Printed, Wires, effects_of_write, read};

struct Rig {
    wires: Wires,
    printed: Printed,
    input: HostInput,
    clock: Arc<TestClock>,
    uart: Serial,
}

impl Rig {
    fn new() -> Self {
        let (wires, printed, input) = (Wires::new(), Printed::default(), HostInput::default());
        let clock = Arc::new(TestClock::default());
        let uart = Serial::new(
            wires.line(4),
            Box::new(printed.clone()),
            input.clone(),
            clock.clone(),
        );
        Self {
            wires,
            printed,
            input,
            clock,
            uart,
        }
    }

    /// As Linux leaves the port after the first open: FIFOs on, all modem lines, both interrupts.
    fn open() -> Self {
        let mut rig = Self::new();
        rig.write(IIR_FCR, FIFO_ENABLE);
        rig.write(MCR, DTR | RTS | 8);
        rig.write(IER, ERBFI);
        rig
    }

    fn write(&mut self, register: u8, value: u8) -> Vec<Effect> {
        effects_of_write(&mut self.uart, register.into(), Width::Byte, value.into())
    }

    fn read(&mut self, register: u8) -> u8 {
        let value = read(&mut self.uart, register.into(), Width::Byte);
        value.to_le_bytes()[0]
    }

    /// The host's side: push, then let the device see it.
    fn push(&mut self, bytes: &[u8]) -> usize {
        let pushed = self.input.push(bytes);
        self.wake();
        pushed
    }

    /// The timer, when it is due.
    fn wake(&mut self) {
        let now = self.clock.now();
        if self.uart.deadline().is_some_and(|at| at <= now) {
            self.uart.wake(&mut Effects::new());
        }
    }

    /// Linux's handler: reads until LSR says there is no more, `each` nanoseconds a byte.
    fn drain(&mut self, each: u64) -> Vec<u8> {
        let mut got = Vec::new();
        while self.read(LSR) & 1 != 0 {
            self.clock.advance(Ns(each));
            got.push(self.read(DATA));
        }
        got
    }
}

#[test]
fn what_is_sent_is_printed_and_the_first_byte_is_a_milestone() {
    let mut rig = Rig::new();
    assert_eq!(rig.write(DATA, b'a'), [Effect::Milestone("first_byte")]);
    assert_eq!(rig.write(DATA, b'b'), []);
    assert_eq!(rig.printed.text(), "ab");
    assert_eq!(rig.read(LSR), 0x60);
}

/// drivers/tty/serial/8250/8250_port.c, autoconfig() and autoconfig_16550a().
#[test]
fn linux_finds_a_16550a() {
    let mut rig = Rig::new();
    for (ier, seen) in [(0, 0), (0x0f, 0x0f), (0, 0)] {
        rig.write(IER, ier);
        assert_eq!(rig.read(IER) & 0x0f, seen);
    }
    rig.write(MCR, LOOP | 0x0a);
    assert_eq!(rig.read(6) & 0xf0, 0x90, "loopback");
    rig.write(MCR, 0);
    rig.write(LCR, 0xbf);
    rig.write(IIR_FCR, 0);
    rig.write(LCR, 0);
    rig.write(IIR_FCR, FIFO_ENABLE);
    assert_eq!(rig.read(IIR_FCR) >> 6, 3, "16550A");
    rig.write(LCR, 0x80);
    assert_ne!(rig.read(IIR_FCR), 0, "no EFR behind DLAB");
    for lcr in [0, 0x80] {
        rig.write(LCR, lcr);
        rig.write(IIR_FCR, FIFO_ENABLE | 0x20);
        assert_eq!(rig.read(IIR_FCR) >> 5, 6, "no 64-byte mode, so no 16750");
    }
}

/// serial8250_do_startup() tests for UART_BUG_THRE and UART_BUG_TXEN.
#[test]
fn enabling_the_transmitter_interrupt_asserts_it_every_time() {
    let mut rig = Rig::new();
    for _ in 0..2 {
        rig.write(IER, ETBEI);
        assert!(rig.wires.level(4));
        assert_eq!(rig.read(IIR_FCR), HOLDING_EMPTY);
        assert!(!rig.wires.level(4), "the read acknowledges it");
        assert_eq!(rig.read(IIR_FCR), NO_INTERRUPT);
        rig.write(IER, 0);
    }
}

#[test]
fn each_sent_byte_is_an_edge_even_when_iir_is_not_read() {
    let mut rig = Rig::new();
    rig.write(IER, ETBEI);
    rig.wires.take();
    rig.write(DATA, b'x');
    assert_eq!(rig.wires.take(), [(4, false), (4, true)]);
}

#[test]
fn reading_iir_acknowledges_only_the_cause_it_names() {
    let mut rig = Rig::open();
    rig.write(IER, ERBFI | ETBEI);
    rig.push(b"x");
    assert_eq!(rig.read(IIR_FCR) & 0x0f, RECEIVED_DATA);
    assert_eq!(rig.read(IIR_FCR) & 0x0f, RECEIVED_DATA, "data still waits");
    assert_eq!(rig.read(DATA), b'x');
    assert!(rig.wires.level(4), "the transmitter still waits");
    assert_eq!(rig.read(IIR_FCR) & 0x0f, HOLDING_EMPTY);
    assert!(!rig.wires.level(4));
}

/// The console masks IER around each message it prints.
#[test]
fn data_that_came_while_masked_interrupts_when_unmasked() {
    let mut rig = Rig::open();
    rig.push(b"x");
    assert!(rig.wires.level(4));
    rig.write(IER, 0);
    assert!(!rig.wires.level(4));
    rig.wires.take();
    rig.write(IER, ERBFI);
    assert_eq!(rig.wires.take(), [(4, true)]);
}

#[test]
fn a_64_kib_paste_arrives_whole_and_in_order() {
    let mut rig = Rig::open();
    let paste: Vec<u8> = (0..65_536_u32).map(|i| (i % 251) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < paste.len() {
        sent += rig.push(&paste[sent..]);
        assert!(rig.wires.level(4), "no interrupt after {} bytes", got.len());
        got.extend(rig.drain(0));
    }
    assert_eq!(got, paste);
    assert!(!rig.wires.level(4));
}

/// Linux's first open: FIFOs cleared and RBR read with interrupts off, then IER, then RTS.
#[test]
fn nothing_is_lost_to_the_drivers_start() {
    let mut rig = Rig::new();
    rig.push(b"early");
    rig.write(MCR, DTR | 8);
    rig.write(IIR_FCR, FIFO_ENABLE | RECEIVER_RESET | 4);
    rig.write(IIR_FCR, 0);
    rig.read(LSR);
    rig.read(DATA);
    rig.write(IER, ERBFI);
    rig.write(IIR_FCR, FIFO_ENABLE);
    assert_eq!(rig.read(LSR) & 1, 0);
    rig.write(MCR, DTR | RTS | 8);
    let got: Vec<u8> = (0..5).map(|_| rig.read(DATA)).collect();
    assert_eq!(got, b"early");
}

#[test]
fn a_guest_that_drops_rts_is_not_sent_more() {
    let mut rig = Rig::open();
    rig.write(MCR, DTR | 8);
    rig.push(b"x");
    assert_eq!(rig.read(LSR) & 1, 0);
    assert_eq!(rig.uart.deadline(), None, "waking it would change nothing");
    rig.write(MCR, DTR | RTS | 8);
    assert_eq!(rig.read(LSR) & 1, 1);
}

/// Otherwise Linux's handler would never end: see [`Pace`].
#[test]
fn a_drained_fifo_stays_empty_for_as_long_as_that_took() {
    let mut rig = Rig::open();
    let sent: Vec<u8> = (0..200).collect();
    rig.push(&sent);
    assert_eq!(rig.drain(1000), sent[..FIFO], "what is there, and no more");
    assert!(!rig.wires.level(4));
    let took = Ns(1000 * FIFO as u64);
    assert_eq!(rig.uart.deadline(), Some(Ns(2 * took.0)));
    rig.clock.advance(Ns(took.0 - 1));
    rig.wake();
    assert_eq!(rig.read(LSR) & 1, 0);
    rig.clock.advance(Ns(1));
    rig.wake();
    assert!(rig.wires.level(4));
    assert_eq!(rig.drain(1000), sent[FIFO..2 * FIFO]);
}

#[test]
fn a_guest_that_was_slow_to_read_does_not_wait_as_long_for_more() {
    let mut rig = Rig::open();
    rig.push(&[0; 100]);
    rig.drain(1_000_000_000);
    let wait = rig.uart.deadline().unwrap().0 - rig.clock.now().0;
    assert!(wait <= 10_000_000, "{wait} ns");
}

#[test]
fn what_a_throttled_guest_left_in_the_fifo_is_followed_by_the_rest() {
    let mut rig = Rig::open();
    let sent: Vec<u8> = (0..100).collect();
    rig.push(&sent);
    let mut got = vec![rig.read(DATA)];
    // n_tty is full: no interrupts, and RTS down.
    rig.write(IER, 0);
    rig.write(MCR, DTR | 8);
    rig.clock.advance(Ns(1_000_000_000));
    rig.wake();
    rig.write(MCR, DTR | RTS | 8);
    rig.write(IER, ERBFI);
    got.extend(rig.drain(0));
    rig.clock.advance(Ns(1_000_000_000));
    rig.wake();
    got.extend(rig.drain(0));
    assert_eq!(got, sent);
}

/// `TCSETS` with speed 0 drops both lines of a port that had them.
#[test]
fn a_guest_that_hangs_up_is_not_one_without_modem_lines() {
    let mut rig = Rig::open();
    rig.write(MCR, 8);
    rig.push(b"x");
    assert_eq!(rig.read(LSR) & 1, 0);
    let mut plain = Rig::new();
    plain.write(MCR, 0);
    plain.write(IER, ERBFI);
    plain.push(b"x");
    assert_eq!(plain.read(LSR) & 1, 1);
}

#[test]
fn a_guest_that_polls_is_fed_without_interrupts_or_modem_lines() {
    let mut rig = Rig::new();
    rig.push(b"ab");
    let polls = (0..100).take_while(|_| rig.read(LSR) & 1 == 0).count();
    assert!(polls < 100, "never fed");
    assert_eq!((rig.read(DATA), rig.read(LSR) & 1), (b'a', 1));
    assert_eq!((rig.read(DATA), rig.read(LSR) & 1), (b'b', 0));
}

#[test]
fn without_fifos_one_byte_is_received_at_a_time() {
    let mut rig = Rig::open();
    rig.write(IIR_FCR, 0);
    rig.push(b"ab");
    assert_eq!(rig.input.waiting(), 1);
    assert_eq!(rig.drain(0), b"ab");
    assert_eq!(rig.input.waiting(), 0);
}

#[test]
fn clearing_the_receiver_lowers_the_interrupt() {
    let mut rig = Rig::open();
    rig.push(b"ab");
    rig.write(IIR_FCR, FIFO_ENABLE | RECEIVER_RESET);
    assert!(!rig.wires.level(4));
    assert_eq!(rig.read(LSR) & 1, 0);
}

#[test]
fn a_loaded_uart_goes_on_where_the_saved_one_was_without_an_edge() {
    let mut rig = Rig::open();
    rig.push(b"ab");
    rig.read(DATA);
    let state = rig.uart.save();
    let mut other = Rig::new();
    other.uart.load(&state).unwrap();
    assert_eq!(other.wires.take(), []);
    assert_eq!(other.read(DATA), b'b');
    assert_eq!(other.wires.take(), [(4, false)], "the level was restored");
}

#[test]
fn an_overfull_receiver_is_not_loaded() {
    let mut rig = Rig::new();
    let mut state = rig.uart.save();
    state["received"] = vec![0_u8; 65].into();
    assert!(rig.uart.load(&state).is_err());
}
