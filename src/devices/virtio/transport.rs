//! A virtio device as a PCI function (VIRTIO 1.2, 4.1).
//!
//! NOT MODELLED: VIRTIO_PCI_CAP_PCI_CFG (4.1.4.9), access to the BAR through configuration space, which
//! firmware uses and this board has none; packed rings (2.8), which virtio-queue does not do; legacy
//! drivers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::common::{Common, half};
use super::device::{Served, VirtioDevice};
use super::regs::{self, common};
use super::ring::{Ring, RingError};
use super::signals::{self, Signals};
use super::virtqueue::{self, Virtqueue};
use crate::bus::{Access, Answer, Effects, Ns, Refusal, ResetKind, StateError, Width, state};
use crate::dma::Dma;
use crate::pci::{Header, PciDevice, Pin, Shape};

/// How often in one go a queue is looked at again because its driver was quick.
const PASSES: u32 = 2;

/// The transport with its device.
pub struct VirtioPci<D> {
    dma: Dma,
    signals: Signals,
    device: D,

    common: Common,
    queues: Vec<Virtqueue>,
}

impl<D> fmt::Debug for VirtioPci<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtioPci").field(&self.common).finish()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    common: Common,
    queues: Vec<virtqueue::State>,
    signals: signals::State,
    device: serde_json::Value,
}

/// The part of a page of the BAR that an access falls into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Structure {
    Common,
    Isr,
    Device,
    Notify,
}

fn structure(at: Access) -> Option<(Structure, u64)> {
    let (kind, start) = match u32::try_from(at.offset & !0xfff).ok()? {
        regs::COMMON => (Structure::Common, regs::COMMON),
        regs::ISR => (Structure::Isr, regs::ISR),
        regs::DEVICE => (Structure::Device, regs::DEVICE),
        regs::NOTIFY => (Structure::Notify, regs::NOTIFY),
        _ => return None,
    };
    Some((kind, at.offset.saturating_sub(start.into())))
}

/// The bytes of `image` at `offset`; none when the access leaves it.
fn lanes(image: &[u8], offset: u64, width: Width) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(width.bytes().into())?;
    let mut value = [0; 8];
    for (to, from) in value.iter_mut().zip(image.get(start..end)?) {
        *to = *from;
    }
    Some(u64::from_le_bytes(value))
}

