//! The board put together: memory, devices, vCPUs, and the guest loaded into them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::boot::acpi::{self, AcpiError, Pci, Platform, Uart};
use crate::boot::{
    Kind, LoadError, LoadRequest, Places, Start, load, write_flat_tables, write_long_mode_tables,
};
use crate::bus::{BusPort, Clock, EffectSink, HostClock, Lines, Ns, ResetKind};
use crate::chipset::{
    ConsoleOut, FW_CFG_PORTS, FwCfgBlob, FwCfgFacts, HostInput, Parcels, PostTrail, SLP_TYP_S5,
};
use crate::devices::virtio::BalloonHandle;
use crate::mem::{GuestRam, MemError};
use crate::msr::policy::Policy;
use crate::msr::{Engine, MsrHandler, MsrListener};
use crate::pci::FunctionUse;
use crate::trace::Probe;
use crate::vm::cpuid::MachineCpuid;
use crate::vm::{
    CpuidError, Entry, Flat, Fleet, FleetError, OpenError, Segments, Vcpu, VcpuNotice, VcpuState,
    Vm, VmError, VmSpec, VmState,
};

use super::deadline::DeadlineTimer;
use super::devices::{Ends, FitError, facts, fit_out};
use super::disk::Tell;
use super::firmware;
use super::layout;
use super::msr_trace::Recorder;
use super::msrs::{self, MsrSetupError};
use super::spec::Spec;

