//! The VM: memory slots, irqchip, timer, and the vCPUs made from it.
#![expect(
    unsafe_code,
    reason = "KVM_SET_USER_MEMORY_REGION takes host addresses"
)]

use std::sync::{Arc, OnceLock};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, KVM_PIT_SPEAKER_DUMMY, kvm_enable_cap,
    kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, MsrExitReason, VmFd};

use crate::mem::GuestRam;

use super::collected::Ring;
use super::cpuid::{MachineCpuid, Profile, ProfileRefused};
use super::error::VmError;
use super::irqchip::{self, KernelIrqchip};
use super::vcpu::Vcpu;

/// Three pages KVM needs for itself on Intel hosts without unrestricted guests, in the hole below the
/// local APIC (KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR).
const TSS_ADDRESS: u64 = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// The highest APIC id that xAPIC can address: 255 is the broadcast (SDM 3A, 11.4.6).
const XAPIC_CPUS: usize = 255;

/// What a VM is made with.
#[derive(Debug, Clone, Copy)]
pub struct VmSpec {
    /// vCPUs, from 1.
    pub vcpus: usize,
    /// Whether KVM logs the pages the guest writes.
    pub log_dirty: bool,
}

/// A machine's CPUID that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CpuidError {
    /// KVM did not say what it supports.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// This host cannot have the profile.
    #[error(transparent)]
    Profile(#[from] ProfileRefused),
}

/// A VM with its RAM, irqchip and timer in place.
#[derive(Debug)]
pub struct Vm {
    kvm: Kvm,
    fd: Arc<VmFd>,
    irqchip: Arc<KernelIrqchip>,
    vcpus: usize,
    sees_msrs: bool,
    /// Whether KVM collects any writes.
    collects: bool,
    ring: OnceLock<Arc<Ring>>,
}

impl Vm {
    /// Makes the VM.
    ///
    /// # Errors
    /// [`VmError`] naming the ioctl that failed, or the limit on vCPUs.
    pub fn new(kvm: Kvm, ram: &GuestRam, spec: VmSpec) -> Result<Self, VmError> {
        check_vcpus(&kvm, spec.vcpus)?;
        let vm = |what, ioctl| {
            move |source| VmError::Vm {
                what,
                ioctl,
                source,
            }
        };
        let fd = kvm
            .create_vm()
            .map_err(vm("making the VM", "KVM_CREATE_VM"))?;
        fd.set_identity_map_address(IDENTITY_MAP_ADDRESS)
            .map_err(vm("placing the identity map", "KVM_SET_IDENTITY_MAP_ADDR"))?;
        let tss = usize::try_from(TSS_ADDRESS).unwrap_or(usize::MAX);
        fd.set_tss_address(tss)
            .map_err(vm("placing the TSS", "KVM_SET_TSS_ADDR"))?;
        fd.create_irq_chip()
            .map_err(vm("making the irqchip", "KVM_CREATE_IRQCHIP"))?;
        irqchip::wire(&fd).map_err(vm("wiring the irqchip", "KVM_SET_GSI_ROUTING"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        fd.create_pit2(pit)
            .map_err(vm("making the PIT", "KVM_CREATE_PIT2"))?;
        for (slot, region) in (0..).zip(ram.regions()) {
            let userspace_addr = ram
                .host_address(region)
                .ok_or(VmError::Unmapped(region.base))?;
            let flags = if spec.log_dirty {
                KVM_MEM_LOG_DIRTY_PAGES
            } else {
                0
            };
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: region.base,
                memory_size: region.len,
                userspace_addr,
            };
            // SAFETY: the range is one whole mapping of `ram`, which the machine keeps for as long
            // as the VM; the guest may do with it what it likes, as all of it is guest RAM.
            unsafe { fd.set_user_memory_region(region) }
                .map_err(vm("adding guest memory", "KVM_SET_USER_MEMORY_REGION"))?;
        }
        let sees_msrs = fd.check_extension(Cap::X86UserSpaceMsr);
        if sees_msrs {
            let reasons = MsrExitReason::Unknown | MsrExitReason::Inval | MsrExitReason::Filter;
            let mut cap = kvm_enable_cap {
                cap: Cap::X86UserSpaceMsr as u32,
                ..Default::default()
            };
            cap.args = [u64::from(reasons.bits()), 0, 0, 0];
            fd.enable_cap(&cap)
                .map_err(vm("asking for MSR exits", "KVM_CAP_X86_USER_SPACE_MSR"))?;
        }
        let fd = Arc::new(fd);
        let irqchip = Arc::new(KernelIrqchip::new(Arc::clone(&fd)));
        Ok(Self {
            kvm,
            fd,
            irqchip,
            vcpus: spec.vcpus,
            sees_msrs,
            collects: false,
            ring: OnceLock::new(),
        })
    }

    /// From now on KVM collects writes to the `len` ports from `port` where it can; see [`Ring`]. To be
    /// called before there are vCPUs.
    ///
    /// # Errors
    /// [`VmError::Vm`].
    pub fn collect_writes(&mut self, port: u16, len: u32) -> Result<(), VmError> {
        if !self.fd.check_extension(Cap::CoalescedPio) {
            return Ok(());
        }
        let zone = IoEventAddress::Pio(port.into());
        let registered = self.fd.register_coalesced_mmio(zone, len);
        registered.map_err(|source| VmError::Vm {
            what: "having port writes collected",
            ioctl: "KVM_REGISTER_COALESCED_MMIO",
            source,
        })?;
        self.collects = true;
        Ok(())
    }

    /// The ring of collected writes, when there is one; it comes with the first vCPU.
    #[must_use]
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        self.ring.get()
    }

