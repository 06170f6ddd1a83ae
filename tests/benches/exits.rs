//! What an exit costs through Trapline, beside a bare KVM_RUN loop that does the same exits on the
//! same KVM; and the user-space half alone. Ratios of one run: absolute times belong to the machine.
//!
//! `cargo bench --bench exits` prints criterion's figures and then the table of design section 7.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use kvm_ioctls::{VcpuExit, VcpuFd};

use trapline::bus::{
    Access, Answer, Bus, BusPort, Device, Effect, EffectSink, Effects, HostClock, ResetKind,
    StateError, Width, Window,
};
use trapline::mem::{Gpa, GuestRam, HugePages};
use trapline::msr::names::CpuidBit;
use trapline::msr::policy::Policy;
use trapline::msr::{Cpu, Engine, MsrAccess, MsrHandler, MsrListener, Op, Reason};
use trapline::trace::{Direction, Event, Probe, Space};
use trapline::vm::{Step, Vcpu, Vm, VmSpec, open};

const CODE: u64 = 0x1000;
/// In the hole: no RAM there.
const MMIO: u64 = 0xd000_0000;

struct Register(u64);

impl Device for Register {
    fn label(&self) -> &'static str {
        "register"
    }
    fn windows(&self) -> Vec<Window> {
        vec![
            Window {
                id: 0,
                name: "ports",
                space: Space::Pio,
                base: Some(0x100),
                len: 8,
            },
            Window {
                id: 1,
                name: "memory",
                space: Space::Mmio,
                base: Some(MMIO),
                len: 0x1000,
            },
        ]
    }
    fn read(&mut self, at: Access, _: &mut Effects) -> Answer<u64> {
        self.0 = self.0.wrapping_add(at.offset);
        Ok(self.0)
    }
    fn write(&mut self, _: Access, value: u64, _: &mut Effects) -> Answer<()> {
        self.0 = value;
        Ok(())
    }
    fn reset(&mut self, _: ResetKind) {}
    fn save(&self) -> serde_json::Value {
        self.0.into()
    }
    fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
        Ok(())
    }
}

struct Ignore;

impl EffectSink for Ignore {
    fn apply(&self, _: Effect) {}
}

/// Answers as a policy with one emulated MSR does.
fn engine() -> Engine {
    struct Deaf;
    impl MsrListener for Deaf {
        fn line(&self, _: String) {}
    }
    let text = "[[rule]]\nmsr = '0-0xffffffff'\ndo = 'emulate'\nread-only = true\nvalue = 16\n";
    let policy = Policy::parse(&[("bench".into(), text.into())]).unwrap();
    let clock = Arc::new(HostClock::new());
    Engine::new(policy, None, 1, clock, Arc::new(Deaf))
}

/// A policy of as many ranges, and where each of them begins and ends.
fn ten_thousand_rules() -> (Policy, Vec<u32>) {
    let (mut text, mut starts) = (String::new(), Vec::new());
    for n in 0..10_000_u32 {
        let (first, last) = (n * 400_000, n * 400_000 + 200_000);
        text += &format!("[[rule]]\nmsr = '{first}-{last}'\ndo = 'deny'\n");
        starts.extend([first, last + 1]);
    }
    (Policy::parse(&[("bench".into(), text)]).unwrap(), starts)
}

/// A vCPU that no answer of this bench asks anything.
struct Nobody;

impl Cpu for Nobody {
    fn rip(&mut self) -> Option<u64> {
        None
    }
    fn get(&mut self, _: u32) -> Option<u64> {
        None
    }
    fn set(&mut self, _: u32, _: u64) -> bool {
        false
    }
    fn cpuid(&self, _: &CpuidBit) -> bool {
        false
    }
    fn control(&mut self) -> (u64, u64) {
        (0, 0)
    }
}

