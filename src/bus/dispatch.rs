//! The arena, the maps, and the path of one access.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use crate::trace::{Direction, Event, Probe, Space};

use super::clock::Ns;
use super::device::{Access, Answer, Device, Place, Refusal, ResetKind, StateError, Width, Window};
use super::effect::{Effect, EffectSink, Effects};
use super::maps::{DeviceId, Maps, Placed, Target, Waiting};
use super::ranges::Overlap;

/// A device that could not be attached.
#[derive(Debug, thiserror::Error)]
#[error("{device} cannot have its window {window} at {base:#x}: {source}")]
pub struct AttachError {
    device: &'static str,
    window: &'static str,
    base: u64,
    source: Overlap,
}

/// How often a device was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceCounts {
    /// Reads it got.
    pub reads: u64,
    /// Writes it got.
    pub writes: u64,
    /// Of both, those it refused.
    pub refused: u64,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    refused: AtomicU64,
}

struct Slot {
    label: &'static str,
    windows: Vec<Window>,
    device: Mutex<Box<dyn Device>>,
    counters: Counters,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Device>> {
        // A device that panicked left its state as it was; the panic itself ends the run with 74.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who took an access.
#[derive(Default)]
struct Taken {
    device: Option<&'static str>,
    /// Where it goes on.
    forward: Option<(Space, u64)>,
}

/// The bus of a machine. Built with `&mut`, then shared.
#[derive(Default)]
pub struct Bus {
    slots: Vec<Slot>,
    maps: RwLock<Maps>,
    /// Accesses nobody answered.
    unclaimed: AtomicU64,
    /// Called when an access may have moved a device's deadline.
    on_deadline: Option<Box<dyn Fn(Ns) + Send + Sync>>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.slots.iter().map(|s| s.label))
            .finish()
    }
}

impl Bus {
    /// An empty bus.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device and places the windows that have a base.
    ///
    /// # Errors
    /// [`AttachError`] when a window is in another's way.
    pub fn attach(&mut self, device: Box<dyn Device>) -> Result<DeviceId, AttachError> {
        let id = DeviceId(self.slots.len());
        let (label, windows) = (device.label(), device.windows());
        let maps = self.maps.get_mut().unwrap_or_else(PoisonError::into_inner);
        for window in &windows {
            if let Some(base) = window.base {
                maps.of_mut(window.space)
                    .insert(base, window.len, (id, window.id))
                    .map_err(|source| AttachError {
                        device: label,
                        window: window.name,
                        base,
                        source,
                    })?;
            }
        }
        let device = Mutex::new(device);
        self.slots.push(Slot {
            label,
            windows,
            device,
            counters: Counters::default(),
        });
        Ok(id)
    }

    /// Has `notify` called with the new deadline whenever an access set one.
    pub fn on_deadline(&mut self, notify: impl Fn(Ns) + Send + Sync + 'static) {
        self.on_deadline = Some(Box::new(notify));
    }

    /// A guest read of `width` at `address`; ones where nothing answers.
    pub fn read(
        &self,
        space: Space,
        address: u64,
        width: Width,
        sink: &dyn EffectSink,
        probe: &Probe,
    ) -> u64 {
        let mut value = width.ones();
        let run = |space, address, value: &mut u64| {
            self.access(space, address, width, sink, |slot, device, at, effects| {
                slot.counters.reads.fetch_add(1, Ordering::Relaxed);
                *value = device.read(at, effects)? & width.ones();
                Ok(())
            })
        };
        let taken = run(space, address, &mut value);
        let event = |space, address, device, value| {
            probe.emit(|| Event::Access {
                space,
                direction: Direction::Read,
                address,
                width: width.bytes(),
                value,
                device,
            });
        };
        if let Some((space, address)) = taken.forward {
            let behind = run(space, address, &mut value);
            event(space, address, behind.device, value);
        }
        event(space, address, taken.device, value);
        value
    }

    /// A guest write of `width` at `address`; dropped where nothing answers.
    pub fn write(
        &self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
        sink: &dyn EffectSink,
        probe: &Probe,
    ) {
        let value = value & width.ones();
        let run = |space, address| {
            let taken = self.access(space, address, width, sink, |slot, device, at, effects| {
                slot.counters.writes.fetch_add(1, Ordering::Relaxed);
                device.write(at, value, effects)
            });
            probe.emit(|| Event::Access {
                space,
                direction: Direction::Write,
                address,
                width: width.bytes(),
                value,
                device: taken.device,
            });
            taken
        };
        if let Some((space, address)) = run(space, address).forward {
            run(space, address);
        }
    }

