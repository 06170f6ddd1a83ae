//! Which window lies where.

use crate::trace::Space;

use super::ranges::RangeMap;

/// Where a device stands in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub(super) usize);

pub(super) type Target = (DeviceId, u8);

/// A window that another is in the way of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) space: Space,
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) target: Target,
}

#[derive(Default)]
pub(super) struct Maps {
    pio: RangeMap<Target>,
    mmio: RangeMap<Target>,
    config: RangeMap<Target>,
    /// Movable windows whose place is taken, oldest first. On a real bus both decoders would answer.
    waiting: Vec<Waiting>,
}

impl Maps {
    pub(super) const fn of(&self, space: Space) -> &RangeMap<Target> {
        match space {
            Space::Pio => &self.pio,
            Space::Mmio => &self.mmio,
            Space::Config => &self.config,
        }
    }

    pub(super) const fn of_mut(&mut self, space: Space) -> &mut RangeMap<Target> {
        match space {
            Space::Pio => &mut self.pio,
            Space::Mmio => &mut self.mmio,
            Space::Config => &mut self.config,
        }
    }

    /// Takes a window away and lets those that waited for its room have it.
    pub(super) fn withdraw(&mut self, target: Target) {
        self.waiting.retain(|w| w.target != target);
        for space in [Space::Pio, Space::Mmio] {
            self.of_mut(space).remove(target);
        }
        for window in std::mem::take(&mut self.waiting) {
            self.place(window);
        }
    }

    pub(super) fn place(&mut self, window: Waiting) {
        let map = self.of_mut(window.space);
        if map.insert(window.base, window.len, window.target).is_err() {
            self.waiting.push(window);
        }
    }

    /// Every range as (space, first, last, target): ports, memory, configuration.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Space, u64, u64, Target)> + '_ {
        let spaces = [Space::Pio, Space::Mmio, Space::Config].into_iter();
        spaces.flat_map(|space| {
            let rows = self.of(space).iter();
            rows.map(move |(first, last, target)| (space, first, last, target))
        })
    }
}

/// A window in its place, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Placed {
    /// Ports, memory or configuration.
    pub space: Space,
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Label of the device.
    pub device: &'static str,
    /// Name of the window.
    pub window: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(device: usize, base: u64) -> Waiting {
        Waiting {
            space: Space::Mmio,
            base,
            len: 0x1000,
            target: (DeviceId(device), 0),
        }
    }

    fn owner(maps: &Maps, address: u64) -> Option<usize> {
        maps.of(Space::Mmio).find(address).map(|((id, _), ..)| id.0)
    }

    #[test]
    fn a_window_waits_until_the_one_in_its_way_goes() {
        let mut maps = Maps::default();
        maps.place(window(1, 0x1000));
        maps.place(window(2, 0x1800));
        assert_eq!(owner(&maps, 0x1800), Some(1));
        maps.withdraw((DeviceId(1), 0));
        assert_eq!(owner(&maps, 0x1800), Some(2));
        assert_eq!(owner(&maps, 0x1000), None);
    }

    #[test]
    fn a_window_that_wraps_answers_nothing_and_does_no_harm() {
        let mut maps = Maps::default();
        maps.place(window(1, u64::MAX - 1));
        assert_eq!(maps.iter().count(), 0);
        maps.place(window(2, 0x1000));
        assert_eq!(owner(&maps, 0x1000), Some(2));
    }
}
