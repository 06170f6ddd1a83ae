//! How far KASLR moved the kernel: what the processor was told, against what the symbols say.

use crate::machine::walk::{Paging, Physical};

/// CONFIG_RANDOMIZE_BASE moves by multiples of CONFIG_PHYSICAL_ALIGN, at least 2 MiB
/// (MIN_KERNEL_ALIGN) ...
const ALIGN: u64 = 2 << 20;
/// ... within KERNEL_IMAGE_SIZE (arch/x86/include/asm/page_64_types.h).
const MOST: u64 = 1 << 30;
/// #PF's vector.
const PAGE_FAULT: u64 = 14;

/// Addresses that the kernel gave the processor.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence {
    /// MSR LSTAR, where `syscall` goes.
    pub lstar: Option<u64>,
    /// Where the IDT's gate 14 leads.
    pub page_fault: Option<u64>,
}

impl Evidence {
    /// From MSR LSTAR, and from the IDT as the guest's memory holds it.
    #[must_use]
    pub fn gather(
        lstar: Option<u64>,
        sregs: &kvm_bindings::kvm_sregs,
        physical: Physical<'_>,
    ) -> Self {
        let gate = sregs.idt.base.wrapping_add(PAGE_FAULT * 16);
        let mut bytes = [0; 16];
        let got = Paging::of(sregs).read(gate, &mut bytes, physical);
        let page_fault = (got == bytes.len()).then(|| handler(u128::from_le_bytes(bytes)));
        Self {
            lstar: lstar.filter(|at| *at != 0),
            page_fault: page_fault.flatten(),
        }
    }
}

/// The offset in a 64-bit gate (SDM 3A, figure 7-8): bits 15:0 of it in 15:0, 31:16 in 63:48, 63:32
/// in 95:64.
fn handler(gate: u128) -> Option<u64> {
    let present = gate >> 47 & 1 == 1;
    let part = |at: u32, mask: u64| u64::try_from(gate >> at & u128::from(mask)).unwrap_or(0);
    let offset = part(0, 0xffff) | part(48, 0xffff) << 16 | part(64, 0xffff_ffff) << 32;
    present.then_some(offset)
}

/// The slide that the evidence agrees on. `linked` gives a symbol's address as linked.
#[must_use]
pub fn slide(evidence: &Evidence, linked: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let exact = |observed: Option<u64>, names: &[&str]| {
        let observed = observed?;
        let moved = |name: &&str| {
            let by = observed.wrapping_sub(linked(name)?);
            (by < MOST && by.is_multiple_of(ALIGN)).then_some(by)
        };
        names.iter().find_map(moved)
    };
    // Early stubs lie 13 bytes apart in one array: which of them is of no matter.
    let early = || {
        let by = evidence
            .page_fault?
            .wrapping_sub(linked("early_idt_handler_array")?);
        (by < MOST && by % ALIGN < 32 * 16).then(|| by - by % ALIGN)
    };
    // 5.8 renamed the entry points.
    let by_fault = exact(evidence.page_fault, &["asm_exc_page_fault", "page_fault"]).or_else(early);
    let by_syscall = exact(evidence.lstar, &["entry_SYSCALL_64"]);
    match (by_fault, by_syscall) {
        (Some(a), Some(b)) if a != b => None,
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Debian's 6.1.0-56-amd64, /proc/kallsyms with nokaslr.
    fn debian(name: &str) -> Option<u64> {
        match name {
            "entry_SYSCALL_64" => Some(0xffff_ffff_81c0_0080),
            "asm_exc_page_fault" => Some(0xffff_ffff_81c0_0be0),
            "early_idt_handler_array" => Some(0xffff_ffff_8300_0000),
            _ => None,
        }
    }

    #[test]
    fn the_slide_is_what_the_evidence_agrees_on() {
        let by = 0x1a60_0000;
        let lstar = Some(0xffff_ffff_81c0_0080 + by);
        let page_fault = Some(0xffff_ffff_81c0_0be0 + by);
        let early = Some(0xffff_ffff_8300_0000 + by + 14 * 13);
        let table = [
            (Some(0xffff_ffff_81c0_0080), None, Some(0)),
            (lstar, page_fault, Some(by)),
            (lstar, None, Some(by)),
            (None, page_fault, Some(by)),
            (None, early, Some(by)),
            // Another kernel's symbols: not a multiple of 2 MiB, or too far.
            (Some(0xffff_ffff_81c0_1080), None, None),
            (Some(0x1000), Some(0x2000), None),
            (lstar, page_fault.map(|at| at + ALIGN), None),
            (None, None, None),
        ];
        for (lstar, page_fault, expected) in table {
            assert_eq!(slide(&Evidence { lstar, page_fault }, debian), expected);
        }
    }

    #[test]
    fn a_gate_is_read_as_the_manual_draws_it() {
        let gate = 0xffff_ffff_u128 << 64 | 0x81c0_8e00_0010_0be0;
        assert_eq!(handler(gate), Some(0xffff_ffff_81c0_0be0));
        assert_eq!(handler(gate & !(1 << 47)), None);
    }
}
