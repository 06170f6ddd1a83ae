//! How the boot processor enters the guest.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

/// A flat descriptor table the loader wrote into guest memory, and the selectors in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// Where the GDT lies.
    pub gdt_base: u64,
    /// Its last byte.
    pub gdt_limit: u16,
    /// Selector of the code segment.
    pub code: u16,
    /// Selector of the data segments.
    pub data: u16,
    /// Selector of the task state segment.
    pub task: u16,
}

impl Segments {
    /// No table in memory: the guest loads its own before it loads a segment register, as multiboot
    /// says. The selectors are those GRUB and QEMU leave.
    pub const WITHOUT_TABLE: Self = Self {
        gdt_base: 0,
        gdt_limit: 0,
        code: 0x8,
        data: 0x10,
        task: 0x18,
    };
}

/// Registers a protocol prescribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flat {
    /// Long mode on identity page tables (Linux, Documentation/arch/x86/boot.rst, 64-bit protocol).
    Long {
        /// First instruction.
        rip: u64,
        /// boot_params.
        rsi: u64,
        /// Top-level page table.
        cr3: u64,
        /// Stack, for guests that want one.
        rsp: u64,
    },
    /// 32-bit protected mode without paging (Xen, docs/misc/pvh.pandoc; Multiboot 0.6.96, 3.2).
    Protected {
        /// First instruction.
        eip: u32,
        /// Multiboot's magic; PVH leaves it open.
        eax: u32,
        /// hvm_start_info, or the multiboot information.
        ebx: u32,
    },
    /// Real mode with data segments of zero: the segments of [`Entry`] do not count.
    Real {
        /// Code segment.
        cs: u16,
        /// First instruction.
        ip: u16,
        /// Stack.
        sp: u16,
    },
}

/// How the boot processor enters the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Mode and registers.
    pub flat: Flat,
    /// Segments.
    pub segments: Segments,
}

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Bit 1 of RFLAGS always reads as one (SDM 1, 3.4.3).
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Segment types (SDM 3A, 3.4.5.1 and 3.5).
const CODE_EXECUTE_READ_ACCESSED: u8 = 0xb;
const DATA_READ_WRITE_ACCESSED: u8 = 0x3;
const TSS_BUSY: u8 = 0xb;

impl Entry {
    /// The general registers.
    #[must_use]
    pub fn regs(&self) -> kvm_regs {
        let mut regs = kvm_regs {
            rflags: RFLAGS_RESERVED,
            ..Default::default()
        };
        match self.flat {
            Flat::Long { rip, rsi, rsp, .. } => {
                (regs.rip, regs.rsi, regs.rsp, regs.rbp) = (rip, rsi, rsp, rsp);
            }
            Flat::Protected { eip, eax, ebx } => {
                (regs.rip, regs.rax, regs.rbx) = (eip.into(), eax.into(), ebx.into());
            }
            Flat::Real { ip, sp, .. } => (regs.rip, regs.rsp) = (ip.into(), sp.into()),
        }
        regs
    }

    /// The system registers, on top of those after reset: the APIC base stays as it was.
    #[must_use]
    pub fn sregs(&self, after_reset: &kvm_sregs) -> kvm_sregs {
        let mut sregs = *after_reset;
        if let Flat::Real { cs, .. } = self.flat {
            // The rest is as INIT leaves it: zero bases, limits of 64 KiB, IDT at 0.
            (sregs.cs.selector, sregs.cs.base) = (cs, u64::from(cs) << 4);
            return sregs;
        }
        let long = matches!(self.flat, Flat::Long { .. });
        let s = &self.segments;
        let segment = |selector, type_, l, db, s| kvm_segment {
            base: 0,
            limit: 0xffff_ffff,
            selector,
            type_,
            present: 1,
            s,
            l,
            db,
            g: 1,
            ..Default::default()
        };
        let is = u8::from;
        sregs.cs = segment(s.code, CODE_EXECUTE_READ_ACCESSED, is(long), is(!long), 1);
        let data = segment(s.data, DATA_READ_WRITE_ACCESSED, 0, 1, 1);
        (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
        sregs.tr = segment(s.task, TSS_BUSY, 0, 0, 0);
        (sregs.tr.limit, sregs.tr.g) = (0x67, 0);
        (sregs.gdt.base, sregs.gdt.limit) = (s.gdt_base, s.gdt_limit);
        (sregs.idt.base, sregs.idt.limit) = (0, 0);
        match self.flat {
            Flat::Long { cr3, .. } => {
                sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
                sregs.cr3 = cr3;
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
            }
            Flat::Protected { .. } | Flat::Real { .. } => {
                sregs.cr0 = CR0_PE | CR0_ET;
                (sregs.cr3, sregs.cr4, sregs.efer) = (0, 0, 0);
            }
        }
        sregs
    }
}
