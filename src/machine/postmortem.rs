//! What a vCPU was doing when the run ended badly: registers, code, stack, page walks, last exits.
//!
//! Built from plain values and a reader of guest physical memory; everything read is the guest's
//! and may be nonsense.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod code;
mod names;
mod render;
mod slide;
mod stack;

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use serde::Serialize;

use super::hex::Hex;
use super::walk::{CR0_PE, EFER_LMA, Paging, Physical, Walk};

pub use code::CodeLine;
pub use names::{Names, Symbol};
pub use slide::{Evidence, slide};
pub use stack::{Frame, StackWord};

/// One vCPU as KVM shows it.
#[derive(Debug, Clone)]
pub struct VcpuPicture {
    /// Which.
    pub vcpu: u8,
    /// KVM_GET_REGS.
    pub regs: kvm_regs,
    /// KVM_GET_SREGS.
    pub sregs: kvm_sregs,
    /// Its last exits, oldest first.
    pub last_exits: Vec<String>,
}

/// A post-mortem.
#[derive(Debug, Clone, Serialize)]
pub struct PostMortem {
    /// How far KASLR moved the kernel, when symbols told.
    pub kaslr_slide: Option<Hex>,
    /// The vCPU that ended the run first.
    pub vcpus: Vec<VcpuFindings>,
    /// The console's last lines, oldest first.
    pub console: Vec<String>,
}

/// One vCPU of a post-mortem.
#[derive(Debug, Clone, Serialize)]
pub struct VcpuFindings {
    /// Which.
    pub vcpu: u8,
    /// 16, 32 or 64: how its code segment has instructions decoded.
    pub bits: u32,
    /// Current privilege level.
    pub cpl: u8,
    /// General registers, RIP and RFLAGS.
    pub registers: Vec<(&'static str, Hex)>,
    /// Control registers, EFER and the local APIC's base.
    pub control: Vec<(&'static str, Hex)>,
    /// Segments.
    pub segments: Vec<SegmentReport>,
    /// GDT and IDT.
    pub tables: Vec<(&'static str, Hex, u16)>,
    /// RIP's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Instructions around RIP.
    pub code: Vec<CodeLine>,
    /// Words from RSP on.
    pub stack: Vec<StackWord>,
    /// Who called, as far as the stack tells.
    pub backtrace: Vec<Frame>,
    /// Where RIP and CR2 lead.
    pub walks: Vec<(&'static str, Walk)>,
    /// The last exits, oldest first.
    pub last_exits: Vec<String>,
    /// What to keep in mind when reading this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
}

/// A segment register with its hidden part.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct SegmentReport {
    /// Its name.
    pub name: &'static str,
    /// Its visible part.
    pub selector: u16,
    /// Where it begins.
    pub base: Hex,
    /// Its last offset.
    pub limit: u32,
    /// Present, and of this type (SDM 3A, 3.4.5).
    pub kind: u8,
}

impl PostMortem {
    /// Looks at the vCPUs, the one that ended the run first, through a reader of guest physical
    /// memory.
    #[must_use]
    pub fn of(
        vcpus: &[VcpuPicture],
        console: Vec<String>,
        physical: Physical<'_>,
        names: &Names<'_>,
    ) -> Self {
        Self {
            kaslr_slide: names.slide().map(Hex),
            vcpus: vcpus
                .iter()
                .map(|picture| VcpuFindings::of(picture, physical, names))
                .collect(),
            console,
        }
    }
}

/// How the code segment has instructions decoded.
const fn bits(sregs: &kvm_sregs) -> u32 {
    if sregs.efer & EFER_LMA != 0 && sregs.cs.l != 0 {
        64
    } else if sregs.cs.db != 0 {
        32
    } else {
        16
    }
}

/// A segment's base; in 64-bit mode there is none but FS and GS.
const fn base(segment: &kvm_segment, bits: u32) -> u64 {
    if bits == 64 { 0 } else { segment.base }
}

/// SVM's VMCB is undefined after a shutdown, so KVM resets the vCPU (`shutdown_interception`, since
/// 5.19).
fn note(picture: &VcpuPicture) -> Option<&'static str> {
    let after_init = picture.sregs.cr0 & CR0_PE == 0 && picture.regs.rip == 0xfff0;
    after_init.then_some(
        "these are the registers after INIT: this processor (SVM) keeps none at a triple fault; \
         the last exits and the console say more",
    )
}

impl VcpuFindings {
    fn of(picture: &VcpuPicture, physical: Physical<'_>, names: &Names<'_>) -> Self {
        let (r, s) = (&picture.regs, &picture.sregs);
        let bits = bits(s);
        let paging = Paging::of(s);
        let read = |at: u64, bytes: &mut [u8]| paging.read(at, bytes, physical);
        let rip = base(&s.cs, bits).wrapping_add(r.rip);
        let stack = stack::Stack::of(r, base(&s.ss, bits), bits, &read);
        let mut walks = vec![("rip", paging.walk(rip, physical))];
        if s.cr2 != 0 {
            walks.push(("cr2", paging.walk(s.cr2, physical)));
        }
        Self {
            vcpu: picture.vcpu,
            bits,
            // SS.DPL is the CPL, in every mode (SDM 3A, 5.5; KVM does the same).
            cpl: s.ss.dpl,
            registers: registers(r),
            control: control(s),
            segments: segments(s),
            tables: vec![table("gdt", &s.gdt), table("idt", &s.idt)],
            symbol: names.of(rip),
            code: code::around(rip, bits, &read, names),
            backtrace: stack.backtrace(rip, names),
            stack: stack.words(names),
            walks,
            last_exits: picture.last_exits.clone(),
            note: note(picture),
        }
    }
}

fn registers(r: &kvm_regs) -> Vec<(&'static str, Hex)> {
    [
        ("rip", r.rip),
        ("rflags", r.rflags),
        ("rax", r.rax),
        ("rbx", r.rbx),
        ("rcx", r.rcx),
        ("rdx", r.rdx),
        ("rsi", r.rsi),
        ("rdi", r.rdi),
        ("rbp", r.rbp),
        ("rsp", r.rsp),
        ("r8", r.r8),
        ("r9", r.r9),
        ("r10", r.r10),
        ("r11", r.r11),
        ("r12", r.r12),
        ("r13", r.r13),
        ("r14", r.r14),
        ("r15", r.r15),
    ]
    .map(|(name, value)| (name, Hex(value)))
    .into()
}

fn control(s: &kvm_sregs) -> Vec<(&'static str, Hex)> {
    [
        ("cr0", s.cr0),
        ("cr2", s.cr2),
        ("cr3", s.cr3),
        ("cr4", s.cr4),
        ("cr8", s.cr8),
        ("efer", s.efer),
        ("apic_base", s.apic_base),
    ]
    .map(|(name, value)| (name, Hex(value)))
    .into()
}

fn segments(s: &kvm_sregs) -> Vec<SegmentReport> {
    [
        ("cs", &s.cs),
        ("ss", &s.ss),
        ("ds", &s.ds),
        ("es", &s.es),
        ("fs", &s.fs),
        ("gs", &s.gs),
        ("tr", &s.tr),
        ("ldt", &s.ldt),
    ]
    .into_iter()
    .map(|(name, segment)| SegmentReport {
        name,
        selector: segment.selector,
        base: Hex(segment.base),
        limit: segment.limit,
        kind: segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7,
    })
    .collect()
}

fn table(name: &'static str, table: &kvm_dtable) -> (&'static str, Hex, u16) {
    (name, Hex(table.base), table.limit)
}

#[cfg(test)]
#[path = "postmortem/tests.rs"]
mod tests;
