//! The full in-kernel irqchip: two PICs, an IOAPIC, local APICs, with KVM's default routing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::kvm_msi;
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

/// Low and high half.
#[expect(clippy::cast_possible_truncation, reason = "halves are what is wanted")]
const fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
