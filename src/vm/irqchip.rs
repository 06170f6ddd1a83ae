//! The full in-kernel irqchip: two PICs, an IOAPIC, local APICs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_msi,
};
use kvm_ioctls::VmFd;

use crate::bus::{GsiSink, Msi, MsiSink};

/// Delivers levels and messages to KVM.
#[derive(Debug)]
pub struct KernelIrqchip {
    vm: Arc<VmFd>,
    refused: AtomicU64,
}

impl KernelIrqchip {
    /// The irqchip of `vm`, which must have one.
    #[must_use]
    pub const fn new(vm: Arc<VmFd>) -> Self {
        Self {
            vm,
            refused: AtomicU64::new(0),
        }
    }

    /// Levels and messages KVM did not take: a GSI or a message no chip has.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl GsiSink for KernelIrqchip {
    fn set(&self, gsi: u32, level: bool) {
        if self.vm.set_irq_line(gsi, level).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl MsiSink for KernelIrqchip {
    fn send(&self, msi: Msi) -> bool {
        let [address_lo, address_hi] = halves(msi.address);
        let message = kvm_msi {
            address_lo,
            address_hi,
            data: msi.data,
            ..Default::default()
        };
        match self.vm.signal_msi(message) {
            Ok(taken) => taken > 0,
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Pins of a PIC, and of the IOAPIC.
const PIC_PINS: u32 = 8;
const IOAPIC_PINS: u32 = 24;

/// GSI, chip and pin of every wire of a PC. As KVM's default, but that the PIT, GSI 0, comes to the
/// IOAPIC at pin 2: there the MADT says it is, and KVM hands it a tick only after the one before was
/// acknowledged at that pin. The cascade, GSI 2, has no wire of its own.
fn wires() -> impl Iterator<Item = (u32, u32, u32)> {
    (0..IOAPIC_PINS).filter(|gsi| *gsi != 2).flat_map(|gsi| {
        let pic = match gsi.checked_sub(PIC_PINS) {
            None => Some((gsi, KVM_IRQCHIP_PIC_MASTER, gsi)),
            Some(pin) if pin < PIC_PINS => Some((gsi, KVM_IRQCHIP_PIC_SLAVE, pin)),
            Some(_) => None,
        };
        let pin = if gsi == 0 { 2 } else { gsi };
        pic.into_iter().chain([(gsi, KVM_IRQCHIP_IOAPIC, pin)])
    })
}

/// Wires the chips as the MADT says.
pub(super) fn wire(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let entries: Vec<_> = wires()
        .map(|(gsi, irqchip, pin)| {
            let mut entry = kvm_irq_routing_entry {
                gsi,
                type_: KVM_IRQ_ROUTING_IRQCHIP,
                ..Default::default()
            };
            entry.u.irqchip.irqchip = irqchip;
            entry.u.irqchip.pin = pin;
            entry
        })
        .collect();
    let routing = KvmIrqRouting::from_entries(&entries);
    vm.set_gsi_routing(&routing.map_err(|_| kvm_ioctls::Error::new(libc::E2BIG))?)
}

/// Low and high half.
#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pit_comes_in_at_pin_2_and_nothing_else_does() {
        let of = |gsi| {
            wires()
                .filter(move |wire| wire.0 == gsi)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(0),
            [(0, KVM_IRQCHIP_PIC_MASTER, 0), (0, KVM_IRQCHIP_IOAPIC, 2)]
        );
        assert_eq!(
            of(9),
            [(9, KVM_IRQCHIP_PIC_SLAVE, 1), (9, KVM_IRQCHIP_IOAPIC, 9)]
        );
        assert_eq!(of(23), [(23, KVM_IRQCHIP_IOAPIC, 23)]);
        assert_eq!(of(2), []);
        let at = wires().filter(|wire| wire.1 == KVM_IRQCHIP_IOAPIC && wire.2 == 2);
        assert_eq!(at.count(), 1);
    }
}
