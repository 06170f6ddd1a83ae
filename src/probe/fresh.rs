//! A vCPU that has run nothing, for the host's side of MSRs.

use kvm_bindings::kvm_msr_entry;

use crate::boot::{ImageError, LoadError};
use crate::bus::AttachError;
use crate::mem::{GuestRam, HugePages, MemError};
use crate::msr::filter::DoesNotFit;
use crate::vm::cpuid::Profile;
use crate::vm::{CpuidError, FleetError, OpenError, Vcpu, Vm, VmError, VmSpec, open};

/// What kept a probe from asking.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// /dev/kvm cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemError),
    /// KVM refused something.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The CPU that was asked for.
    #[error(transparent)]
    Cpuid(#[from] CpuidError),
    /// The threads.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The doorbell's place on the bus.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The payload's image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The payload's way into memory.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The policy is more than a filter holds.
    #[error(transparent)]
    Filter(#[from] DoesNotFit),
    /// The payload.
    #[error("the payload :msrops does not do its work: {0}")]
    Payload(String),
    /// A list of MSRs.
    #[error("cannot read the list of MSRs: {ioctl} failed")]
    List {
        /// KVM's name of the call.
        ioctl: &'static str,
        /// errno.
        source: kvm_ioctls::Error,
    },
}

/// The MSRs that this KVM says it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// KVM_GET_MSR_INDEX_LIST: what is to be saved of a vCPU.
    pub save: Vec<u32>,
    /// KVM_GET_MSR_FEATURE_INDEX_LIST.
    pub features: Vec<u32>,
}

impl Lists {
    /// Asks KVM.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn read() -> Result<Self, ProbeError> {
        let kvm = open()?;
        let list = |ioctl| move |source| ProbeError::List { ioctl, source };
        let save = kvm
            .get_msr_index_list()
            .map_err(list("KVM_GET_MSR_INDEX_LIST"))?;
        let features = kvm
            .get_msr_feature_index_list()
            .map_err(list("KVM_GET_MSR_FEATURE_INDEX_LIST"))?;
        let sorted = |list: &[u32]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            list
        };
        Ok(Self {
            save: sorted(save.as_slice()),
            features: sorted(features.as_slice()),
        })
    }
}

/// What KVM_GET_MSRS gave.
pub type Value = Option<u64>;

/// A VM with one vCPU that has run nothing.
#[derive(Debug)]
pub struct Fresh {
    vcpu: Vcpu,
    _vm: Vm,
    _ram: GuestRam,
}

impl Fresh {
    /// Makes it, with the CPUID that `trapline boot` gives.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn new(profile: &Profile) -> Result<Self, ProbeError> {
        let ram = GuestRam::new(2 << 20, HugePages::None)?;
        let spec = VmSpec {
            vcpus: 1,
            log_dirty: false,
        };
        let vm = Vm::new(open()?, &ram, spec)?;
        let mut vcpu = vm.vcpu(0)?;
        vcpu.set_up(&vm.cpuid(profile)?, 1)?;
        Ok(Self {
            vcpu,
            _vm: vm,
            _ram: ram,
        })
    }

    /// Reads an MSR as the host; none when KVM does not give it.
    ///
    /// # Errors
    /// [`ProbeError::Vm`].
    pub fn get(&self, index: u32) -> Result<Value, ProbeError> {
        Ok(self.vcpu.msr(index)?)
    }

    /// Writes MSRs as the host, in one call and in this order.
    ///
    /// # Errors
    /// [`ProbeError::Vm`] names the MSR at which KVM stopped.
    pub fn set(&self, entries: &[(u32, u64)]) -> Result<(), ProbeError> {
        let entries: Vec<_> = entries
            .iter()
            .map(|&(index, data)| kvm_msr_entry {
                index,
                data,
                ..Default::default()
            })
            .collect();
        Ok(self.vcpu.set_msrs(&entries)?)
    }
}