/// A board that could not be built, or a guest that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
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
    /// The devices.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// The ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// The MSR policy.
    #[error(transparent)]
    Msrs(#[from] MsrSetupError),
    /// No descriptor for what fw_cfg shows.
    #[error("cannot share the kernel and the initrd with fw_cfg")]
    Share {
        /// Why.
        source: io::Error,
    },
    /// The kernel, its command line or its initramfs does not fit.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The ends a board is plugged into.
pub struct Plugs {
    /// Takes what the guest prints.
    pub console: Box<dyn ConsoleOut>,
    /// Takes the results the guest sends.
    pub parcels: Box<dyn Parcels>,
    /// Takes effects.
    pub sink: Arc<dyn EffectSink>,
    /// Guest time, and the timer on it behind every device's deadline.
    pub clock: Arc<HostClock>,
    /// See `clock`.
    pub deadlines: Arc<DeadlineTimer>,
    /// Hears of vCPUs that end.
    pub notice: Arc<dyn VcpuNotice>,
    /// Hears what the MSR policy has to say.
    pub listener: Arc<dyn MsrListener>,
    /// Takes what the user is to hear of disks and of DMA.
    pub tell: Tell,
    /// Hears every MSR access and its answer.
    pub recorder: Option<Arc<Recorder>>,
    /// Whether each access is to be an exit of its own: somebody records them.
    pub every_exit: bool,
}

/// A machine, loaded, with its vCPUs paused before the first instruction.
#[derive(Debug)]
pub struct Board {
    spec: Spec,
    ram: GuestRam,
    vm: Vm,
    fleet: Fleet,
    port: BusPort,
    clock: Arc<HostClock>,
    input: HostInput,
    piped: HostInput,
    msrs: Arc<Engine>,
    functions: Vec<FunctionUse>,
    post_codes: Option<PostTrail>,
    balloon: Option<BalloonHandle>,
    entry: Entry,
    /// vCPUs and chips as they were before anything ran: what a reset goes back to.
    fresh: (Vec<VcpuState>, VmState),
}

impl Board {
    /// Builds it. `fleet` was made for as many vCPUs as `spec` asks for.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn build(
        spec: Spec,
        fleet: Fleet,
        plugs: Plugs,
        probe: impl Fn(u8) -> Probe,
    ) -> Result<Self, BoardError> {
        let kvm = crate::vm::open()?;
        let ram = allocate(&spec)?;
        let mut vm = Vm::new(
            kvm,
            &ram,
            VmSpec {
                vcpus: spec.cpus,
                log_dirty: false,
            },
        )?;
        if !plugs.every_exit {
            // Linux fills the FIFO without looking: most exits of a boot were single characters.
            vm.collect_writes(layout::SERIAL, 1)?;
            for (port, len) in layout::IDE_WRITES {
                vm.collect_writes(port, len)?;
            }
        }
        let cpuid = vm.cpuid(&spec.equipment.cpu)?;
        let clock = plugs.clock;
        let lines = Lines::new(Arc::clone(vm.irqchip()) as _);
        let (input, piped) = (HostInput::default(), HostInput::default());
        let ends = Ends {
            console: plugs.console,
            parcels: plugs.parcels,
            input: input.clone(),
            piped: piped.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            messages: Arc::clone(vm.irqchip()) as _,
            tell: plugs.tell,
            phys_bits: cpuid.phys_bits(),
            lines,
        };
        let cpus = u16::try_from(spec.cpus).unwrap_or(u16::MAX);
        let mut facts = facts(cpus, &ram);
        tell_of_guest(&mut facts, &spec)?;
        let mut devices = fit_out(&spec.equipment, &facts, &ram, ends)?;
        let deadlines = Arc::clone(&plugs.deadlines);
        devices.bus.on_deadline(move |at| deadlines.arm(at));
        let port = BusPort {
            bus: Arc::new(devices.bus),
            sink: plugs.sink,
        };
        firmware::set_up(&port);
        let vcpus = make_vcpus(&vm, &cpuid)?;
        let states = vcpus.iter().map(Vcpu::save).collect::<Result<_, _>>()?;
        let msrs = Arc::new(msrs::engine(&vm, &spec, &clock, plugs.listener)?);
        let fresh = (states, VmState::save(vm.fd(), &msrs)?);
        let entry = load_guest(&spec, &ram)?;
        if let Some(first) = vcpus.first() {
            first.enter_at(&entry)?;
        }
        let handler: Arc<dyn MsrHandler> = match plugs.recorder {
            Some(recorder) => Arc::new(recorder.around(Arc::clone(&msrs), ram.clone())),
            None => Arc::clone(&msrs) as _,
        };
        fleet.start(vcpus, &port, &handler, &plugs.notice, probe)?;
        Ok(Self {
            entry,
            spec,
            ram,
            vm,
            fleet,
            port,
            clock,
            input,
            piped,
            msrs,
            functions: devices.functions,
            post_codes: devices.post_codes,
            balloon: devices.balloon,
            fresh,
        })
    }

    /// Starts the machine again, as its reset button does: with all vCPUs paused, memory cleared,
    /// every device and chip fresh, and the guest loaded anew.
    ///
    /// # Errors
    /// [`BoardError`]; the machine must not go on.
    pub fn reset(&self) -> Result<(), BoardError> {
        self.fleet.pause()?;
        self.port.bus.reset(ResetKind::Cold);
        // Power stays on: registers of the processor that survive a reset do.
        self.msrs.reset(ResetKind::Warm);
        firmware::set_up(&self.port);
        self.ram.clear()?;
        self.fresh.1.restore_chips(self.vm.fd())?;
        let entry = load_guest(&self.spec, &self.ram)?;
        for (id, state) in (0..=u8::MAX).zip(&self.fresh.0) {
            let state = state.clone();
            self.fleet.ask(id, move |vcpu| {
                vcpu.restore(&state)?;
                if vcpu.id() == 0 {
                    vcpu.enter_at(&entry)
                } else {
                    Ok(())
                }
            })??;
        }
        Ok(())
    }

    /// Sees to it that what KVM has collected reaches its device soon, though the guest goes on without
    /// an exit.
    pub fn hasten_writes(&self) {
        if self.vm.ring().is_some_and(|ring| !ring.is_empty()) {
            self.fleet.nudge(0);
        }
    }

    /// Lets the guest run.
    pub fn resume(&self) {
        self.port.bus.unpark();
        self.clock.start();
        self.fleet.resume();
    }

    /// Stops the guest at an instruction boundary, its time, and its devices' work.
    ///
    /// # Errors
    /// [`FleetError::Slow`].
    pub fn pause(&self) -> Result<(), FleetError> {
        self.fleet.pause()?;
        self.clock.stop();
        self.port.bus.park();
        Ok(())
    }

    /// The vCPUs.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The bus and its sink.
    #[must_use]
    pub const fn port(&self) -> &BusPort {
        &self.port
    }

    /// Guest RAM.
    #[must_use]
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Guest time.
    #[must_use]
    pub const fn clock(&self) -> &Arc<HostClock> {
        &self.clock
    }

    /// The way to the guest's serial port.
    #[must_use]
    pub const fn input(&self) -> &HostInput {
        &self.input
    }

    /// The way to the command that the built-in init runs.
    #[must_use]
    pub const fn piped(&self) -> &HostInput {
        &self.piped
    }

    /// The protocol the guest was entered by.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        match self.entry.flat {
            Flat::Long { .. } if self.spec.kernel.kind() == Kind::Flat => "flat64",
            Flat::Long { .. } => "linux",
            Flat::Protected { .. } if self.spec.kernel.kind() == Kind::Multiboot => "multiboot",
            Flat::Protected { .. } => "pvh",
            Flat::Real { .. } => "flat16",
        }
    }

    /// POST codes, when they are kept: in order, and how many more there were.
    #[must_use]
    pub fn post_codes(&self) -> Option<(Vec<(Ns, u8)>, u64)> {
        self.post_codes.as_ref().map(PostTrail::codes)
    }

    /// The host's end of the balloon, when there is one.
    #[must_use]
    pub const fn balloon(&self) -> Option<&BalloonHandle> {
        self.balloon.as_ref()
    }

    /// Its PCI functions, in the order of their addresses.
    #[must_use]
    pub fn functions(&self) -> &[FunctionUse] {
        &self.functions
    }

    /// What it was built from.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Who answers MSR accesses.
    #[must_use]
    pub const fn msrs(&self) -> &Arc<Engine> {
        &self.msrs
    }

    /// Changes the MSR policy, with all vCPUs paused; gives what is to be said of it.
    ///
    /// # Errors
    /// [`MsrSetupError`]; the old policy stays.
    pub fn set_msr_policy(&self, policy: Policy) -> Result<Vec<String>, MsrSetupError> {
        msrs::change(&self.vm, &self.msrs, policy)
    }
}

