//! What KVM refused.

/// An ioctl that failed, named by what it was for.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// An ioctl of the VM.
    #[error("{what}: {ioctl} failed")]
    Vm {
        /// What Trapline was doing.
        what: &'static str,
        /// KVM's name of the call.
        ioctl: &'static str,
        /// errno.
        source: kvm_ioctls::Error,
    },
    /// An ioctl of one vCPU.
    #[error("vCPU {vcpu}: {what}: {ioctl} failed")]
    Vcpu {
        /// Which vCPU.
        vcpu: u8,
        /// What Trapline was doing.
        what: &'static str,
        /// KVM's name of the call.
        ioctl: &'static str,
        /// errno.
        source: kvm_ioctls::Error,
    },
    /// KVM_SET_MSRS or KVM_GET_MSRS stopped part way.
    #[error(
        "vCPU {vcpu}: KVM {} MSR {index:#x}{}; {done} of {of} were done",
        if *write { "refused to set" } else { "cannot read" },
        value.map(|v| format!(" to {v:#x}")).unwrap_or_default()
    )]
    ShortMsrs {
        /// Which vCPU.
        vcpu: u8,
        /// Set or get.
        write: bool,
        /// The MSR at which KVM stopped.
        index: u32,
        /// The value it refused.
        value: Option<u64>,
        /// How many were done before it.
        done: usize,
        /// How many were asked.
        of: usize,
    },
    /// A list longer than the kernel takes.
    #[error("vCPU {vcpu}: {what}: {count} entries are more than KVM takes")]
    TooMany {
        /// Which vCPU.
        vcpu: u8,
        /// What Trapline was doing.
        what: &'static str,
        /// How many there were.
        count: usize,
    },
    /// More vCPUs than can be.
    #[error("{asked} vCPUs are more than {limit}: {why}")]
    TooManyVcpus {
        /// How many were asked.
        asked: usize,
        /// How many can be.
        limit: usize,
        /// What the limit is.
        why: String,
    },
    /// A host address of guest RAM could not be found.
    #[error("guest memory at {0:#x} is not mapped")]
    Unmapped(u64),
}
