//! The devices of the board, each in its place.

use std::io;
use std::sync::Arc;

use crate::bus::{AttachError, Bus, Clock, Device, Lines, MsiSink};
use crate::chipset::{
    CmosMemory, ConsoleOut, DebugExit, DriveMedium, FwCfg, FwCfgFacts, FwCfgRam, HostBridge,
    HostInput, I8042, IsaBridge, Parcels, Piix3Ide, PmBlock, Port92, PostCode, PostTrail, Postbox,
    Pvpanic, Rtc, Serial,
};
use crate::devices::virtio::{BALLOON_QUEUES, Balloon, BalloonHandle, Signals, VirtioPci};
use crate::devices::{Edu, PciTestDevice, TESTDEV_LINES, TestDevice};
use crate::dma::Dma;
use crate::mem::{Gpa, GuestRam, HOLE_END};
use crate::pci::{Function, FunctionUse, PciDevice, Pin, Pirqs, Seat};
use crate::trace::Bdf;

use super::disk::{self, DiskError, DriveSpec, Tell};
use super::layout::{self, functions};
use super::spec::{Equipment, Extra};
use super::strays::Strays;

/// What the devices are plugged into.
pub(super) struct Ends {
    /// Takes what the guest prints.
    pub(super) console: Box<dyn ConsoleOut>,
    /// Takes the results the guest sends.
    pub(super) parcels: Box<dyn Parcels>,
    /// The way to the guest's serial port.
    pub(super) input: HostInput,
    /// The way to the command that init runs.
    pub(super) piped: HostInput,
    /// Guest time.
    pub(super) clock: Arc<dyn Clock>,
    /// Takes interrupts.
    pub(super) lines: Lines,
    /// Takes messages.
    pub(super) messages: Arc<dyn MsiSink>,
    /// Takes what the user is to hear of disks and of DMA.
    pub(super) tell: Tell,
    /// Bits of the guest's physical addresses.
    pub(super) phys_bits: u8,
}

/// The devices in their places.
pub(super) struct Devices {
    pub(super) bus: Bus,
    /// PCI functions, in the order of their addresses.
    pub(super) functions: Vec<FunctionUse>,
    /// POST codes, when they are kept.
    pub(super) post_codes: Option<PostTrail>,
    /// The host's end of the balloon, when there is one.
    pub(super) balloon: Option<BalloonHandle>,
}

/// A board that cannot be fitted out.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Two devices want one place: a mistake of ours.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A device's thread.
    #[error("cannot start the worker of {device}")]
    Worker {
        /// Which device.
        device: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A disk image.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A device that there is once, a second time.
    #[error("there can be only one {device}; give --device {device} once")]
    Twice {
        /// Which device.
        device: &'static str,
    },
    /// The bus is full.
    #[error("{wanted} PCI devices are more than bus 0 has room for: it has {room}")]
    Full {
        /// How many were asked for.
        wanted: usize,
        /// How many there can be.
        room: usize,
    },
}

/// The PCI bus while it is being filled.
struct Slots<'a> {
    ram: &'a GuestRam,
    lines: &'a Lines,
    messages: &'a Arc<dyn MsiSink>,
    pirqs: Pirqs,
    strays: Strays,
    bus: &'a mut Bus,
    functions: Vec<FunctionUse>,
    balloon: Option<BalloonHandle>,
}

impl Slots<'_> {
    /// The seat at `bdf`, with a line when the function has a pin.
    fn seat(&self, bdf: Bdf, name: &'static str, pin: Option<Pin>) -> Seat {
        let line = pin.map(|pin| self.pirqs.line(self.lines, name, bdf, pin));
        let seat = Seat::new(bdf, self.ram.clone(), None, Arc::clone(self.messages), line);
        seat.watched(self.strays.of(name))
    }

    /// Puts a function into its seat.
    fn fill(&mut self, seat: Seat, device: impl PciDevice + 'static) -> Result<(), AttachError> {
        let function = Function::new(seat, device);
        self.functions.push(function.describe());
        self.bus.attach(Box::new(function))?;
        Ok(())
    }

    /// Adds a device that not every board has.
    fn add(&mut self, extra: &Extra, bdf: Bdf, clock: &Arc<dyn Clock>) -> Result<(), FitError> {
        match extra {
            Extra::Edu { dma_bits } => {
                let seat = self.seat(bdf, "edu", Some(Pin::A));
                let (dma, interrupts) = (seat.dma(), seat.interrupts());
                let edu = Edu::new(dma, interrupts, Arc::clone(clock), *dma_bits);
                let edu = edu.map_err(|source| FitError::Worker {
                    device: "edu",
                    source,
                })?;
                self.fill(seat, edu)?;
            }
            Extra::TestDevice => {}
            Extra::PciTestDevice => {
                let seat = self.seat(bdf, "pci-testdev", None);
                self.fill(seat, PciTestDevice::new())?;
            }
            Extra::Balloon if self.balloon.is_some() => {
                return Err(FitError::Twice { device: "balloon" });
            }
            // Behind no IOMMU, for it speaks of guest physical pages.
            Extra::Balloon => {
                let seat = self.seat(bdf, "balloon", Some(Pin::A));
                let signals = Signals::new(seat.interrupts(), BALLOON_QUEUES);
                let (balloon, host) = Balloon::new(self.ram, Arc::clone(clock), &signals);
                self.balloon = Some(host);
                let balloon = VirtioPci::new(balloon, seat.dma(), signals);
                self.fill(seat, balloon)?;
            }
        }
        Ok(())
    }
}