    fn access(
        &self,
        space: Space,
        address: u64,
        width: Width,
        sink: &dyn EffectSink,
        call: impl FnOnce(&Slot, &mut dyn Device, Access, &mut Effects) -> Answer<()>,
    ) -> Taken {
        let found = {
            let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
            maps.of(space).find(address)
        };
        // An access that passes the end of its window is nobody's: real decoders see two.
        let target = found.filter(|&(.., room)| u64::from(width.bytes()) <= room);
        let slot = target.and_then(|((id, _), ..)| self.slots.get(id.0));
        let (Some(((id, window), offset, _)), Some(slot)) = (target, slot) else {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
            return Taken::default();
        };
        let mut effects = Effects::new();
        let (answer, deadline) = {
            let mut device = slot.lock();
            let at = Access {
                window,
                offset,
                width,
            };
            let answer = call(slot, device.as_mut(), at, &mut effects);
            (answer, device.deadline())
        };
        self.settle(id, &mut effects, deadline, sink);
        let forward = match answer {
            Err(Refusal::Forward { space, address }) => Some((space, address)),
            Err(_) => {
                slot.counters.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
            Ok(()) => None,
        };
        Taken {
            device: Some(slot.label),
            forward,
        }
    }

    /// Applies what a device asked for, with its lock dropped.
    fn settle(
        &self,
        id: DeviceId,
        effects: &mut Effects,
        deadline: Option<Ns>,
        sink: &dyn EffectSink,
    ) {
        if let (Some(deadline), Some(notify)) = (deadline, &self.on_deadline) {
            notify(deadline);
        }
        for effect in effects.drain() {
            match effect {
                Effect::Place(place) => self.place(id, place),
                Effect::Withdraw { window } => self.maps_mut().withdraw((id, window)),
                other => sink.apply(other),
            }
        }
    }

    fn maps_mut(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a window.
    fn place(&self, id: DeviceId, place: Place) {
        let slot = self.slots.get(id.0);
        let shape = slot.and_then(|s| s.windows.iter().find(|w| w.id == place.window));
        let Some(shape) = shape else {
            return;
        };
        let mut maps = self.maps_mut();
        let target = (id, place.window);
        maps.withdraw(target);
        maps.place(Waiting {
            space: place.space,
            base: place.base,
            len: shape.len,
            target,
        });
    }

    /// Puts the movable windows of a device where its state says.
    fn replace(&self, id: DeviceId, slot: &Slot, places: Vec<Place>) {
        for window in slot.windows.iter().filter(|w| w.base.is_none()) {
            self.maps_mut().withdraw((id, window.id));
        }
        for place in places {
            self.place(id, place);
        }
    }

    /// Wakes every device whose deadline has come and returns the earliest that has not.
    pub fn wake(&self, now: Ns, sink: &dyn EffectSink) -> Option<Ns> {
        let mut earliest = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let mut effects = Effects::new();
            let next = {
                let mut device = slot.lock();
                if device.deadline().is_some_and(|at| at <= now) {
                    device.wake(&mut effects);
                }
                device.deadline()
            };
            self.settle(DeviceId(index), &mut effects, None, sink);
            earliest = [earliest, next].into_iter().flatten().min();
        }
        earliest
    }

    /// Runs `call` on every device, in arena order.
    fn each(&self, mut call: impl FnMut(&mut dyn Device)) {
        for slot in &self.slots {
            call(slot.lock().as_mut());
        }
    }

    /// Resets every device; movable windows go back to where reset puts them.
    pub fn reset(&self, kind: ResetKind) {
        for (index, slot) in self.slots.iter().enumerate() {
            let places = {
                let mut device = slot.lock();
                device.reset(kind);
                device.places()
            };
            self.replace(DeviceId(index), slot, places);
        }
    }

    /// Stops every device's background work.
    pub fn park(&self) {
        self.each(|d| d.park());
    }

    /// Lets background work go on.
    pub fn unpark(&self) {
        self.each(|d| d.unpark());
    }

    /// Every device's label and state, in arena order.
    #[must_use]
    pub fn save(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut states = Vec::with_capacity(self.slots.len());
        self.each(|d| states.push((d.label(), d.save())));
        states
    }

    /// Puts states back that [`Bus::save`] of the same board gave.
    ///
    /// # Errors
    /// The first [`StateError`]; devices before it are already changed.
    pub fn load(&self, states: &[(String, serde_json::Value)]) -> Result<(), StateError> {
        let impossible = |what: String| StateError::Impossible {
            device: "the board".into(),
            what,
        };
        if states.len() != self.slots.len() {
            return Err(impossible(format!(
                "{} devices saved, {} on the board",
                states.len(),
                self.slots.len()
            )));
        }
        for ((index, slot), (label, state)) in self.slots.iter().enumerate().zip(states) {
            if slot.label != label {
                return Err(impossible(format!(
                    "{label} saved where {} stands",
                    slot.label
                )));
            }
            let places = {
                let mut device = slot.lock();
                device.load(state)?;
                device.places()
            };
            self.replace(DeviceId(index), slot, places);
        }
        Ok(())
    }

    /// Counts per device, and of accesses nobody answered.
    #[must_use]
    pub fn counts(&self) -> (Vec<(&'static str, DeviceCounts)>, u64) {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let counts = |s: &Slot| DeviceCounts {
            reads: get(&s.counters.reads),
            writes: get(&s.counters.writes),
            refused: get(&s.counters.refused),
        };
        (
            self.slots.iter().map(|s| (s.label, counts(s))).collect(),
            get(&self.unclaimed),
        )
    }

    /// Every placed window: ports, memory, configuration; each lowest first.
    #[must_use]
    pub fn listing(&self) -> Vec<Placed> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let row = |(space, first, last, (id, window)): (Space, u64, u64, Target)| {
            let slot = self.slots.get(id.0)?;
            Some(Placed {
                space,
                first,
                last,
                device: slot.label,
                window: slot.windows.iter().find(|w| w.id == window)?.name,
            })
        };
        maps.iter().filter_map(row).collect()
    }

