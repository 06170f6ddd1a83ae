//! The guest's CPUID: what KVM supports, changed as `--cpu` says, then made each vCPU's own.
//!
//! Three steps, in this order: [`Profile::apply`] decides about features and identity once for the
//! machine, [`of_vcpu`] writes the leaves that differ from vCPU to vCPU, and
//! [`super::Vcpu::set_up`] hands them to KVM before any MSR is touched, for they decide which exist.

mod features;
mod identity;
mod model;
mod profile;
mod topology;
mod words;
mod xstate;

pub use features::{Feature, Kind, all as features};
pub use model::{MODELS, Model};
pub use profile::{MachineCpuid, ProfileRefused};
pub use topology::{Topology, of_vcpu};
pub use words::{BadProfile, Profile};
