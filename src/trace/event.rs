//! The events themselves.

use serde::Serialize;

/// The address space of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// Port I/O, 64 KiB.
    Pio,
    /// Memory-mapped I/O, guest physical.
    Mmio,
    /// PCI configuration: requester id in bits 23:8, register in 7:0.
    Config,
}

/// Which way an access went, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The guest read.
    Read,
    /// The guest wrote.
    Write,
}

/// Why KVM_RUN returned, for exits that carry no access of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// KVM_EXIT_HLT: only without an in-kernel irqchip.
    Halt,
    /// KVM_EXIT_SHUTDOWN: a triple fault.
    Shutdown,
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError,
    /// KVM_EXIT_FAIL_ENTRY.
    FailEntry,
    /// KVM_EXIT_SYSTEM_EVENT.
    SystemEvent,
    /// KVM_EXIT_DEBUG.
    Debug,
    /// KVM_EXIT_IRQ_WINDOW_OPEN.
    IrqWindow,
    /// KVM_EXIT_IOAPIC_EOI.
    IoapicEoi,
    /// KVM_EXIT_HYPERCALL.
    Hypercall,
    /// KVM_EXIT_MEMORY_FAULT.
    MemoryFault,
    /// A signal or `immediate_exit` took the vCPU out.
    Interrupted,
    /// Anything this list does not name.
    Other,
}

/// One thing that happened. Numbers that may exceed 2^53 are hexadecimal strings in JSON.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A port or memory access that left the guest.
    Access {
        /// Port or memory.
        space: Space,
        /// Read or write.
        direction: Direction,
        /// Address in its space.
        #[serde(serialize_with = "hex")]
        address: u64,
        /// Width in bytes.
        width: u8,
        /// The value written, or the value the guest was answered.
        #[serde(serialize_with = "hex")]
        value: u64,
        /// Label of the device that answered; none when nobody did.
        device: Option<&'static str>,
    },
    /// An `rdmsr` or `wrmsr` that left the guest.
    Msr {
        /// Read or write.
        direction: Direction,
        /// MSR index.
        #[serde(serialize_with = "hex")]
        index: u64,
        /// The value written, or the value answered; none for a read that got #GP.
        #[serde(serialize_with = "hex_option")]
        value: Option<u64>,
        /// Whether the answer was #GP.
        refused: bool,
        /// KVM_MSR_EXIT_REASON_*: 1 invalid, 2 unknown, 4 filtered.
        reason: u32,
        /// Guest RIP, at the instruction.
        #[serde(serialize_with = "hex")]
        rip: u64,
    },
    /// Any other exit.
    Exit {
        /// Which.
        kind: ExitKind,
        /// Detail of that exit: sub-error, event type, vector; zero when it has none.
        #[serde(serialize_with = "hex")]
        detail: u64,
    },
    /// A step in the life of the run: `start`, `first_run`, `first_byte`, `init`, `pause`, `resume`,
    /// `reset`, `end`.
    Life {
        /// Which step.
        step: &'static str,
        /// What it says about itself, when there is something to say.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
}

// Serde's `serialize_with` fixes these signatures.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "signature given by serde"
)]
fn hex<S: serde::Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:#x}"))
}

#[expect(clippy::ref_option, reason = "signature given by serde")]
fn hex_option<S: serde::Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, to),
        None => to.serialize_none(),
    }
}