/// Builds the devices every board has, and those that `equipment` asks for.
pub(super) fn fit_out(
    equipment: &Equipment,
    facts: &FwCfgFacts,
    ram: &GuestRam,
    ends: Ends,
) -> Result<Devices, FitError> {
    let (lines, clock) = (&ends.lines, &ends.clock);
    let gsi = |name, gsi: u8| lines.line(name, Some(gsi.into()));
    let post_codes = equipment
        .post_codes
        .then(|| PostTrail::new(Arc::clone(clock)));
    let mut bus = Bus::new();
    let fixed: [Box<dyn Device>; 9] = [
        Box::new(Serial::new(
            gsi("serial", layout::GSI_SERIAL),
            ends.console,
            ends.input,
            Arc::clone(clock),
        )),
        Box::new(DebugExit::new(equipment.debug_exit)),
        Box::new(Port92::new()),
        Box::new(PostCode::new(post_codes.clone())),
        Box::new(Pvpanic),
        Box::new(Rtc::new(
            gsi("rtc", layout::GSI_RTC),
            Arc::clone(clock),
            cmos_memory(ram),
        )),
        Box::new(I8042::new(
            gsi("i8042", layout::GSI_KEYBOARD),
            gsi("i8042", layout::GSI_MOUSE),
        )),
        Box::new(FwCfg::new(facts, Dma::platform(ram.clone()))),
        // Results leave the guest behind any IOMMU's back: this is Trapline's own door.
        Box::new(Postbox::new(
            Dma::platform(ram.clone()),
            ends.parcels,
            ends.piped,
        )),
    ];
    for device in fixed {
        bus.attach(device)?;
    }
    let is_test = |extra: &&Extra| **extra == Extra::TestDevice;
    match equipment.devices.iter().filter(is_test).count() {
        0 => {}
        1 => {
            bus.attach(Box::new(test_device(lines, ram)))?;
        }
        _ => return Err(FitError::Twice { device: "testdev" }),
    }
    let sci = gsi("piix4-pm", layout::GSI_SCI);
    let mut slots = Slots {
        ram,
        lines,
        messages: &ends.messages,
        pirqs: Pirqs::new(),
        strays: Strays::new(Arc::clone(&ends.tell), ends.phys_bits),
        bus: &mut bus,
        functions: Vec::new(),
        balloon: None,
    };
    // In the order of their addresses.
    let seat = slots.seat(functions::HOST_BRIDGE, "i440fx", None);
    slots.fill(seat, HostBridge::new())?;
    let seat = slots.seat(functions::ISA_BRIDGE, "piix3-isa", None);
    let pirqs = slots.pirqs.clone();
    slots.fill(seat, IsaBridge::new(pirqs))?;
    let seat = slots.seat(functions::IDE, "piix3-ide", None);
    let lines = layout::GSIS_IDE.map(|of| gsi("piix3-ide", of));
    let ide = Piix3Ide::new(open(&equipment.drives, &ends.tell)?, &seat.dma(), lines);
    let ide = ide.map_err(|source| FitError::Worker {
        device: "piix3-ide",
        source,
    })?;
    slots.fill(seat, ide)?;
    // Its pin is the SCI's, which does not go through the PIRQs.
    let seat = slots.seat(functions::POWER, "piix4-pm", None);
    slots.fill(seat, PmBlock::new(sci, Arc::clone(clock)))?;
    let places = (functions::FIRST_EXTRA..32).filter_map(|device| Bdf::new(0, device, 0));
    let room = places.clone().count();
    let on_pci = equipment.devices.iter().filter(|extra| !is_test(extra));
    let wanted = on_pci.clone().count();
    if wanted > room {
        return Err(FitError::Full { wanted, room });
    }
    for (extra, bdf) in on_pci.zip(places) {
        slots.add(extra, bdf, clock)?;
    }
    let (functions, balloon) = (slots.functions, slots.balloon);
    Ok(Devices {
        bus,
        functions,
        post_codes,
        balloon,
    })
}

/// The drives of the IDE channels, each where it belongs.
fn open(
    specs: &[DriveSpec],
    tell: &Tell,
) -> Result<[Option<DriveMedium>; disk::DRIVES], DiskError> {
    let mut media = [const { None }; disk::DRIVES];
    for (medium, spec) in media.iter_mut().zip(disk::seats(specs)?) {
        *medium = spec.map(|spec| spec.open(tell)).transpose()?;
    }
    Ok(media)
}

/// The test device, which drives every pin of the IOAPIC.
fn test_device(lines: &Lines, ram: &GuestRam) -> TestDevice {
    let line = |gsi: u8| lines.line("testdev", Some(gsi.into()));
    let ram = ram.clone();
    // An address without RAM has no page to unmap.
    let unmap = move |at| drop(ram.zap(Gpa(at)));
    TestDevice::new((0..TESTDEV_LINES).map(line).collect(), Box::new(unmap))
}

/// What fw_cfg says of a board without a guest.
pub(super) fn facts(cpus: u16, ram: &GuestRam) -> FwCfgFacts {
    let regions = ram.regions().iter().map(|region| FwCfgRam {
        base: region.base,
        len: region.len,
    });
    FwCfgFacts {
        cpus,
        ram: regions.collect(),
        ..FwCfgFacts::default()
    }
}

fn cmos_memory(ram: &GuestRam) -> CmosMemory {
    let bytes = |below: bool| {
        let half = ram
            .regions()
            .iter()
            .filter(|r| (r.base < HOLE_END) == below);
        half.map(|r| r.len).sum()
    };
    CmosMemory {
        below_4g: bytes(true),
        above_4g: bytes(false),
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
