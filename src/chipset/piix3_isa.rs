//! PIIX3's PCI-to-ISA bridge (00:01.0): the routing of PCI interrupts (82371SB data sheet, order
//! 290550, 2.2).
//!
//! The edge/level control registers at 0x4d0 are in KVM's interrupt controllers; RC at 0xcf9 is in
//! [`super::HostBridge`].
//!
//! NOT MODELLED: what the other registers control: ISA timing, chip selects, the top of memory for ISA
//! DMA, passive release, SMM. Their bits are kept.

use crate::bus::{Access, Answer, Effects, Refusal, ResetKind, StateError, Width, state};
use crate::pci::{ConfigSpace, Field, Header, PciDevice, Pirqs, Shape, regs};

/// PIRQx route control: bit 7 disables, bits 3:0 choose the interrupt.
const PIRQRC: u8 = 0x60;
const DISABLED: u8 = 1 << 7;
const IRQ: u8 = 0xf;
/// The interrupts a PIRQ can go to; the others are reserved.
const ROUTABLE: u16 = 0b1101_1110_1111_1000;

const REGISTERS: [Field; 19] = [
    Field::plain("IORT", 0x4c, Width::Byte, 0x4d, 0xff),
    Field::plain("XBCS", 0x4e, Width::Word, 0x0003, 0x0fff),
    Field::plain("PIRQRCA", 0x60, Width::Byte, 0x80, 0x8f),
    Field::plain("PIRQRCB", 0x61, Width::Byte, 0x80, 0x8f),
    Field::plain("PIRQRCC", 0x62, Width::Byte, 0x80, 0x8f),
    Field::plain("PIRQRCD", 0x63, Width::Byte, 0x80, 0x8f),
    Field::plain("TOM", 0x69, Width::Byte, 0x02, 0xfe),
    Field::plain("MBIRQ0", 0x70, Width::Byte, 0x80, 0xef),
    Field::plain("MBDMA0", 0x76, Width::Byte, 0x0c, 0x8f),
    Field::plain("MBDMA1", 0x77, Width::Byte, 0x0c, 0x8f),
    Field::plain("PCSC", 0x78, Width::Word, 0x0002, 0xffff),
    Field::plain("APICBASE", 0x80, Width::Byte, 0, 0x7f),
    Field::plain("DLC", 0x82, Width::Byte, 0, 0x0f),
    Field::plain("SMICNTL", 0xa0, Width::Byte, 0x08, 0x1f),
    Field::plain("SMIEN", 0xa2, Width::Word, 0, 0x01ff),
    Field::plain("SEE", 0xa4, Width::Dword, 0, 0xf000_ffff),
    Field::plain("FTMR", 0xa8, Width::Byte, 0x0f, 0xff),
    Field::plain("CTLTMR", 0xac, Width::Byte, 0, 0xff),
    Field::plain("CTHTMR", 0xae, Width::Byte, 0, 0xff),
];

const HEADER: Header = Header {
    multifunction: true,
    command: regs::COMMAND_IO | regs::COMMAND_MEMORY | regs::COMMAND_MASTER,
    // The three are hardwired.
    command_writable: regs::COMMAND_SERR,
    status: regs::STATUS_FAST_BACK | regs::STATUS_DEVSEL_MEDIUM,
    ..Header::new(0x8086, 0x7000, 0x06_0100)
};

/// The ISA bridge.
#[derive(Debug)]
pub struct IsaBridge {
    pirqs: Pirqs,
}

impl IsaBridge {
    /// The bridge that routes `pirqs`.
    #[must_use]
    pub const fn new(pirqs: Pirqs) -> Self {
        Self { pirqs }
    }
}

/// Where a route control register sends its PIRQ.
fn route(control: u8) -> Option<u32> {
    let irq = control & IRQ;
    let routable = control & DISABLED == 0 && ROUTABLE >> irq & 1 != 0;
    routable.then_some(irq.into())
}

impl PciDevice for IsaBridge {
    fn label(&self) -> &'static str {
        "piix3-isa"
    }

    fn shape(&self) -> Shape {
        Shape {
            registers: REGISTERS.to_vec(),
            ..Shape::new(HEADER)
        }
    }

    fn configured(&mut self, config: &ConfigSpace) {
        for pirq in 0..4 {
            let control = config.byte(PIRQRC.wrapping_add(pirq));
            self.pirqs.route(pirq, route(control));
        }
    }

    fn read(&mut self, _: Access, _: &mut Effects) -> Answer<u64> {
        Err(Refusal::NoSuchRegister)
    }

    fn write(&mut self, _: Access, _: u64, _: &mut Effects) -> Answer<()> {
        Err(Refusal::NoSuchRegister)
    }

    fn reset(&mut self, _: ResetKind) {}

    fn save(&self) -> serde_json::Value {
        state::save(&())
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        state::load(self.label(), saved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chipset::rig::{Wires, config_write, seat};
    use crate::pci::{Function, Pin};
    use crate::trace::Bdf;

    #[test]
    fn reserved_interrupts_and_disabled_routes_go_nowhere() {
        let routed: Vec<u32> = (0..=0xff).filter_map(route).collect();
        let legal = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];
        assert_eq!(routed, legal.repeat(8), "bits 6:4 do not count");
    }

    #[test]
    fn rerouting_moves_an_asserted_line_and_reset_disconnects_it() {
        let (wires, pirqs) = (Wires::new(), Pirqs::new());
        let mut bridge = Function::new(seat(&wires, None), IsaBridge::new(pirqs.clone()));
        let device = Bdf::new(0, 2, 0).unwrap();
        let line = pirqs.line(wires.lines(), "test", device, Pin::A);
        config_write(&mut bridge, 0x60, Width::Dword, 0x800a_0b80);
        line.set(true);
        assert_eq!(wires.take(), [(11, true)]);
        config_write(&mut bridge, 0x61, Width::Byte, 0x0a);
        assert_eq!(wires.take(), [(11, false), (10, true)]);
        crate::bus::Device::reset(&mut bridge, ResetKind::Warm);
        assert_eq!(wires.take(), [(10, false)]);
    }
}
