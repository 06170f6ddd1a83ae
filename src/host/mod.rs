//! What this machine can do, as plain data: each fact with its reason and the command that mends it.
//!
//! Everything is read below a [`Root`], so that tests can make up a machine. Nothing here changes
//! the machine or installs anything.

mod fact;
#[cfg(test)]
pub(crate) mod fake;
mod iommu;
mod kvm;
mod root;
mod system;
mod tools;

pub use fact::{Fact, Mark, Topic};
pub use iommu::iommu;
pub use kvm::{Engine, KvmDevice, capabilities, kvm, linux_guests};
pub use root::Root;
pub use system::system;
pub use tools::{Qemu, QemuError, busybox, qemu};