/// A bus as full as a real board's, so that look-ups have something to search.
fn port() -> BusPort {
    struct Filler(u64);
    impl Device for Filler {
        fn label(&self) -> &'static str {
            "filler"
        }
        fn windows(&self) -> Vec<Window> {
            vec![Window {
                id: 0,
                name: "ports",
                space: Space::Pio,
                base: Some(self.0),
                len: 4,
            }]
        }
        fn read(&mut self, _: Access, _: &mut Effects) -> Answer<u64> {
            Ok(0)
        }
        fn write(&mut self, _: Access, _: u64, _: &mut Effects) -> Answer<()> {
            Ok(())
        }
        fn reset(&mut self, _: ResetKind) {}
        fn save(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
        fn load(&mut self, _: &serde_json::Value) -> Result<(), StateError> {
            Ok(())
        }
    }
    let mut bus = Bus::new();
    bus.attach(Box::new(Register(0))).expect("free ports");
    for base in (0x200..0x300).step_by(16) {
        bus.attach(Box::new(Filler(base))).expect("free ports");
    }
    BusPort {
        bus: Arc::new(bus),
        sink: Arc::new(Ignore),
    }
}

/// A vCPU in flat real mode that repeats `code` for ever.
struct Rig {
    vcpu: Vcpu,
    _vm: Vm,
    _ram: GuestRam,
}

impl Rig {
    fn new(code: &[u8]) -> Self {
        let ram = GuestRam::new(2 << 20, HugePages::None).expect("guest memory");
        let spec = VmSpec {
            vcpus: 1,
            log_dirty: false,
        };
        let vm = Vm::new(open().expect("/dev/kvm"), &ram, spec).expect("a VM");
        ram.write(Gpa(CODE), code).expect("code fits");
        let vcpu = vm.vcpu(0).expect("a vCPU");
        place(vcpu.fd());
        Self {
            vcpu,
            _vm: vm,
            _ram: ram,
        }
    }
}

/// The same for a vCPU that Trapline does not wrap.
fn bare(code: &[u8]) -> (VcpuFd, kvm_ioctls::VmFd, GuestRam) {
    let ram = GuestRam::new(2 << 20, HugePages::None).expect("guest memory");
    let vm = open().expect("/dev/kvm").create_vm().expect("a VM");
    vm.set_tss_address(0xfffb_d000).expect("a TSS");
    vm.create_irq_chip().expect("an irqchip");
    let region = ram.regions()[0];
    let slot = kvm_bindings::kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: region.base,
        memory_size: region.len,
        userspace_addr: ram.host_address(&region).expect("mapped"),
    };
    #[expect(unsafe_code, reason = "the bare loop sets its own slot")]
    // SAFETY: the mapping of `ram` is returned beside the VM and outlives it.
    unsafe { vm.set_user_memory_region(slot) }.expect("a slot");
    if vm.check_extension(kvm_ioctls::Cap::X86UserSpaceMsr) {
        let mut cap = kvm_bindings::kvm_enable_cap {
            cap: kvm_ioctls::Cap::X86UserSpaceMsr as u32,
            ..Default::default()
        };
        cap.args[0] = 7;
        vm.enable_cap(&cap).expect("MSR exits");
    }
    ram.write(Gpa(CODE), code).expect("code fits");
    let vcpu = vm.create_vcpu(0).expect("a vCPU");
    place(&vcpu);
    (vcpu, vm, ram)
}

fn place(vcpu: &VcpuFd) {
    let mut sregs = vcpu.get_sregs().expect("sregs");
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    (sregs.ds.base, sregs.ds.limit, sregs.ds.g) = (MMIO, 0xffff, 0);
    vcpu.set_sregs(&sregs).expect("sregs");
    let mut regs = vcpu.get_regs().expect("regs");
    (regs.rip, regs.rflags, regs.rdx, regs.rcx) = (CODE, 2, 0x100, 0x4b56_4dff);
    vcpu.set_regs(&regs).expect("regs");
}

/// `in al,dx; jmp -3`, `mov al,[0]; jmp -5`, `rdmsr; jmp -4`.
const PROGRAMS: [(&str, &[u8]); 3] = [
    ("pio", &[0xec, 0xeb, 0xfd]),
    ("mmio", &[0xa0, 0x00, 0x00, 0xeb, 0xfb]),
    ("msr", &[0x0f, 0x32, 0xeb, 0xfc]),
];

