//! One row of the table, and the words rows are written with.

use super::class::{Access, Class, Forward, Vendor};
use super::cpuid::CpuidBit;

/// One MSR, or the first of a strided run of them.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Index.
    pub index: u32,
    /// The name its manual gives it.
    pub name: &'static str,
    /// Another name in wide use; empty when there is none.
    pub aka: &'static str,
    /// Who defines it.
    pub vendor: Vendor,
    /// Its kind.
    pub class: Class,
    /// Bits it has: a wider value does not fit.
    pub width: u8,
    /// What an access by the guest can do.
    pub access: Access,
    /// Bits that a write changes; the others keep their value.
    pub writable: u64,
    /// Bits that get a write #GP when set.
    pub reserved: u64,
    /// Bits that get a write #GP when they would change.
    pub fixed: u64,
    /// Bits that get a write #GP unless one of the CPUID bits listed with them is set.
    pub gated: &'static [(u64, CpuidBit)],
    /// A bit that, once set, gets every write #GP.
    pub lock: Option<u8>,
    /// Whether a non-canonical value gets #GP.
    pub canonical: bool,
    /// Whether it changes without being written.
    pub volatile: bool,
    /// It exists when one of these is set; always when there are none.
    pub cpuid: &'static [CpuidBit],
    /// Whether KVM asks `cpuid` only when the guest is at it, and lets the host pass.
    pub guarded: bool,
    /// The KVM capability it hangs on; empty when none.
    pub capability: &'static str,
    /// Whether the processor acts on the value, so that an answer from a table detaches the CPU from
    /// what the guest believes.
    pub effect: bool,
    /// Reading it for the guest.
    pub read: Forward,
    /// Writing it for the guest.
    pub write: Forward,
    /// When it is restored ([`super::rank`]).
    pub restore: u8,
    /// 0 harmless, 1 disturbs the guest's own CPU state, 2 names memory or arms a timer, 3 may end
    /// the guest or hold up the host.
    pub danger: u8,
}

impl Row {
    pub(super) const fn new(index: u32, name: &'static str, vendor: Vendor, class: Class) -> Self {
        let defaults = class.defaults();
        let row = Self {
            index,
            name,
            aka: "",
            vendor,
            class,
            width: 64,
            access: Access::ReadWrite,
            writable: u64::MAX,
            reserved: 0,
            fixed: 0,
            gated: &[],
            lock: None,
            canonical: false,
            volatile: defaults.volatile,
            cpuid: &[],
            guarded: defaults.guarded,
            capability: "",
            effect: defaults.effect,
            read: defaults.read,
            write: defaults.write,
            restore: defaults.restore,
            danger: defaults.danger,
        };
        match class {
            Class::Feature => row.ro(),
            Class::LegacyZero => row.drops(u64::MAX),
            _ => row,
        }
    }

    pub(super) const fn aka(mut self, name: &'static str) -> Self {
        self.aka = name;
        self
    }

    /// Exactly these bits can be written; others get #GP.
    pub(super) const fn bits(mut self, writable: u64) -> Self {
        self.writable = writable;
        self.reserved = !writable;
        self
    }

    /// Writes of these bits are dropped without a fault.
    pub(super) const fn drops(mut self, bits: u64) -> Self {
        self.writable &= !bits;
        self.reserved &= !bits;
        self
    }

    pub(super) const fn fixed(mut self, bits: u64) -> Self {
        self.fixed = bits;
        self
    }

    pub(super) const fn gated(mut self, bits: &'static [(u64, CpuidBit)]) -> Self {
        self.gated = bits;
        self
    }

    pub(super) const fn lock(mut self, bit: u8) -> Self {
        self.lock = Some(bit);
        self
    }

    pub(super) const fn width(mut self, width: u8) -> Self {
        self.width = width;
        if width < 64 {
            self.reserved |= u64::MAX << width;
            self.writable &= !(u64::MAX << width);
        }
        self
    }

    pub(super) const fn canonical(mut self) -> Self {
        self.canonical = true;
        self
    }

    pub(super) const fn ro(mut self) -> Self {
        self.access = Access::ReadOnly;
        self
    }

    pub(super) const fn rw(mut self) -> Self {
        self.access = Access::ReadWrite;
        self
    }

    pub(super) const fn wo(mut self) -> Self {
        self.access = Access::WriteOnly;
        self.restore = 0;
        self
    }

    pub(super) const fn host(mut self) -> Self {
        self.access = Access::HostOnly;
        self
    }

    pub(super) const fn moves(mut self) -> Self {
        self.volatile = true;
        self
    }

    pub(super) const fn still(mut self) -> Self {
        self.volatile = false;
        self
    }

    pub(super) const fn when(mut self, any: &'static [CpuidBit]) -> Self {
        self.cpuid = any;
        self
    }

    pub(super) const fn guarded(mut self) -> Self {
        self.guarded = true;
        self
    }

    pub(super) const fn cap(mut self, name: &'static str) -> Self {
        self.capability = name;
        self
    }

    pub(super) const fn effect(mut self) -> Self {
        self.effect = true;
        self
    }

    pub(super) const fn inert(mut self) -> Self {
        self.effect = false;
        self
    }

    pub(super) const fn forward(mut self, read: Forward, write: Forward) -> Self {
        self.read = read;
        self.write = write;
        self
    }

    pub(super) const fn restore(mut self, rank: u8) -> Self {
        self.restore = rank;
        self
    }

    pub(super) const fn danger(mut self, tier: u8) -> Self {
        self.danger = tier;
        self
    }

    /// The bits a value of this register may have.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        if self.width >= 64 {
            u64::MAX
        } else {
            !(u64::MAX << self.width)
        }
    }
}

/// Rows of one family: `index name vendor class` and what differs from the class's rule.
macro_rules! rows {
    ($($index:literal $name:ident $vendor:ident $class:ident
        $(. $word:ident ( $($value:tt)* ))* ;)*) => {
        pub(super) const ROWS: &[$crate::msr::names::Row] = &[$(
            $crate::msr::names::Row::new(
                $index,
                stringify!($name),
                $crate::msr::names::Vendor::$vendor,
                $crate::msr::names::Class::$class,
            )$(.$word($($value)*))*
        ),*];
    };
}
pub(super) use rows;