    /// The VM's descriptor, for what a room above needs of it.
    #[must_use]
    pub const fn fd(&self) -> &Arc<VmFd> {
        &self.fd
    }

    /// The interrupt chips.
    #[must_use]
    pub const fn irqchip(&self) -> &Arc<KernelIrqchip> {
        &self.irqchip
    }

    /// How many vCPUs it was made for.
    #[must_use]
    pub const fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// Whether unknown and refused MSR accesses come out to user space.
    #[must_use]
    pub const fn sees_msrs(&self) -> bool {
        self.sees_msrs
    }

    /// The machine's CPUID under a profile, before it is made a vCPU's own.
    ///
    /// # Errors
    /// [`CpuidError`].
    pub fn cpuid(&self, profile: &Profile) -> Result<MachineCpuid, CpuidError> {
        // Only for the words of a refusal: what is not readable is taken for not there.
        let flags = || std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = if profile.is_host() {
            String::new()
        } else {
            flags()
        };
        let supported = self.supported_cpuid()?;
        Ok(profile.apply(&supported, self.has_tsc_deadline(), &processor)?)
    }

    /// CPUID as this KVM can give it.
    ///
    /// # Errors
    /// [`VmError::Vm`].
    pub fn supported_cpuid(&self) -> Result<CpuId, VmError> {
        self.kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|source| VmError::Vm {
                what: "reading what CPUID can be",
                ioctl: "KVM_GET_SUPPORTED_CPUID",
                source,
            })
    }

    /// Whether the in-kernel APIC has a TSC deadline timer.
    #[must_use]
    pub fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }

    /// Makes vCPU `id`, with APIC id `id`.
    ///
    /// # Errors
    /// [`VmError::Vcpu`].
    pub fn vcpu(&self, id: u8) -> Result<Vcpu, VmError> {
        let fd = self
            .fd
            .create_vcpu(u64::from(id))
            .map_err(|source| VmError::Vcpu {
                vcpu: id,
                what: "making it",
                ioctl: "KVM_CREATE_VCPU",
                source,
            })?;
        if self.collects && self.ring.get().is_none() {
            let ring = Ring::of(&fd).map_err(|errno| VmError::Vcpu {
                vcpu: id,
                what: "mapping the ring of collected writes",
                ioctl: "mmap",
                source: kvm_ioctls::Error::new(errno.raw_os_error()),
            })?;
            // Whoever came first has the same page.
            let _ = self.ring.set(Arc::new(ring));
        }
        Ok(Vcpu::new(id, fd, self.ring().cloned()))
    }
}

fn check_vcpus(kvm: &Kvm, asked: usize) -> Result<(), VmError> {
    let too_many = |limit, why: String| Err(VmError::TooManyVcpus { asked, limit, why });
    if asked == 0 {
        return too_many(0, "a machine has at least one vCPU".into());
    }
    if asked > XAPIC_CPUS {
        return too_many(
            XAPIC_CPUS,
            "APIC ids end at 254 without x2APIC ids and interrupt remapping, which this board \
             does not have"
                .into(),
        );
    }
    let limit = kvm.get_max_vcpus();
    if asked > limit {
        return too_many(
            limit,
            "what this host's KVM takes (KVM_CAP_MAX_VCPUS)".into(),
        );
    }
    Ok(())
}
