//! The common configuration's registers that are not a queue's (VIRTIO 1.2, 4.1.4.3), and the rules of
//! negotiation (2.2, 3.1).

use serde::{Deserialize, Serialize};

use super::regs::{ACCESS_PLATFORM, BY_DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, VERSION_1};

/// The registers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Common {
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    pub(super) driver_features: u64,
    pub(super) status: u8,
    pub(super) queue_select: u16,
}

/// The half of `features` that `select` shows.
pub(super) fn half(features: u64, select: u32) -> u32 {
    let shown = match select {
        0 => features,
        1 => features >> 32,
        _ => 0,
    };
    u32::try_from(shown & 0xffff_ffff).unwrap_or_default()
}

impl Common {
    pub(super) const fn is_set(&self, status: u8) -> bool {
        self.status & status == status
    }

    /// Whether the device is at work.
    pub(super) const fn is_live(&self) -> bool {
        self.is_set(DRIVER_OK) && !self.is_set(NEEDS_RESET)
    }

    /// Fixed once both sides have agreed.
    pub(super) fn choose(&mut self, half: u32) {
        if self.is_set(FEATURES_OK) {
            return;
        }
        let (low, high) = (0xffff_ffff_u64, 0xffff_ffff_0000_0000);
        self.driver_features = match self.driver_feature_select {
            0 => self.driver_features & high | u64::from(half),
            1 => self.driver_features & low | u64::from(half) << 32,
            _ => self.driver_features,
        };
    }

    /// Whether the device can work with what the driver chose. A legacy driver is not served, nor one
    /// that would go past the IOMMU it is told of (6.1).
    const fn agrees(&self, offered: u64) -> bool {
        let chosen = self.driver_features;
        let platform = offered & ACCESS_PLATFORM == chosen & ACCESS_PLATFORM;
        chosen & !offered == 0 && chosen & VERSION_1 != 0 && platform
    }

    /// The driver writes a status other than 0. It can only add to it (2.1.1); FEATURES_OK stays clear
    /// when the device does not agree, and DRIVER_OK needs it.
    pub(super) const fn advance(&mut self, status: u8, offered: u64) {
        let mut added = status & BY_DRIVER & !self.status;
        if !self.agrees(offered) {
            added &= !FEATURES_OK;
        }
        if (self.status | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        self.status |= added;
    }

    /// Whether a driver can have brought it about.
    pub(super) const fn can_be(&self, offered: u64) -> bool {
        let agreed = !self.is_set(FEATURES_OK) || self.agrees(offered);
        let ready = !self.is_set(DRIVER_OK) || self.is_set(FEATURES_OK);
        self.status & !(BY_DRIVER | NEEDS_RESET) == 0 && agreed && ready
    }
}

#[cfg(test)]
mod tests {
    use super::super::regs::{ACKNOWLEDGE, DRIVER, EVENT_IDX};
    use super::*;

    const OFFERED: u64 = VERSION_1 | EVENT_IDX | 0b11;

    fn negotiated(chosen: u64, offered: u64) -> Common {
        let mut common = Common::default();
        common.advance(ACKNOWLEDGE | DRIVER, offered);
        common.choose(half(chosen, 0));
        common.driver_feature_select = 1;
        common.choose(half(chosen, 1));
        common.advance(ACKNOWLEDGE | DRIVER | FEATURES_OK, offered);
        common
    }

    #[test]
    fn only_features_that_are_offered_are_agreed_to_and_version_1_is_a_must() {
        for (chosen, agreed) in [
            (VERSION_1, true),
            (OFFERED, true),
            (EVENT_IDX, false),
            (VERSION_1 | 1 << 5, false),
            (VERSION_1 | ACCESS_PLATFORM, false),
        ] {
            let common = negotiated(chosen, OFFERED);
            assert_eq!(common.is_set(FEATURES_OK), agreed, "{chosen:#x}");
            assert_eq!(common.driver_features, chosen);
        }
    }

    #[test]
    fn behind_an_iommu_a_driver_must_accept_it() {
        let offered = OFFERED | ACCESS_PLATFORM;
        assert!(!negotiated(VERSION_1, offered).is_set(FEATURES_OK));
        assert!(negotiated(VERSION_1 | ACCESS_PLATFORM, offered).is_set(FEATURES_OK));
    }

    #[test]
    fn what_is_agreed_stays_and_a_driver_is_ready_only_then() {
        let mut common = negotiated(EVENT_IDX, OFFERED);
        common.advance(DRIVER_OK, OFFERED);
        assert!(!common.is_set(DRIVER_OK));
        let mut common = negotiated(VERSION_1, OFFERED);
        common.choose(0);
        assert_eq!(common.driver_features, VERSION_1);
        common.advance(DRIVER_OK, OFFERED);
        assert!(common.is_live());
        common.advance(NEEDS_RESET | ACKNOWLEDGE, OFFERED);
        assert!(
            common.is_live(),
            "only the device says that it needs a reset"
        );
    }

    #[test]
    fn a_third_half_of_the_features_is_empty() {
        let mut common = Common {
            driver_feature_select: 2,
            ..Common::default()
        };
        common.choose(u32::MAX);
        assert_eq!((common.driver_features, half(u64::MAX, 2)), (0, 0));
    }
}
