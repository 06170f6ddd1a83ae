//! A device with its configuration space: what the bus sees of a PCI function.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Device, Effect, Effects, Ns, Place, ResetKind, StateError, Window, state,
};
use crate::dma::Gate;
use crate::trace::{Bdf, Space};

use super::bar::Bar;
use super::capability::{self, Capability};
use super::config_ports::config_address;
use super::device::{PciDevice, Shape};
use super::field::Field;
use super::interrupts::{Interrupts, Offers, Saved};
use super::msi;
use super::msix::Part;
use super::regs;
use super::seat::Seat;
use super::space::{self, ConfigSpace};

/// The window of configuration space.
pub const CONFIG_WINDOW: u8 = 0xff;

/// A function, for listings and tests.
#[derive(Debug, Clone)]
pub struct FunctionUse {
    /// Its address.
    pub bdf: Bdf,
    /// Its device's label.
    pub label: &'static str,
    /// Vendor and device.
    pub id: (u16, u16),
    /// Class code, 24 bits.
    pub class: u32,
    /// Its base address registers.
    pub bars: Vec<Bar>,
    /// Every configuration register.
    pub fields: Vec<Field>,
}

/// A PCI function on the bus.
pub struct Function<D> {
    bdf: Bdf,
    gate: Gate,
    interrupts: Interrupts,
    offers: Offers,
    bars: Vec<Bar>,
    device: D,

    config: ConfigSpace,
    /// Where the movable windows lie now.
    placed: Vec<Place>,
}

impl<D> fmt::Debug for Function<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.bdf).finish()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    config: Vec<u8>,
    interrupts: Saved,
    device: serde_json::Value,
}

/// Every register of a shape, and where its interrupt capabilities lie.
fn registers(shape: &Shape) -> (Vec<Field>, Offers) {
    let places = capability::places(shape.first_capability, &shape.capabilities);
    let mut fields = shape.header.fields(places.first().copied());
    fields.extend(shape.bars.iter().flat_map(Bar::fields));
    fields.extend(capability::fields(&places, &shape.capabilities));
    fields.extend_from_slice(&shape.registers);
    let mut offers = Offers::default();
    for (capability, &at) in shape.capabilities.iter().zip(&places) {
        match capability {
            Capability::Msi(msi) => offers.msi = Some((at, *msi)),
            Capability::Msix(msix) => offers.msix = Some((at, *msix)),
            Capability::Other { .. } => {}
        }
    }
    (fields, offers)
}

impl<D: PciDevice> Function<D> {
    /// The function of `device` at `seat`, as after reset.
    #[must_use]
    pub fn new(seat: Seat, device: D) -> Self {
        let (bdf, gate, interrupts) = seat.into_parts();
        let shape = device.shape();
        let (fields, offers) = registers(&shape);
        let mut function = Self {
            bdf,
            gate,
            interrupts,
            offers,
            bars: shape.bars,
            device,
            config: ConfigSpace::new(fields),
            placed: Vec::new(),
        };
        function.interrupts.reset(&function.config, &offers);
        function.follow();
        function
    }

    /// What a listing says of it.
    #[must_use]
    pub fn describe(&self) -> FunctionUse {
        let config = &self.config;
        FunctionUse {
            bdf: self.bdf,
            label: self.device.label(),
            id: (config.word(regs::VENDOR_ID), config.word(regs::DEVICE_ID)),
            class: config.dword(regs::REVISION) >> 8,
            bars: self.bars.clone(),
            fields: config.fields().to_vec(),
        }
    }

    /// Takes over what configuration space says, but for interrupts.
    fn follow(&mut self) {
        let command = self.config.word(regs::COMMAND);
        self.gate.set(command & regs::COMMAND_MASTER != 0);
        self.device.configured(&self.config);
        let bars = self.bars.iter().filter_map(|bar| bar.place(&self.config));
        self.placed = bars.chain(self.device.places(&self.config)).collect();
    }

