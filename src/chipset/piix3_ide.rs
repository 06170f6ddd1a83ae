//! PIIX3's IDE function (00:01.1): two channels in legacy mode, and their bus masters (82371SB data
//! sheet, order 290550, 2.3 and 2.7).
//!
//! NOT MODELLED: timing: IDETIM's bits are kept, and of them only the decode enable does something.

use std::io;

use serde::{Deserialize, Serialize};

use crate::bus::{
    Access, Answer, Effects, Line, Refusal, ResetKind, StateError, Width, Window, state,
};
use crate::dma::Dma;
use crate::pci::{
    Bar, BarKind, ConfigSpace, FIRST_OWN_WINDOW, Field, Header, PciDevice, Shape, regs,
};
use crate::trace::Space;

use super::ata::{Channel, ChannelState, DriveKind, Medium};

/// IDETIM of the primary channel; the secondary's follows.
const IDETIM: u8 = 0x40;
/// IDETIM: the channel decodes its ports.
const DECODE: u16 = 1 << 15;

const REGISTERS: [Field; 2] = [
    Field::plain("IDETIMP", IDETIM, Width::Word, 0, 0xffff),
    Field::plain("IDETIMS", 0x42, Width::Word, 0, 0xffff),
];

/// Both channels in legacy mode for good; bus master.
const HEADER: Header = Header {
    command_writable: regs::COMMAND_IO | regs::COMMAND_MASTER,
    status: regs::STATUS_FAST_BACK | regs::STATUS_DEVSEL_MEDIUM,
    ..Header::new(0x8086, 0x7010, 0x01_0180)
};

/// BMIBA: the bus masters of both channels, 8 ports each.
const BAR: Bar = Bar {
    index: 4,
    name: "bus master",
    kind: BarKind::Io,
    len: 16,
};

/// Windows of the command and control blocks: primary, then secondary.
const COMMAND: [u8; 2] = [FIRST_OWN_WINDOW, FIRST_OWN_WINDOW + 2];
const CONTROL: [u8; 2] = [FIRST_OWN_WINDOW + 1, FIRST_OWN_WINDOW + 3];
/// Where they lie.
const COMMAND_BASES: [u64; 2] = [0x1f0, 0x170];
const CONTROL_BASES: [u64; 2] = [0x3f6, 0x376];

/// A drive's kind and its medium.
pub type DriveMedium = (DriveKind, Box<dyn Medium>);

/// The function.
#[derive(Debug)]
pub struct Piix3Ide {
    channels: [Channel; 2],
    /// Whether each answers its ports.
    decodes: [bool; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    channels: [ChannelState; 2],
}

impl Piix3Ide {
    /// The function with up to four drives: primary device 0 and 1, secondary device 0 and 1. `lines`
    /// are ISA's 14 and 15, edge-triggered.
    ///
    /// # Errors
    /// A worker could not be started.
    pub fn new(media: [Option<DriveMedium>; 4], dma: &Dma, lines: [Line; 2]) -> io::Result<Self> {
        let [first, second, third, fourth] = media;
        let [primary, secondary] = lines;
        let channel =
            |name, number, media, line| Channel::new(name, number, media, dma.clone(), line);
        Ok(Self {
            channels: [
                channel("ide-primary", 0, [first, second], primary)?,
                channel("ide-secondary", 2, [third, fourth], secondary)?,
            ],
            decodes: [false; 2],
        })
    }

    /// The bus master that a BAR access is for, and the access relative to its registers.
    fn master(&self, at: Access) -> Option<(&Channel, Access)> {
        let index = usize::try_from(at.offset >> 3).ok()?;
        let at = Access {
            offset: at.offset & 7,
            ..at
        };
        Some((self.channels.get(index)?, at))
    }

    /// The channel whose window it is, if it decodes it, and whether it is its control block.
    fn legacy(&self, window: u8) -> Answer<(&Channel, bool)> {
        let index = |windows: [u8; 2]| windows.iter().position(|id| *id == window);
        let (index, control) = match (index(COMMAND), index(CONTROL)) {
            (Some(index), _) => (index, false),
            (None, Some(index)) => (index, true),
            (None, None) => return Err(Refusal::NoSuchRegister),
        };
        if !self.decodes.get(index).copied().unwrap_or_default() {
            return Err(Refusal::NoSuchRegister);
        }
        let channel = self.channels.get(index).ok_or(Refusal::NoSuchRegister)?;
        Ok((channel, control))
    }
}

impl PciDevice for Piix3Ide {
    fn label(&self) -> &'static str {
        "piix3-ide"
    }

    fn shape(&self) -> Shape {
        Shape {
            bars: vec![BAR],
            registers: REGISTERS.to_vec(),
            ..Shape::new(HEADER)
        }
    }

    fn windows(&self) -> Vec<Window> {
        let window = |id, name, base, len| Window {
            id,
            name,
            space: Space::Pio,
            base: Some(base),
            len,
        };
        vec![
            window(COMMAND[0], "primary", COMMAND_BASES[0], 8),
            window(CONTROL[0], "primary control", CONTROL_BASES[0], 1),
            window(COMMAND[1], "secondary", COMMAND_BASES[1], 8),
            window(CONTROL[1], "secondary control", CONTROL_BASES[1], 1),
        ]
    }

    fn configured(&mut self, config: &ConfigSpace) {
        let answers = config.word(regs::COMMAND) & regs::COMMAND_IO != 0;
        let decodes = |register| answers && config.word(register) & DECODE != 0;
        self.decodes = [decodes(IDETIM), decodes(IDETIM.wrapping_add(2))];
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        if at.window == BAR.index {
            let (channel, at) = self.master(at).ok_or(Refusal::NoSuchRegister)?;
            return Ok(channel.read_master(at));
        }
        match self.legacy(at.window)? {
            (channel, true) => Ok(channel.read_alternate()),
            (channel, false) => channel.read(at),
        }
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        if at.window == BAR.index {
            let (channel, at) = self.master(at).ok_or(Refusal::NoSuchRegister)?;
            channel.write_master(at, value);
            return Ok(());
        }
        match self.legacy(at.window)? {
            (channel, true) => channel.write_control(value),
            (channel, false) => channel.write(at, value)?,
        }
        Ok(())
    }

    fn reset(&mut self, _: ResetKind) {
        self.channels.iter().for_each(|channel| channel.reset());
    }

    fn save(&self) -> serde_json::Value {
        state::save(&State {
            channels: self.channels.each_ref().map(|channel| channel.save()),
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let loaded: State = state::load(self.label(), saved)?;
        for (channel, saved) in self.channels.iter().zip(&loaded.channels) {
            channel.can_be(saved)?;
        }
        for (channel, saved) in self.channels.iter().zip(loaded.channels) {
            channel.load(saved);
        }
        Ok(())
    }

    fn park(&mut self) {
        self.channels.iter().for_each(|channel| channel.park());
    }
}
