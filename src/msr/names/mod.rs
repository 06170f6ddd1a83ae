//! What is known of each MSR: a table of this project's own, written from the vendors' manuals and KVM's
//! uapi. Rows are sorted and unique by a compile-time check; registers that come in numbers are strides.

mod amd;
mod amd_pmu;
mod arch;
mod banks;
mod class;
mod cpuid;
mod debug;
mod hyperv;
mod kvm;
mod lookup;
mod mce;
mod mtrr;
mod platform;
mod pmu;
mod power;
mod row;
mod svm;
mod table;
mod vmx;
mod x2apic;

pub use class::{Access, Class, Forward, Vendor, rank};
pub use cpuid::{CpuidBit, Reg};
pub use lookup::{Msr, Name, UnknownBank, UnknownMsr, all, bank, banks, by_name, nearest_bank, of};
pub use row::Row;
