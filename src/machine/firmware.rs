//! What firmware would have done to the PCI bus before it starts a kernel: the routing of interrupts,
//! the address of the PM block, and BARs with their decoding on.
//!
//! It works as firmware does, by configuration cycles, so the board is set up the same way whatever
//! is on it, after power-on as after a reset.

use crate::bus::{BusPort, Width};
use crate::pci::{Pin, Pirqs, config_address, regs};
use crate::trace::{Bdf, Probe, Space};

use super::layout::{self, functions};

/// PIIX3's PIRQRCA to PIRQRCD.
const PIRQRC: u8 = 0x60;
/// PIIX4's PMBA and PMREGMISC.
const PMBA: u8 = 0x40;
const PMREGMISC: u8 = 0x80;

/// PIIX3's IDETIM of both channels, and what makes them decode.
const IDETIM: u8 = 0x40;
const IDE_DECODE: u32 = 0x8000_8000;

/// Configuration cycles to one function.
struct Cycles<'a> {
    port: &'a BusPort,
    function: Bdf,
}

impl Cycles<'_> {
    fn read(&self, register: u8, width: Width) -> u32 {
        let at = config_address(self.function, register);
        let (bus, sink) = (&self.port.bus, &*self.port.sink);
        let value = bus.read(Space::Config, at, width, sink, &Probe::off());
        u32::try_from(value).unwrap_or(u32::MAX)
    }

    fn write(&self, register: u8, width: Width, value: u32) {
        let at = config_address(self.function, register);
        let (bus, sink) = (&self.port.bus, &*self.port.sink);
        bus.write(Space::Config, at, width, value.into(), sink, &Probe::off());
    }

    fn is_there(&self) -> bool {
        self.read(regs::VENDOR_ID, Width::Word) != 0xffff
    }

    /// The size of the BAR at `register`, as its writable address bits tell it.
    fn size(&self, register: u8, flags: u32) -> u64 {
        self.write(register, Width::Dword, u32::MAX);
        let ones = self.read(register, Width::Dword) & !flags;
        self.write(register, Width::Dword, 0);
        u64::from(ones & ones.wrapping_neg())
    }
}

/// A BAR that wants an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    size: u64,
    kind: Kind,
    function: u16,
    register: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Io,
    Memory32,
    Memory64,
}

/// The next free address of each kind.
struct Free {
    io: u64,
    memory32: u64,
    memory64: u64,
}

impl Free {
    fn take(&mut self, kind: Kind, size: u64) -> Option<u64> {
        let (next, end) = match kind {
            Kind::Io => (&mut self.io, u64::from(u16::MAX)),
            Kind::Memory32 => (&mut self.memory32, layout::PCI_MEMORY.end),
            Kind::Memory64 => (&mut self.memory64, layout::PCI_MEMORY_64.end),
        };
        let base = next.checked_next_multiple_of(size)?;
        let after = base.checked_add(size).filter(|after| *after <= end)?;
        *next = after;
        Some(base)
    }
}

/// Every function of bus 0.
fn present(port: &BusPort) -> Vec<Bdf> {
    let mut found = Vec::new();
    for device in 0..32 {
        for function in 0..8 {
            let Some(bdf) = Bdf::new(0, device, function) else {
                continue;
            };
            let cycles = Cycles {
                port,
                function: bdf,
            };
            if cycles.is_there() {
                found.push(bdf);
                let header = cycles.read(regs::HEADER_TYPE, Width::Byte);
                if function == 0 && header & u32::from(regs::MULTIFUNCTION) == 0 {
                    break;
                }
            } else if function == 0 {
                break;
            }
        }
    }
    found
}

/// The BARs of a function.
fn wants(cycles: &Cycles<'_>) -> Vec<Want> {
    let mut wants = Vec::new();
    let mut index = 0;
    while index < 6 {
        let register = regs::BAR0 + index * 4;
        let bar = cycles.read(register, Width::Dword);
        let (kind, flags) = match bar {
            bar if bar & regs::BAR_IO != 0 => (Kind::Io, 0x3),
            bar if bar & regs::BAR_64 != 0 => (Kind::Memory64, 0xf),
            _ => (Kind::Memory32, 0xf),
        };
        let size = match (cycles.size(register, flags), kind) {
            // Larger than 4 GiB: the size is in the upper half.
            (0, Kind::Memory64) => cycles.size(register + 4, 0) << 32,
            (size, _) => size,
        };
        if size != 0 {
            wants.push(Want {
                size,
                kind,
                function: cycles.function.0,
                register,
            });
        }
        index += if kind == Kind::Memory64 { 2 } else { 1 };
    }
    wants
}

/// Sets the bus up. A BAR for which there is no room stays unset, as firmware would leave it.
pub(super) fn set_up(port: &BusPort) {
    let cycles = |function| Cycles { port, function };
    for (register, irq) in (PIRQRC..).zip(layout::PIRQ_GSIS) {
        cycles(functions::ISA_BRIDGE).write(register, Width::Byte, irq.into());
    }
    let power = cycles(functions::POWER);
    power.write(PMBA, Width::Dword, layout::PM_BASE.into());
    power.write(PMREGMISC, Width::Byte, 1);

    // Linux takes a channel that does not decode for one that is switched off.
    cycles(functions::IDE).write(IDETIM, Width::Dword, IDE_DECODE);

    let present = present(port);
    let mut wanted: Vec<Want> = present.iter().flat_map(|f| wants(&cycles(*f))).collect();
    // The largest first leaves no holes between them.
    wanted.sort_by_key(|want| (std::cmp::Reverse(want.size), want.function, want.register));
    let mut free = Free {
        io: layout::PCI_IO.into(),
        memory32: layout::PCI_MEMORY.start,
        memory64: layout::PCI_MEMORY_64.start,
    };
    for want in wanted {
        let cycles = cycles(Bdf(want.function));
        let Some(base) = free.take(want.kind, want.size) else {
            continue;
        };
        let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        cycles.write(want.register, Width::Dword, half(base));
        if want.kind == Kind::Memory64 {
            cycles.write(want.register + 4, Width::Dword, half(base >> 32));
        }
        let enable = match want.kind {
            Kind::Io => regs::COMMAND_IO,
            Kind::Memory32 | Kind::Memory64 => regs::COMMAND_MEMORY,
        };
        let command = cycles.read(regs::COMMAND, Width::Word);
        cycles.write(regs::COMMAND, Width::Word, command | u32::from(enable));
    }
    for function in present {
        let cycles = cycles(function);
        let pin = match cycles.read(regs::INTERRUPT_PIN, Width::Byte) {
            1 => Pin::A,
            2 => Pin::B,
            3 => Pin::C,
            4 => Pin::D,
            _ => continue,
        };
        let pirq = usize::from(Pirqs::wired(function, pin));
        let irq = match layout::PIRQ_GSIS.get(pirq) {
            // The SCI.
            _ if function == functions::POWER => layout::GSI_SCI,
            Some(irq) => *irq,
            None => continue,
        };
        cycles.write(regs::INTERRUPT_LINE, Width::Byte, irq.into());
    }
}
