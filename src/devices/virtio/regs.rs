//! Registers, bits and numbers of virtio over PCI (VIRTIO 1.2; sections beside the names).

use crate::bus::Width;
use crate::pci::{Bar, BarKind, Capability, Field, MsixShape, regs};

/// 4.1.2: vendor of all virtio devices.
pub(super) const VENDOR: u16 = 0x1af4;
/// 4.1.2: modern devices have their virtio ID above this.
pub(super) const FIRST_DEVICE: u16 = 0x1040;
/// 4.1.2.1: at least 1 for a device that is not transitional.
pub(super) const REVISION: u8 = 1;

/// 2.1: device status.
pub(super) const ACKNOWLEDGE: u8 = 1;
pub(super) const DRIVER: u8 = 2;
pub(super) const DRIVER_OK: u8 = 4;
pub(super) const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 64;
pub(super) const FAILED: u8 = 128;
/// What a driver can set.
pub(super) const BY_DRIVER: u8 = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;

/// 6: features of every device.
pub(super) const INDIRECT_DESC: u64 = 1 << 28;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const VERSION_1: u64 = 1 << 32;
pub(super) const ACCESS_PLATFORM: u64 = 1 << 33;

/// 4.1.5.1.2: no MSI-X vector.
pub(super) const NO_VECTOR: u16 = 0xffff;

/// 4.1.4.5: bits of the ISR status.
pub(super) const ISR_QUEUE: u8 = 1;
pub(super) const ISR_CONFIG: u8 = 2;

/// 4.1.4.3: the common configuration, up to and with queue_device.
pub(super) mod common {
    pub(crate) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(crate) const DEVICE_FEATURE: u64 = 0x04;
    pub(crate) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(crate) const DRIVER_FEATURE: u64 = 0x0c;
    pub(crate) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(crate) const NUM_QUEUES: u64 = 0x12;
    pub(crate) const DEVICE_STATUS: u64 = 0x14;
    pub(crate) const CONFIG_GENERATION: u64 = 0x15;
    pub(crate) const QUEUE_SELECT: u64 = 0x16;
    pub(crate) const QUEUE_SIZE: u64 = 0x18;
    pub(crate) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(crate) const QUEUE_ENABLE: u64 = 0x1c;
    pub(crate) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    /// 64 bits each, written in halves.
    pub(crate) const QUEUE_DESC: u64 = 0x20;
    pub(crate) const QUEUE_DRIVER: u64 = 0x28;
    pub(crate) const QUEUE_DEVICE: u64 = 0x30;
    pub(crate) const LEN: u32 = 0x38;
}

/// Where the structures lie in the BAR, a page each.
pub(super) const COMMON: u32 = 0x0000;
pub(super) const ISR: u32 = 0x1000;
pub(super) const DEVICE: u32 = 0x2000;
pub(super) const NOTIFY: u32 = 0x3000;
const MSIX_TABLE: u32 = 0x4000;
const MSIX_PENDING: u32 = 0x5000;
/// Bytes between the notification addresses of two queues.
pub(super) const NOTIFY_MULTIPLIER: u32 = 4;

pub(super) const BAR: Bar = Bar {
    index: 0,
    name: "virtio",
    kind: BarKind::Memory32,
    len: 0x8000,
};

/// 4.1.4: kinds of structure.
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;

/// 4.1.4: struct virtio_pci_cap; `more` is appended.
fn capability(kind: u8, offset: u32, len: u32, more: Option<u32>) -> Capability {
    const LEN: u8 = 16;
    let cap_len = if more.is_some() {
        LEN.wrapping_add(4)
    } else {
        LEN
    };
    let mut fields = vec![
        Field::fixed("CAPLEN", 2, Width::Byte, cap_len.into()),
        Field::fixed("CFGTYPE", 3, Width::Byte, kind.into()),
        Field::fixed("BAR", 4, Width::Byte, BAR.index.into()),
        Field::fixed("OFFSET", 8, Width::Dword, offset),
        Field::fixed("LENGTH", 12, Width::Dword, len),
    ];
    fields.extend(more.map(|more| Field::fixed("NOTIFYMUL", LEN, Width::Dword, more)));
    Capability::Other {
        id: regs::CAP_VENDOR,
        len: cap_len,
        fields,
    }
}

/// The capabilities of a device with that many queues and bytes of configuration.
pub(super) fn capabilities(queues: u16, config: u32) -> Vec<Capability> {
    let notify = u32::from(queues).saturating_mul(NOTIFY_MULTIPLIER);
    vec![
        Capability::Msix(MsixShape {
            vectors: queues.saturating_add(1),
            bar: BAR.index,
            table: MSIX_TABLE,
            pending: MSIX_PENDING,
        }),
        capability(CFG_COMMON, COMMON, common::LEN, None),
        capability(CFG_NOTIFY, NOTIFY, notify, Some(NOTIFY_MULTIPLIER)),
        capability(CFG_ISR, ISR, 1, None),
        capability(CFG_DEVICE, DEVICE, config, None),
    ]
}