fn allocate(spec: &Spec) -> Result<GuestRam, MemError> {
    // Huge pages come from a pool of their own, which the memfd itself is measured against.
    if spec.huge_pages == crate::mem::HugePages::None
        && let Some(available) = crate::mem::available()
        && spec.memory > available
    {
        return Err(MemError::TooMuch {
            size: spec.memory,
            available,
        });
    }
    GuestRam::new(spec.memory, spec.huge_pages)
}

/// fw_cfg says what is booted, as QEMU's does for the firmware that would boot it.
fn tell_of_guest(facts: &mut FwCfgFacts, spec: &Spec) -> Result<(), BoardError> {
    let blob = |shared: io::Result<(File, u64)>| {
        let (file, len) = shared.map_err(|source| BoardError::Share { source })?;
        Ok::<_, BoardError>(FwCfgBlob::new(file, len))
    };
    facts.cmdline.clone_from(&spec.cmdline);
    facts.kernel = Some(blob(spec.kernel.share())?);
    // What a multiboot guest is given first is its initrd, as QEMU has it.
    let first = spec.initrd.as_ref();
    let first = first.or_else(|| spec.modules.first().map(|module| &module.file));
    facts.initrd = first.map(|initrd| blob(initrd.share())).transpose()?;
    Ok(())
}

fn make_vcpus(vm: &Vm, cpuid: &MachineCpuid) -> Result<Vec<Vcpu>, BoardError> {
    // Vm::new has refused more than 255.
    let cpus = u8::try_from(vm.vcpus()).unwrap_or(u8::MAX);
    let mut vcpus = Vec::with_capacity(vm.vcpus());
    for apic_id in 0..cpus {
        let mut vcpu = vm.vcpu(apic_id)?;
        vcpu.set_up(cpuid, cpus)?;
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}

/// The board as ACPI describes it.
fn platform(cpus: u32) -> Platform {
    Platform {
        apic_ids: (0..cpus).collect(),
        pm1a_evt: layout::PM_BASE,
        pm1a_cnt: layout::PM_BASE + 4,
        pm_tmr: layout::PM_BASE + 8,
        s5_slp_typ: SLP_TYP_S5,
        sci_gsi: layout::GSI_SCI,
        reset_port: layout::RESET_CONTROL,
        reset_value: layout::RESET_VALUE,
        ioapic: layout::IOAPIC,
        lapic: layout::LAPIC,
        uarts: vec![Uart {
            port: layout::SERIAL,
            gsi: layout::GSI_SERIAL,
        }],
        pvpanic: Some(layout::PVPANIC),
        fw_cfg: Some((layout::FW_CFG, FW_CFG_PORTS)),
        pci: Pci {
            memory: layout::PCI_MEMORY,
            memory_64: Some(layout::PCI_MEMORY_64),
            pirq_choices: layout::PIRQ_CHOICES.to_vec(),
        },
    }
}

/// The same five fields of either set of tables.
macro_rules! segments {
    ($tables:expr) => {
        Segments {
            gdt_base: $tables.gdt_base,
            gdt_limit: $tables.gdt_limit,
            code: $tables.cs,
            data: $tables.ds,
            task: $tables.tr,
        }
    };
}

fn load_guest(spec: &Spec, ram: &GuestRam) -> Result<Entry, BoardError> {
    let cpus = u32::try_from(spec.cpus).unwrap_or(u32::MAX);
    let rsdp = acpi::write(ram, layout::ACPI_TABLES, &platform(cpus))?;
    let places = Places::default();
    let request = LoadRequest {
        protocol: spec.protocol,
        cmdline: &spec.cmdline,
        initrd: spec.initrd.as_ref(),
        modules: &spec.modules,
        rsdp: Some(rsdp),
        reserved: &[],
        places,
    };
    match load(ram, &spec.kernel, &request)? {
        Start::Long64 { rip, rsi } => {
            let tables = write_long_mode_tables(ram, &places)?;
            let flat = Flat::Long {
                rip,
                rsi,
                cr3: tables.cr3,
                rsp: layout::PAYLOAD_STACK,
            };
            Ok(Entry {
                flat,
                segments: segments!(tables),
            })
        }
        Start::Protected32 { eip, ebx } => {
            let tables = write_flat_tables(ram, &places)?;
            Ok(Entry {
                flat: Flat::Protected { eip, eax: 0, ebx },
                segments: segments!(tables),
            })
        }
        Start::Multiboot { eip, eax, ebx } => Ok(Entry {
            flat: Flat::Protected { eip, eax, ebx },
            segments: Segments::WITHOUT_TABLE,
        }),
        Start::Real16 { cs, ip, sp } => Ok(Entry {
            flat: Flat::Real { cs, ip, sp },
            segments: Segments::WITHOUT_TABLE,
        }),
    }
}