    /// Every device's label and windows, in arena order.
    #[must_use]
    pub fn devices(&self) -> Vec<(&'static str, &[Window])> {
        let slots = self.slots.iter();
        slots.map(|s| (s.label, s.windows.as_slice())).collect()
    }
}

/// A bus with its sink: what a vCPU thread holds.
#[derive(Clone)]
pub struct BusPort {
    /// The bus.
    pub bus: Arc<Bus>,
    /// Where effects go.
    pub sink: Arc<dyn EffectSink>,
}

impl fmt::Debug for BusPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bus.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Latch(u64);

    impl Device for Latch {
        fn label(&self) -> &'static str {
            "latch"
        }
        fn windows(&self) -> Vec<Window> {
            let pio = Window {
                id: 0,
                name: "ports",
                space: Space::Pio,
                base: Some(0x10),
                len: 4,
            };
            vec![
                pio,
                Window {
                    id: 1,
                    name: "bar",
                    space: Space::Mmio,
                    base: None,
                    len: 0x1000,
                },
            ]
        }
        fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
            if at.width == Width::Byte {
                Ok(self.0)
            } else {
                Err(Refusal::BadWidth)
            }
        }
        fn write(&mut self, at: Access, value: u64, effects: &mut Effects) -> Answer<()> {
            self.0 = value;
            if at.offset == 1 {
                effects.push(Effect::Place(Place {
                    window: 1,
                    space: Space::Mmio,
                    base: value << 12,
                }));
            }
            if at.offset == 2 {
                effects.push(Effect::Exit(value));
            }
            Ok(())
        }
        fn reset(&mut self, _: ResetKind) {
            self.0 = 0;
        }
        fn places(&self) -> Vec<Place> {
            let place = |base| Place {
                window: 1,
                space: Space::Mmio,
                base,
            };
            (self.0 != 0)
                .then(|| place(self.0 << 12))
                .into_iter()
                .collect()
        }
        fn save(&self) -> serde_json::Value {
            self.0.into()
        }
        fn load(&mut self, state: &serde_json::Value) -> Result<(), StateError> {
            self.0 = state.as_u64().unwrap();
            Ok(())
        }
    }

    #[derive(Default)]
    struct Seen(Mutex<Vec<Effect>>);

    impl EffectSink for Seen {
        fn apply(&self, effect: Effect) {
            self.0.lock().unwrap().push(effect);
        }
    }

    fn bus() -> (Bus, Seen) {
        let mut bus = Bus::new();
        bus.attach(Box::new(Latch(0))).unwrap();
        (bus, Seen::default())
    }

    fn read(bus: &Bus, space: Space, address: u64, width: Width) -> u64 {
        bus.read(space, address, width, &Seen::default(), &Probe::off())
    }

    #[test]
    fn nothing_reads_as_ones_and_a_refusal_too() {
        let (bus, _) = bus();
        assert_eq!(read(&bus, Space::Pio, 0x20, Width::Word), 0xffff);
        assert_eq!(read(&bus, Space::Pio, 0x10, Width::Word), 0xffff);
        assert_eq!(read(&bus, Space::Pio, 0x10, Width::Byte), 0);
        let (counts, unclaimed) = bus.counts();
        assert_eq!(
            counts[0].1,
            DeviceCounts {
                reads: 2,
                writes: 0,
                refused: 1
            }
        );
        assert_eq!(unclaimed, 1);
    }

    #[test]
    fn an_access_across_the_end_of_a_window_is_nobodys() {
        let (bus, _) = bus();
        assert_eq!(read(&bus, Space::Pio, 0x13, Width::Word), 0xffff);
        assert_eq!(bus.counts().1, 1);
    }

    #[test]
    fn a_window_placed_by_an_effect_answers_at_its_new_place_only() {
        let (bus, seen) = bus();
        let probe = Probe::off();
        bus.write(Space::Pio, 0x11, Width::Byte, 7, &seen, &probe);
        assert_eq!(read(&bus, Space::Mmio, 0x7008, Width::Byte), 7);
        bus.write(Space::Pio, 0x11, Width::Byte, 9, &seen, &probe);
        assert_eq!(read(&bus, Space::Mmio, 0x7008, Width::Byte), 0xff);
        assert_eq!(read(&bus, Space::Mmio, 0x9008, Width::Byte), 9);
    }

    #[test]
    fn effects_the_bus_does_not_know_go_to_the_sink() {
        let (bus, seen) = bus();
        bus.write(Space::Pio, 0x12, Width::Byte, 3, &seen, &Probe::off());
        assert_eq!(*seen.0.lock().unwrap(), [Effect::Exit(3)]);
    }

    #[test]
    fn a_second_device_on_the_same_port_is_refused_by_name() {
        let (mut bus, _) = bus();
        let error = bus.attach(Box::new(Latch(0))).unwrap_err();
        assert!(error.to_string().contains("latch") && error.to_string().contains("0x10"));
    }

    #[test]
    fn states_of_another_board_are_refused() {
        let (bus, _) = bus();
        assert!(bus.load(&[]).is_err());
        assert!(bus.load(&[("serial".into(), 1.into())]).is_err());
        bus.load(&[("latch".into(), 5.into())]).unwrap();
        assert_eq!(read(&bus, Space::Pio, 0x10, Width::Byte), 5);
    }

    #[test]
    fn movable_windows_follow_a_reset_and_a_load() {
        let (bus, seen) = bus();
        bus.write(Space::Pio, 0x11, Width::Byte, 7, &seen, &Probe::off());
        bus.reset(ResetKind::Cold);
        assert_eq!(read(&bus, Space::Mmio, 0x7008, Width::Byte), 0xff);
        bus.load(&[("latch".into(), 5.into())]).unwrap();
        assert_eq!(read(&bus, Space::Mmio, 0x5008, Width::Byte), 5);
    }

    /// A bridge from port 0x40 to port 0x10, and from 0x41 back to itself.
    struct Bridge;

    impl Device for Bridge {
        fn label(&self) -> &'static str {
            "bridge"
        }
        fn windows(&self) -> Vec<Window> {
            vec![Window {
                id: 0,
                name: "ports",
                space: Space::Pio,
                base: Some(0x40),
                len: 2,
            }]
        }
        fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
            Err(Refusal::Forward {
                space: Space::Pio,
                address: if at.offset == 0 { 0x10 } else { 0x41 },
            })
        }
        fn write(&mut self, at: Access, _: u64, effects: &mut Effects) -> Answer<()> {
            self.read(at, effects).map(drop)
        }
        fn reset(&mut self, _: ResetKind) {}
        fn save(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
            Ok(())
        }
    }

    #[test]
    fn a_bridge_passes_a_cycle_on_once() {
        let (mut bus, seen) = bus();
        bus.attach(Box::new(Bridge)).unwrap();
        bus.write(Space::Pio, 0x40, Width::Byte, 0x5a, &seen, &Probe::off());
        assert_eq!(read(&bus, Space::Pio, 0x10, Width::Byte), 0x5a);
        assert_eq!(read(&bus, Space::Pio, 0x40, Width::Byte), 0x5a);
        assert_eq!(read(&bus, Space::Pio, 0x41, Width::Byte), 0xff, "a loop");
    }
}
