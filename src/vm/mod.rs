//! KVM: the VM, its memory slots, vCPU set-up and state, the run loop and the irqchip.