    fn read_config(&self, at: Access) -> u64 {
        let stored = self.config.read(offset(at), at.width);
        // Bits that are not stored: they follow the interrupt state.
        let overlay = |register: u8, bits: u64| {
            let shift = i64::from(register).saturating_sub(i64::from(offset(at)));
            let by = u32::try_from(shift.unsigned_abs().saturating_mul(8)).unwrap_or(u32::MAX);
            match shift {
                0.. => bits.checked_shl(by),
                _ => bits.checked_shr(by),
            }
            .unwrap_or(0)
        };
        let wanted = match self.interrupts.level() {
            true => overlay(regs::STATUS, regs::STATUS_INTERRUPT.into()),
            false => 0,
        };
        let pending = match self.offers.msi {
            Some((cap, shape)) if shape.masks => {
                let register = cap.wrapping_add(msi::PENDING);
                overlay(register, self.interrupts.msi_pending().into())
            }
            _ => 0,
        };
        (stored | wanted | pending) & at.width.ones()
    }

    fn write_config(&mut self, at: Access, value: u64, effects: &mut Effects) {
        self.config.write(offset(at), at.width, value);
        let before = std::mem::take(&mut self.placed);
        self.follow();
        // After the gate has moved: an unmasked message needs it open.
        self.interrupts.configured(&self.config, &self.offers);
        for gone in &before {
            if !self.placed.iter().any(|place| place.window == gone.window) {
                effects.push(Effect::Withdraw {
                    window: gone.window,
                });
            }
        }
        for place in self.placed.iter().filter(|place| !before.contains(place)) {
            effects.push(Effect::Place(*place));
        }
    }

    fn msix_part(&self, at: Access) -> Option<Part> {
        self.offers.msix.and_then(|(_, shape)| shape.part(at))
    }
}

/// A configuration access lies in the 256 bytes of its window.
fn offset(at: Access) -> u8 {
    u8::try_from(at.offset).unwrap_or(u8::MAX)
}