/// A 64-bit register with its half at `offset` from it replaced.
const fn with_half(register: u64, offset: u64, half: u32) -> u64 {
    match offset {
        0 => register & !0xffff_ffff | half as u64,
        _ => register & 0xffff_ffff | (half as u64) << 32,
    }
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// `device` with the `signals` it was made with, as after reset. `dma` and `signals` are of one
    /// seat.
    #[must_use]
    pub fn new(device: D, dma: Dma, signals: Signals) -> Self {
        let queues = (0..device.queues()).map(|_| Virtqueue::new()).collect();
        Self {
            dma,
            signals,
            device,
            common: Common::default(),
            queues,
        }
    }

    fn offered(&self) -> u64 {
        let every = regs::VERSION_1 | regs::INDIRECT_DESC | regs::EVENT_IDX;
        let platform = match self.dma.is_translated() {
            true => regs::ACCESS_PLATFORM,
            false => 0,
        };
        self.device.features() | every | platform
    }

    const fn event_idx(common: &Common) -> bool {
        common.driver_features & regs::EVENT_IDX != 0
    }

    fn selected(&self) -> Option<&Virtqueue> {
        self.queues.get(usize::from(self.common.queue_select))
    }

    /// The selected queue while it can be changed: before it is enabled.
    fn changeable(&mut self) -> Option<&mut Virtqueue> {
        let queue = self.queues.get_mut(usize::from(self.common.queue_select))?;
        (!queue.regs.enabled).then_some(queue)
    }

    /// The common configuration as bytes. Registers of a queue that is not there read as zero, so its
    /// size says that it is not.
    fn image(&self) -> Vec<u8> {
        let common = &self.common;
        let select = common.queue_select;
        let queue = self.selected().map(|queue| &queue.regs);
        let vector = match queue {
            Some(_) => self.signals.queue_vector(select),
            None => 0,
        };
        let words = |words: &[u16]| {
            words
                .iter()
                .flat_map(|w| w.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let mut image = Vec::with_capacity(64);
        for dword in [
            common.device_feature_select,
            half(self.offered(), common.device_feature_select),
            common.driver_feature_select,
            half(common.driver_features, common.driver_feature_select),
        ] {
            image.extend(dword.to_le_bytes());
        }
        image.extend(words(&[self.signals.config_vector(), self.device.queues()]));
        image.extend([common.status, self.signals.generation()]);
        image.extend(words(&[
            select,
            queue.map_or(0, |q| q.size),
            vector,
            queue.map_or(0, |q| q.enabled.into()),
            queue.map_or(0, |_| select),
        ]));
        for address in [
            queue.map_or(0, |q| q.descriptors),
            queue.map_or(0, |q| q.driver),
            queue.map_or(0, |q| q.device),
        ] {
            image.extend(address.to_le_bytes());
        }
        image
    }

    /// A driver writes each register at its own width, and 64-bit ones in halves (4.1.3.1).
    fn write_common(&mut self, offset: u64, width: Width, value: u64) -> Answer<()> {
        let dword = u32::try_from(value & 0xffff_ffff).unwrap_or_default();
        let word = u16::try_from(value & 0xffff).unwrap_or_default();
        let byte = u8::try_from(value & 0xff).unwrap_or_default();
        match (offset, width) {
            (common::DEVICE_FEATURE_SELECT, Width::Dword) => {
                self.common.device_feature_select = dword;
            }
            (common::DRIVER_FEATURE_SELECT, Width::Dword) => {
                self.common.driver_feature_select = dword;
            }
            (common::DRIVER_FEATURE, Width::Dword) => self.common.choose(dword),
            (common::CONFIG_MSIX_VECTOR, Width::Word) => self.signals.set_config_vector(word),
            (common::DEVICE_STATUS, Width::Byte) => self.set_status(byte),
            (common::QUEUE_SELECT, Width::Word) => self.common.queue_select = word,
            (common::QUEUE_SIZE, Width::Word) => {
                if let Some(queue) = self.changeable() {
                    queue.set_size(word);
                }
            }
            (common::QUEUE_MSIX_VECTOR, Width::Word) => {
                let select = self.common.queue_select;
                self.signals.set_queue_vector(select, word);
            }
            (common::QUEUE_ENABLE, Width::Word) if word == 1 => self.enable(),
            // "The driver MUST NOT write a 0 to queue_enable" (4.1.4.3.2).
            (common::QUEUE_ENABLE, Width::Word) => {}
            (common::QUEUE_DESC..0x38, Width::Dword) if offset & 3 == 0 => {
                self.set_address(offset, dword);
            }
            (
                common::DEVICE_FEATURE
                | common::NUM_QUEUES
                | common::CONFIG_GENERATION
                | common::QUEUE_NOTIFY_OFF,
                _,
            ) => {}
            _ => return Err(Refusal::BadWidth),
        }
        Ok(())
    }

    fn set_address(&mut self, offset: u64, half: u32) {
        let Some(queue) = self.changeable() else {
            return;
        };
        let regs = &mut queue.regs;
        let register = match offset & !7 {
            common::QUEUE_DESC => &mut regs.descriptors,
            common::QUEUE_DRIVER => &mut regs.driver,
            common::QUEUE_DEVICE => &mut regs.device,
            _ => return,
        };
        *register = with_half(*register, offset & 7, half);
    }

    /// Rings take their form from the features, so not before those are agreed on (3.1.1).
    fn enable(&mut self) {
        if !self.common.is_set(regs::FEATURES_OK) {
            return;
        }
        let event_idx = Self::event_idx(&self.common);
        let whole = self.changeable().is_none_or(|q| q.enable(event_idx));
        if !whole {
            self.fail(&RingError::Unaligned(self.common.queue_select));
        }
    }

    fn set_status(&mut self, status: u8) {
        if status == 0 {
            self.start_over();
            return;
        }
        let before = self.common.is_set(regs::DRIVER_OK);
        self.common.advance(status, self.offered());
        if !before && self.common.is_set(regs::DRIVER_OK) {
            self.begin();
        }
    }

    /// The driver is ready. Linux's fills queues, and notifies them, before it says so.
    fn begin(&mut self) {
        self.signals.set_live(true);
        self.device.driver(Some(self.common.driver_features));
        for queue in 0..self.device.queues() {
            self.kick(queue);
        }
    }

    fn start_over(&mut self) {
        self.common = Common::default();
        self.queues.fill_with(Virtqueue::new);
        self.signals.reset();
        self.device.driver(None);
        self.device.reset();
    }

    /// The driver broke the rules: nothing more is done until it starts over (2.1.2).
    fn fail(&mut self, error: &RingError) {
        self.device.broken(error);
        self.common.status |= regs::NEEDS_RESET;
        self.signals.config_changed();
    }

    /// The driver notified a queue. One that is not ready yet is served when it is.
    fn kick(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.regs.kicked = true;
            self.serve(index);
        }
    }

    fn serve(&mut self, index: u16) {
        if !self.common.is_live() {
            return;
        }
        let features = self.common.driver_features;
        let Some(Virtqueue {
            regs,
            queue: Some(queue),
        }) = self.queues.get_mut(usize::from(index))
        else {
            return;
        };
        let mut ring = Ring::new(&self.dma, queue, features);
        let before = ring.next_used();
        let served = Self::passes(&mut self.device, index, &mut ring);
        let heard = ring.is_heard(ring.next_used() != before);
        regs.kicked = matches!(served, Ok(Served::More));
        if matches!(heard, Ok(true)) {
            self.signals.used(index);
        }
        if let Some(error) = served.err().or(heard.err()) {
            self.fail(&error);
        }
    }

    fn passes(device: &mut D, index: u16, ring: &mut Ring<'_>) -> Result<Served, RingError> {
        for _ in 0..PASSES {
            if device.serve(index, ring)? == Served::More {
                break;
            }
            if !ring.listen()? {
                return Ok(Served::All);
            }
        }
        Ok(Served::More)
    }

    /// The next queue to be served without an access of the driver's.
    fn waiting(&self) -> Option<u16> {
        if !self.common.is_live() {
            return None;
        }
        let wanted = self.device.wants();
        let waits = |index: u16, queue: &Virtqueue| {
            queue.queue.is_some() && (queue.regs.kicked || wanted == Some(index))
        };
        let mut queues = (0..self.device.queues()).zip(&self.queues);
        queues.find_map(|(index, queue)| waits(index, queue).then_some(index))
    }
}

impl<D: VirtioDevice> PciDevice for VirtioPci<D> {
    fn label(&self) -> &'static str {
        self.device.label()
    }

    fn shape(&self) -> Shape {
        let id = regs::FIRST_DEVICE.saturating_add(self.device.id());
        let config = u32::try_from(self.device.config().len()).unwrap_or(0);
        Shape {
            bars: vec![regs::BAR],
            capabilities: regs::capabilities(self.device.queues(), config),
            ..Shape::new(Header {
                revision: regs::REVISION,
                pin: Some(Pin::A),
                subsystem: (regs::VENDOR, 0x1100),
                ..Header::new(regs::VENDOR, id, 0x00_ff00)
            })
        }
    }

    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        let value = match structure(at) {
            Some((Structure::Common, offset)) => lanes(&self.image(), offset, at.width),
            Some((Structure::Isr, 0)) => Some(self.signals.take_isr().into()),
            Some((Structure::Device, offset)) => lanes(&self.device.config(), offset, at.width),
            _ => None,
        };
        value.ok_or(Refusal::NoSuchRegister)
    }

    fn write(&mut self, at: Access, value: u64, _: &mut Effects) -> Answer<()> {
        match structure(at) {
            Some((Structure::Common, offset)) if offset < common::LEN.into() => {
                self.write_common(offset, at.width, value)
            }
            Some((Structure::Device, offset)) => {
                let config = self.device.config();
                let offset = lanes(&config, offset, at.width).and(usize::try_from(offset).ok());
                let offset = offset.ok_or(Refusal::NoSuchRegister)?;
                let bytes = value.to_le_bytes();
                let bytes = bytes.get(..at.width.bytes().into()).unwrap_or_default();
                self.device.write_config(offset, bytes);
                Ok(())
            }
            // The address says which queue; the value says it once more.
            Some((Structure::Notify, offset)) => {
                let index = offset.checked_div(regs::NOTIFY_MULTIPLIER.into());
                let index = index.and_then(|index| u16::try_from(index).ok());
                let index = index.filter(|index| *index < self.device.queues());
                self.kick(index.ok_or(Refusal::NoSuchRegister)?);
                Ok(())
            }
            _ => Err(Refusal::NoSuchRegister),
        }
    }

    fn reset(&mut self, _: ResetKind) {
        self.start_over();
    }

    fn save(&self) -> serde_json::Value {
        state::save(&State {
            common: self.common.clone(),
            queues: self.queues.iter().map(Virtqueue::save).collect(),
            signals: self.signals.save(),
            device: self.device.save(),
        })
    }

    fn load(&mut self, saved: &serde_json::Value) -> Result<(), StateError> {
        let label = self.device.label();
        let loaded: State = state::load(label, saved)?;
        let check = |possible, what| state::check(label, possible, what);
        check(loaded.common.can_be(self.offered()), "its negotiation")?;
        let live = loaded.common.is_set(regs::DRIVER_OK);
        let queues = self.device.queues();
        check(loaded.signals.can_be(queues, live), "its signals")?;
        check(loaded.queues.len() == usize::from(queues), "its queues")?;
        let event_idx = Self::event_idx(&loaded.common);
        let broken = loaded.common.is_set(regs::NEEDS_RESET);
        let built = loaded.queues.into_iter();
        let built = built.map(|regs| Virtqueue::of(regs, event_idx, broken));
        let built: Option<Vec<_>> = built.collect();
        check(built.is_some(), "a queue")?;
        self.device.load(&loaded.device)?;
        self.device
            .driver(live.then_some(loaded.common.driver_features));
        self.common = loaded.common;
        self.queues = built.unwrap_or_default();
        self.signals.load(loaded.signals);
        Ok(())
    }

    fn deadline(&self) -> Option<Ns> {
        self.waiting().map(|_| Ns(0))
    }

    fn wake(&mut self, _: &mut Effects) {
        if let Some(queue) = self.waiting() {
            self.serve(queue);
        }
    }
}
