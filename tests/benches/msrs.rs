//! What MSR operations in the guest cost through a prober, beside the same payload in a bare KVM_RUN loop; and what an
//! MSR that the policy allows costs under a filter that traps others. Ratios of one run, best of several.
//!
//! `cargo bench --bench msrs`

use std::time::{Duration, Instant};

use kvm_ioctls::{VcpuExit, VcpuFd};

use trapline::boot::{
    Image, LoadRequest, Places, Protocol, Start, load, payload, write_long_mode_tables,
};
use trapline::mem::{Gpa, GuestRam, HugePages};
use trapline::msr::policy::Policy;
use trapline::probe::{GuestOp, Prober, matrix};
use trapline::vm::cpuid::Profile;
use trapline::vm::{Entry, Flat, Segments, Vm, VmSpec, open};

const TABLE: u64 = 8 << 20;
const OPS: usize = 4096;
const PAT: u32 = 0x277;
const ROUNDS: usize = 20;

/// The payload of the prober, and nothing of Trapline in the loop.
struct Bare {
    vcpu: VcpuFd,
    ram: GuestRam,
    _vm: Vm,
}

impl Bare {
    fn new() -> Self {
        let ram = GuestRam::new(16 << 20, HugePages::None).unwrap();
        let spec = VmSpec {
            vcpus: 1,
            log_dirty: false,
        };
        let vm = Vm::new(open().unwrap(), &ram, spec).unwrap();
        let found = payload::find("msrops").unwrap();
        let image = Image::from_bytes(found.name, found.elf).unwrap();
        let places = Places::default();
        let request = LoadRequest {
            protocol: Protocol::Linux,
            cmdline: &format!("msrops {TABLE:#x}"),
            initrd: None,
            modules: &[],
            rsdp: None,
            reserved: &[],
            places,
        };
        let Start::Long64 { rip, rsi } = load(&ram, &image, &request).unwrap() else {
            panic!("msrops is 64-bit");
        };
        let tables = write_long_mode_tables(&ram, &places).unwrap();
        let entry = Entry {
            flat: Flat::Long {
                rip,
                rsi,
                cr3: tables.cr3,
                rsp: 1 << 20,
            },
            segments: Segments {
                gdt_base: tables.gdt_base,
                gdt_limit: tables.gdt_limit,
                code: tables.cs,
                data: tables.ds,
                task: tables.tr,
            },
        };
        let vcpu = vm.fd().create_vcpu(0).unwrap();
        vcpu.set_cpuid2(&vm.supported_cpuid().unwrap()).unwrap();
        let sregs = vcpu.get_sregs().unwrap();
        vcpu.set_sregs(&entry.sregs(&sregs)).unwrap();
        vcpu.set_regs(&entry.regs()).unwrap();
        let mut bare = Self { vcpu, ram, _vm: vm };
        bare.until_it_rings();
        bare
    }

    fn until_it_rings(&mut self) {
        loop {
            match self.vcpu.run().unwrap() {
                VcpuExit::IoOut(0xee, _) => return,
                VcpuExit::IoOut(..) => {}
                VcpuExit::IoIn(_, data) => data.fill(0xff),
                other => panic!("{other:?}"),
            }
        }
    }

    /// As src/probe/ops.rs writes it.
    fn batch(&mut self, ops: &[GuestOp]) -> Duration {
        let began = Instant::now();
        let mut bytes = u64::try_from(ops.len()).unwrap().to_le_bytes().to_vec();
        for op in ops {
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(op.index().to_le_bytes());
            bytes.extend([0; 16]);
        }
        self.ram.write(Gpa(TABLE), &bytes).unwrap();
        self.until_it_rings();
        began.elapsed()
    }
}

fn ours(prober: &mut Prober, ops: &[GuestOp]) -> Duration {
    let began = Instant::now();
    assert_eq!(prober.run(ops).unwrap().unwrap().len(), ops.len());
    began.elapsed()
}

fn prober(policy: &str) -> Prober {
    let policy = Policy::parse(&[("bench".into(), policy.into())]).unwrap();
    Prober::new(policy, Profile::default()).unwrap()
}

fn main() {
    let ops = vec![GuestOp::Read(PAT); OPS];
    let mut bare = Bare::new();
    let mut plain = prober("");
    // Everything around it is trapped, the MSR itself is allowed.
    let mut filtered = prober(
        "[[rule]]\nmsr = '0-0x1fff'\ndo = 'deny'\n[[rule]]\nmsr = 'PAT'\n\
         [[rule]]\nmsr = '0xc0000000-0xc0001fff'\ncount = true\n",
    );
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        // In turn, so that all of them meet the same machine.
        let times = [
            bare.batch(&ops),
            ours(&mut plain, &ops),
            ours(&mut filtered, &ops),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    let [bare, plain, filtered] = best.map(|time| time.as_secs_f64());
    let each = |time: f64| time / f64::from(u32::try_from(OPS).unwrap()) * 1e9;
    println!(
        "operations of a batch, of the bare payload's {:.0} ns {:>8.3}  >= 0.9",
        each(bare),
        bare / plain
    );
    println!(
        "an allowed MSR under a filter, beside none {:>14.3}  no more than 1 measurably",
        filtered / plain
    );
    let indices: Vec<u32> = (0..400).collect();
    let began = Instant::now();
    let policy = Policy::default();
    let found = matrix(&indices, 1, &policy, &Profile::default(), |_| {}).unwrap();
    let took = began.elapsed().as_secs_f64();
    let rows = f64::from(u32::try_from(found.rows.len()).unwrap());
    println!(
        "matrix, a row with its 68 operations {:>15.2} ms",
        took / rows * 1e3
    );
}