fn round_trips(c: &mut Criterion) {
    let port = port();
    for (name, code) in PROGRAMS {
        let mut group = c.benchmark_group(format!("exit-{name}"));
        let (mut vcpu, _vm, _ram) = bare(code);
        let mut count = 0_u64;
        group.bench_function("bare", |b| {
            b.iter(|| {
                count = count.wrapping_add(1);
                match vcpu.run().expect("KVM_RUN") {
                    VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data) => {
                        data.fill(count.to_le_bytes()[0]);
                    }
                    VcpuExit::X86Rdmsr(msr) => (*msr.data, *msr.error) = (count, 0),
                    other => panic!("an exit no program here makes: {other:?}"),
                }
            });
        });
        let mut rig = Rig::new(code);
        let (probe, engine) = (Probe::off(), engine());
        group.bench_function("trapline", |b| {
            b.iter(|| assert_eq!(rig.vcpu.step(&port, &engine, &probe), Step::Continue));
        });
        group.finish();
    }
}

fn user_half(c: &mut Criterion) {
    let port = port();
    let probe = Probe::off();
    let mut group = c.benchmark_group("dispatch");
    for (name, space, address) in [("pio", Space::Pio, 0x100), ("mmio", Space::Mmio, MMIO)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let (bus, address) = (&port.bus, black_box(address));
                black_box(bus.read(space, address, Width::Byte, &*port.sink, &probe))
            });
        });
    }
    group.bench_function("msr", |b| {
        let engine = engine();
        b.iter(|| {
            let access = MsrAccess {
                vcpu: 0,
                index: black_box(0x10),
                op: Op::Read,
                reason: Reason::Filter,
            };
            black_box(engine.answer(access, &mut Nobody))
        });
    });
    let (policy, starts) = ten_thousand_rules();
    // A number that is no constant to the compiler, and goes all over the ranges.
    let next = |index: &mut u32| {
        *index = index.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *index
    };
    group.bench_function("msr-lookup-10000", |b| {
        let mut index = 1;
        b.iter(|| black_box(policy.rules_for(next(&mut index), Direction::Read).next()));
    });
    group.bench_function("binary-search-10000", |b| {
        let mut index = 1;
        b.iter(|| {
            let index = next(&mut index);
            black_box(starts.partition_point(|start| *start <= index))
        });
    });
    group.bench_function("trace-off", |b| {
        let probe = black_box(Probe::off());
        b.iter(|| {
            probe.emit(|| Event::Life {
                step: "bench",
                note: None,
            });
        });
    });
    group.finish();
}

/// Criterion's median of one benchmark, in nanoseconds.
fn median(group: &str, name: &str) -> Option<f64> {
    let home = std::env::var_os("CRITERION_HOME")
        .map(Into::into)
        .or_else(|| {
            let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
            Some(std::path::PathBuf::from(target).join("criterion"))
        })?;
    let text = fs::read_to_string(home.join(group).join(name).join("new/estimates.json")).ok()?;
    let json: serde_json::Value = serde_json::from_str(&text).ok()?;
    json["median"]["point_estimate"].as_f64()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    round_trips(&mut criterion);
    user_half(&mut criterion);
    criterion.final_summary();
    println!(
        "\n{:28} {:>10} {:>10} {:>8}  budget",
        "", "bare", "trapline", "ratio"
    );
    for (name, _) in PROGRAMS {
        let group = format!("exit-{name}");
        if let (Some(bare), Some(ours)) = (median(&group, "bare"), median(&group, "trapline")) {
            let ratio = ours / bare;
            println!(
                "exit round trip, {name:11} {bare:>7.0} ns {ours:>7.0} ns {ratio:>8.3}  <= 1.10"
            );
        }
    }
    for (name, budget) in [("pio", 150), ("mmio", 150), ("msr", 200)] {
        if let Some(ours) = median("dispatch", name) {
            println!(
                "user-space half, {name:31} {ours:>7.0} ns {:>8}  <= {budget} ns",
                ""
            );
        }
    }
    if let (Some(off), Some(exit)) = (
        median("dispatch", "trace-off"),
        median("exit-pio", "trapline"),
    ) {
        println!(
            "tracing off, of a pio exit {:>31.3} %  <= 1 %",
            100.0 * off / exit
        );
    }
}