impl<D: PciDevice> Device for Function<D> {
    fn label(&self) -> &'static str {
        self.device.label()
    }

    fn windows(&self) -> Vec<Window> {
        let config = Window {
            id: CONFIG_WINDOW,
            name: "config",
            space: Space::Config,
            base: Some(config_address(self.bdf, 0)),
            len: space::SIZE as u64,
        };
        let bars = self.bars.iter().map(Bar::window);
        let own = self.device.windows();
        [config].into_iter().chain(bars).chain(own).collect()
    }

    fn places(&self) -> Vec<Place> {
        self.placed.clone()
    }

    fn read(&mut self, at: Access, effects: &mut Effects) -> Answer<u64> {
        if at.window == CONFIG_WINDOW {
            return Ok(self.read_config(at));
        }
        match self.msix_part(at) {
            Some(part) => self.interrupts.read_msix(part, at),
            None => self.device.read(at, effects),
        }
    }

    fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
        if at.window == CONFIG_WINDOW {
            self.write_config(at, value & at.width.ones(), effects);
            return Ok(());
        }
        match self.msix_part(at) {
            Some(part) => self.interrupts.write_msix(part, at, value),
            None => self.device.write(at, value, effects),
        }
    }

    fn reset(&mut self, kind: ResetKind) {
        self.config.reset();
        self.gate.set(false);
        self.device.reset(kind);
        self.interrupts.reset(&self.config, &self.offers);
        self.follow();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&State {
            config: self.config.save(),
            interrupts: self.interrupts.save(),
            device: self.device.save(),
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let label = self.device.label();
        let loaded: State = state::load(label, saved)?;
        let possible = self.config.can_be(&loaded.config);
        state::check(label, possible, "its configuration space")?;
        let possible = Interrupts::can_be(&loaded.interrupts, &self.offers);
        state::check(label, possible, "its interrupts")?;
        self.device.load(&loaded.device)?;
        self.config.load(&loaded.config);
        self.interrupts
            .load(loaded.interrupts, &self.config, &self.offers);
        self.follow();
        Ok(())
    }

    fn deadline(&self) -> Option<Ns> {
        self.device.deadline()
    }

    fn wake(&mut self, effects: &mut Effects) {
        self.device.wake(effects);
    }

    fn park(&mut self) {
        self.device.park();
    }

    fn unpark(&mut self) {
        self.device.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Width;
    use crate::dma::{Dma, DmaError, Iova};
    use crate::mem::{GuestRam, HugePages};
    use crate::pci::rig::Wires;
    use crate::pci::{BarKind, Header, MsiShape, MsixShape, Pin};

    /// Says which window was read; bar 0 raises the interrupt it is told to.
    struct Probe(Interrupts);

    impl PciDevice for Probe {
        fn label(&self) -> &'static str {
            "probe"
        }
        fn shape(&self) -> Shape {
            let bar = |index, kind, len| Bar {
                index,
                name: "bar",
                kind,
                len,
            };
            Shape {
                bars: vec![
                    bar(0, BarKind::Memory32, 0x1000),
                    bar(1, BarKind::Io, 16),
                    bar(2, BarKind::Memory64, 0x1000),
                ],
                capabilities: vec![
                    Capability::Msi(MsiShape {
                        vectors_log2: 1,
                        masks: true,
                    }),
                    Capability::Msix(MsixShape {
                        vectors: 2,
                        bar: 2,
                        table: 0,
                        pending: 0x800,
                    }),
                ],
                ..Shape::new(Header {
                    pin: Some(Pin::A),
                    ..Header::new(0x1234, 0x5678, 0xff_0000)
                })
            }
        }
        fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
            Ok(at.window.into())
        }
        fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
            match at.offset {
                0 => self.0.set_level(value != 0),
                vector => self.0.message(u16::try_from(vector).unwrap() - 1),
            }
            Ok(())
        }
        fn reset(&mut self, _: ResetKind) {}
        fn save(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
            Ok(())
        }
    }

    struct Rig {
        wires: Wires,
        dma: Dma,
        function: Function<Probe>,
    }

    const MSI: u8 = 0x40;
    const MSIX: u8 = 0x58;

    fn rig() -> Rig {
        let wires = Wires::new();
        let line = wires.lines.line("probe", Some(11));
        let ram = GuestRam::new(1 << 20, HugePages::None).unwrap();
        let seat = Seat::new(Bdf(0x10), ram, None, wires.messages(), Some(line));
        let (dma, interrupts) = (seat.dma(), seat.interrupts());
        Rig {
            wires,
            dma,
            function: Function::new(seat, Probe(interrupts)),
        }
    }

    impl Rig {
        fn config(&mut self, register: u8, width: Width, value: u64) -> Vec<Effect> {
            let mut effects = Effects::new();
            let at = Access {
                window: CONFIG_WINDOW,
                offset: register.into(),
                width,
            };
            self.function.write(at, value, &mut effects).unwrap();
            effects.drain().collect()
        }

        fn read_config(&mut self, register: u8, width: Width) -> u64 {
            let at = Access {
                window: CONFIG_WINDOW,
                offset: register.into(),
                width,
            };
            self.function.read(at, &mut Effects::new()).unwrap()
        }

        fn poke(&mut self, window: u8, offset: u64, value: u64) {
            let at = Access {
                window,
                offset,
                width: Width::Dword,
            };
            let _ = self.function.write(at, value, &mut Effects::new());
        }
    }

    #[test]
    fn bars_follow_the_command_register_and_their_own() {
        let mut rig = rig();
        let place = |window, space, base| {
            Effect::Place(Place {
                window,
                space,
                base,
            })
        };
        assert_eq!(rig.config(0x10, Width::Dword, 0xe000_0000), []);
        assert_eq!(rig.config(0x14, Width::Dword, 0xc000), []);
        assert_eq!(
            rig.config(0x04, Width::Word, 3),
            [
                place(0, Space::Mmio, 0xe000_0000),
                place(1, Space::Pio, 0xc000)
            ]
        );
        assert_eq!(
            rig.config(0x10, Width::Dword, 0xe001_0000),
            [place(0, Space::Mmio, 0xe001_0000)]
        );
        assert_eq!(
            rig.config(0x1c, Width::Dword, 0x40),
            [place(2, Space::Mmio, 0x40 << 32)]
        );
        let gone = |window| Effect::Withdraw { window };
        assert_eq!(rig.config(0x04, Width::Word, 1), [gone(0), gone(2)]);
    }

    #[test]
    fn dma_waits_for_bus_master() {
        let mut rig = rig();
        assert_eq!(rig.dma.write(Iova(0x1000), b"x"), Err(DmaError::GateClosed));
        rig.config(0x04, Width::Word, 4);
        assert_eq!(rig.dma.write(Iova(0x1000), b"x"), Ok(()));
        rig.function.reset(ResetKind::Warm);
        assert_eq!(rig.dma.write(Iova(0x1000), b"x"), Err(DmaError::GateClosed));
    }

    #[test]
    fn intx_is_held_back_by_its_disable_bit_and_by_messages() {
        let mut rig = rig();
        rig.poke(0, 0, 1);
        assert_eq!(rig.wires.take(), [(11, true)]);
        assert_eq!(rig.read_config(0x06, Width::Byte), 0x18);
        assert_eq!(rig.read_config(0x04, Width::Dword), 0x0018_0000);
        rig.config(0x04, Width::Word, 0x400);
        assert_eq!(rig.wires.take(), [(11, false)]);
        assert_eq!(rig.read_config(0x06, Width::Byte), 0x18, "still wanted");
        rig.config(0x04, Width::Word, 0);
        assert_eq!(rig.wires.take(), [(11, true)]);
        rig.config(MSI + 2, Width::Word, 1);
        assert_eq!(rig.wires.take(), [(11, false)]);
    }

    #[test]
    fn a_masked_msi_is_pending_until_it_is_unmasked() {
        let mut rig = rig();
        rig.config(0x04, Width::Word, 4);
        rig.config(MSI + 4, Width::Dword, 0xfee0_0000);
        rig.config(MSI + 12, Width::Word, 0x30);
        rig.config(MSI + 2, Width::Word, 0x11);
        rig.poke(0, 2, 0);
        assert_eq!(rig.wires.take_messages(), [(0xfee0_0000, 0x31)]);
        rig.config(MSI + 16, Width::Dword, 2);
        rig.poke(0, 2, 0);
        assert_eq!(rig.wires.take_messages(), []);
        assert_eq!(rig.read_config(MSI + 20, Width::Dword), 2);
        rig.config(MSI + 16, Width::Dword, 0);
        assert_eq!(rig.wires.take_messages(), [(0xfee0_0000, 0x31)]);
        assert_eq!(rig.read_config(MSI + 20, Width::Dword), 0);
    }

    #[test]
    fn msix_is_behind_its_bar_and_no_bus_master_sends_nothing() {
        let mut rig = rig();
        rig.config(MSIX + 2, Width::Word, 0x8000);
        for (offset, value) in [(0x10, 0xfee0_1000), (0x18, 0x42), (0x1c, 0)] {
            rig.poke(2, offset, value);
        }
        rig.poke(0, 2, 0);
        assert_eq!(rig.wires.take_messages(), [], "not bus master");
        rig.config(0x04, Width::Word, 4);
        rig.poke(0, 2, 0);
        assert_eq!(rig.wires.take_messages(), [(0xfee0_1000, 0x42)]);
    }

    #[test]
    fn a_state_of_another_shape_changes_nothing() {
        let mut rig = rig();
        rig.config(0x04, Width::Word, 7);
        let saved = rig.function.save();
        for (pointer, value) in [
            ("/config/0", serde_json::json!(0)),
            ("/config", serde_json::json!([1, 2])),
            ("/interrupts/msix", serde_json::json!([])),
            ("/interrupts", serde_json::Value::Null),
        ] {
            let mut broken = saved.clone();
            *broken.pointer_mut(pointer).unwrap() = value;
            assert!(rig.function.load(&broken).is_err(), "{pointer}");
            assert_eq!(rig.function.save(), saved);
        }
        rig.function.reset(ResetKind::Cold);
        rig.function.load(&saved).unwrap();
        assert_eq!(rig.function.save(), saved);
    }
}
