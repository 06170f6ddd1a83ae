//! MSR accesses of a guest whose every access is known: answers, reasons, counts and RIPs, unfiltered,
//! forwarded, and with the policy changed meanwhile.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use trapline::bus::{Bus, BusPort, Effect, EffectSink, HostClock, ResetKind};
use trapline::mem::{Gpa, GuestRam, HugePages};
use trapline::msr::filter::compile;
use trapline::msr::names::{self, Forward, Vendor};
use trapline::msr::policy::Policy;
use trapline::msr::{
    Cpu, Engine, MsrAccess, MsrAnswer, MsrHandler, MsrListener, MsrTally, Op, Reason,
};
use trapline::probe::{Cell, GuestOp, Outcome, Prober, Seen, matrix};
use trapline::trace::Probe;
use trapline::vm::cpuid::Profile;
use trapline::vm::{Fleet, VcpuEnd, VcpuNotice, Vm, VmSpec, VmState, open};

#[expect(dead_code, reason = "its main is another program's")]
#[path = "examples/answer_an_msr.rs"]
mod answer_an_msr;
mod common;
#[expect(dead_code, reason = "its main is another program's")]
#[path = "examples/sweep_a_range.rs"]
mod sweep_a_range;

use common::{Case, Need};

const CASES: &[Case] = &[
    case(
        "answers_and_reasons_are_those_of_the_policy",
        answers_and_reasons_are_those_of_the_policy,
    ),
    case(
        "what_is_forwarded_comes_out_as_it_does_without_a_filter",
        what_is_forwarded_comes_out_as_it_does_without_a_filter,
    ),
    case(
        "the_matrix_tells_what_came_of_each_access_and_skips_what_is_dangerous",
        the_matrix_tells_what_came_of_each_access_and_skips_what_is_dangerous,
    ),
    case(
        "the_cpu_decides_which_msrs_there_are",
        the_cpu_decides_which_msrs_there_are,
    ),
    case(
        "counts_reasons_and_rips_hold_on_four_vcpus_while_the_policy_changes",
        counts_reasons_and_rips_hold_on_four_vcpus_while_the_policy_changes,
    ),
    case(
        "emulated_msrs_are_part_of_the_state_and_follow_resets",
        emulated_state,
    ),
    case("the_examples_do_what_they_say", examples),
];

const fn case(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

fn main() -> ExitCode {
    common::main(CASES)
}

fn policy(text: &str) -> Policy {
    Policy::parse(&[("test".into(), text.into())]).unwrap()
}

fn prober(text: &str) -> Prober {
    Prober::new(policy(text), Profile::default()).unwrap()
}

fn seen(outcomes: &[Outcome]) -> Vec<Seen> {
    outcomes.iter().map(|outcome| outcome.seen).collect()
}

fn answers_and_reasons_are_those_of_the_policy() {
    let mut prober = prober(
        "[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 7\nmask = 0xf0\n\
         [[rule]]\nmsr = 'PAT'\naccess = 'w'\ndo = 'deny'\n\
         [[rule]]\nmsr = 'MTRR_DEF_TYPE'\naccess = 'r'\ndo = 'emulate'\nvalue = 9\nnth = 2\n",
    );
    let ops = [
        GuestOp::Read(0x666),
        GuestOp::Write(0x666, 0xff),
        GuestOp::Read(0x666),
        GuestOp::Read(0x277),
        GuestOp::Write(0x277, 0x0007_0406_0007_0406),
        GuestOp::Read(0x2ff),
        GuestOp::Read(0x2ff),
        GuestOp::Read(0x2ff),
        GuestOp::Read(0xdead_beef),
        GuestOp::Write(0x277, 2),
    ];
    let outcomes = prober.run(&ops).unwrap().unwrap();
    let pat = prober.host_read(0x277).unwrap().unwrap();
    let (filter, unknown) = (Some(Reason::Filter), Some(Reason::Unknown));
    let expected = [
        (Seen::Value(7), filter),
        (Seen::Value(0xff), filter),
        (Seen::Value(0xf7), filter),
        (Seen::Value(pat), None),
        (Seen::Fault, filter),
        (Seen::Value(0x806), filter),
        (Seen::Value(9), filter),
        (Seen::Value(0x806), filter),
        (Seen::Fault, unknown),
        (Seen::Fault, filter),
    ];
    let expected = expected.map(|(seen, exit)| Outcome { seen, exit });
    assert_eq!(outcomes, expected);
    let exits = prober.exits();
    assert_eq!(exits.len(), 9);
    let rips: std::collections::BTreeSet<_> = exits.iter().map(|exit| exit.rip).collect();
    assert_eq!(rips.len(), 2, "one rdmsr and one wrmsr: {rips:x?}");
}

/// Rows that differ on software KVM (kvm_pvm, kernel 6.18), which lets the guest at them by rules of
/// its own: two mitigation registers are there without their CPUID bit and drop what is written, one that
/// CPUID announces is not there, and no bit of MISC_ENABLE is fixed.
const ON_SOFTWARE_KVM: &[u32] = &[0x48, 0x10a, 0x1a0, 0xc001_011f];

/// Passed through, so that width is the processor's: AMD's manual gives SYSENTER_ESP and _EIP 32 bits
/// and KVM truncates them, QEMU's SVM keeps 64, and 16 of SYSENTER_CS.
const ON_EMULATED_SVM: &[u32] = &[0x174, 0x175, 0x176];

fn documented(index: u32) -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let hardware = flags
        .split_whitespace()
        .any(|word| ["vmx", "svm"].contains(&word));
    let rows = if hardware {
        ON_EMULATED_SVM
    } else {
        ON_SOFTWARE_KVM
    };
    rows.contains(&index) && (!hardware || flags.contains("QEMU TCG"))
}

fn what_is_forwarded_comes_out_as_it_does_without_a_filter() {
    let mut ops = Vec::new();
    for msr in names::all() {
        let row = msr.row;
        // Never forwarded, beyond the filter, or other on each look.
        if row.danger > 1 || row.volatile || (0x800..0x900).contains(&msr.index) {
            continue;
        }
        if row.vendor == Vendor::Xen || row.read == Forward::Never {
            continue;
        }
        ops.push(GuestOp::Read(msr.index));
        if row.write == Forward::Never {
            continue;
        }
        for value in [0, 1, 6, 1 << 10, 1 << 20, 1 << 32, 1 << 47, u64::MAX] {
            ops.push(GuestOp::Write(msr.index, value));
            ops.push(GuestOp::Read(msr.index));
        }
    }
    let unfiltered = prober("").run(&ops).unwrap().unwrap();
    let mut forwarding = prober("[[rule]]\nmsr = '0-0xffffffff'\nlog = true\n");
    let forwarded = forwarding.run(&ops).unwrap().unwrap();
    let mut differ = Vec::new();
    for ((op, plain), forwarded) in ops.iter().zip(&unfiltered).zip(&forwarded) {
        assert!(forwarded.exit.is_some(), "{op:x?} was not forwarded");
        if plain.seen != forwarded.seen && !documented(op.index()) {
            let name = names::of(op.index()).unwrap().name;
            differ.push(format!(
                "{name} {op:x?}: {:x?}, forwarded {:x?}",
                plain.seen, forwarded.seen
            ));
        }
    }
    assert!(
        differ.is_empty(),
        "{} differ:\n{}",
        differ.len(),
        differ.join("\n")
    );
    let values = seen(&unfiltered)
        .iter()
        .filter(|s| matches!(s, Seen::Value(_)))
        .count();
    assert!(values > 300, "only {values} of {} are answered", ops.len());
}

fn the_matrix_tells_what_came_of_each_access_and_skips_what_is_dangerous() {
    // LSTAR, PLATFORM_INFO, POLL_CONTROL, one that nobody has, the TSC.
    let indices = [0xc000_0082, 0xce, 0x4b56_4d05, 0xdead_beef, 0x10];
    let found = matrix(&indices, 1, &policy(""), &Profile::default(), |_| {}).unwrap();
    assert_eq!(found.skipped, [0x10]);
    let [lstar, info, poll, none] = found.rows.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((lstar.read, lstar.zero), (Cell::Value(0), Cell::Taken));
    // All 64-bit kernels' addresses are there; how canonical is checked depends on the processor.
    assert_eq!(lstar.bits.unwrap() & 0x7fff_ffff_ffff, 0x7fff_ffff_ffff);
    assert_eq!(info.same, Cell::Fault(Some(Reason::Inval)));
    assert_eq!(
        (poll.ones, poll.bits),
        (Cell::Fault(Some(Reason::Inval)), Some(1))
    );
    assert_eq!((none.host_read, none.bits), (Cell::Refused, Some(0)));
    assert_eq!(none.read, Cell::Fault(Some(Reason::Unknown)));
    // A policy of the guest shows too.
    let denied = policy("[[rule]]\nmsr = 'LSTAR'\ndo = 'deny'\n");
    let found = matrix(&[0xc000_0082], 1, &denied, &Profile::default(), |_| {}).unwrap();
    assert_eq!(found.rows[0].read, Cell::Fault(Some(Reason::Filter)));
}

fn the_cpu_decides_which_msrs_there_are() {
    const SYSTEM_TIME_NEW: u32 = 0x4b56_4d01;
    const STEAL_TIME: u32 = 0x4b56_4d03;
    let seen = |cpu: &str| {
        let mut prober = Prober::new(policy(""), cpu.parse().unwrap()).unwrap();
        let ops = [SYSTEM_TIME_NEW, STEAL_TIME].map(GuestOp::Read);
        seen(&prober.run(&ops).unwrap().unwrap())
    };
    let (there, gone) = (Seen::Value(0), Seen::Fault);
    assert_eq!(seen("host"), [there, there]);
    assert_eq!(seen("-kvm-steal-time"), [there, gone]);
    assert_eq!(seen("bare"), [gone, gone]);
}

/// A vCPU that answers need nothing of.
struct NoCpu;

impl Cpu for NoCpu {
    fn rip(&mut self) -> Option<u64> {
        None
    }
    fn get(&mut self, _: u32) -> Option<u64> {
        None
    }
    fn set(&mut self, _: u32, _: u64) -> bool {
        false
    }
    fn cpuid(&self, _: &names::CpuidBit) -> bool {
        false
    }
    fn control(&mut self) -> (u64, u64) {
        (0, 0)
    }
}

fn emulated_state() {
    let text = "[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 7\n\
                [[rule]]\nmsr = 0x667\ndo = 'emulate'\nshared = true\nreset = 'power'\n";
    let mut prober = prober(text);
    let write = [GuestOp::Write(0x666, 1), GuestOp::Write(0x667, 2)];
    let read = [GuestOp::Read(0x666), GuestOp::Read(0x667)];
    prober.run(&write).unwrap().unwrap();
    let values = |a, b| vec![Seen::Value(a), Seen::Value(b)];
    assert_eq!(seen(&prober.run(&read).unwrap().unwrap()), values(1, 2));
    prober.restore().unwrap();
    assert_eq!(seen(&prober.run(&read).unwrap().unwrap()), values(7, 0));

    // The same by hand: of a VM with two vCPUs, to another engine of the same policy.
    let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
    let spec = VmSpec {
        vcpus: 2,
        log_dirty: false,
    };
    let vm = Vm::new(open().unwrap(), &ram, spec).unwrap();
    let (ears, _kept) = mpsc::sync_channel(1);
    let ears = Arc::new(Ears(ears));
    let engine = || {
        Engine::new(
            policy(text),
            None,
            2,
            Arc::new(HostClock::new()),
            Arc::clone(&ears) as _,
        )
    };
    let access = |vcpu, index, op| MsrAccess {
        vcpu,
        index,
        op,
        reason: Reason::Filter,
    };
    let (from, to) = (engine(), engine());
    for (vcpu, index, value) in [(0, 0x666, 1), (1, 0x666, 2), (1, 0x667, 3)] {
        let _ = from.answer(access(vcpu, index, Op::Write(value)), &mut NoCpu);
    }
    let state = VmState::save(vm.fd(), &from).unwrap();
    state.restore_msrs(&to).unwrap();
    let reads = |engine: &Engine| {
        [(0, 0x666), (1, 0x666), (0, 0x667)]
            .map(|(vcpu, index)| engine.answer(access(vcpu, index, Op::Read), &mut NoCpu))
    };
    assert_eq!(reads(&to), [1, 2, 3].map(MsrAnswer::Value));
    to.reset(ResetKind::Warm);
    assert_eq!(
        reads(&to),
        [7, 7, 3].map(MsrAnswer::Value),
        "one survives a reset"
    );
    to.reset(ResetKind::Cold);
    assert_eq!(reads(&to), [7, 7, 0].map(MsrAnswer::Value));
    let other = "[[rule]]\nmsr = 0x668\ndo = 'emulate'\n";
    let other = Engine::new(policy(other), None, 2, Arc::new(HostClock::new()), ears);
    assert!(
        state.restore_msrs(&other).is_err(),
        "another policy's state is refused"
    );
}

fn examples() {
    let mut said = Vec::new();
    answer_an_msr::run(&mut said).unwrap();
    let expected = "rdmsr 0x666: 0x1\nrdmsr 0x666: 0x2\nwrmsr 0x666: #GP\nrdmsr PAT: 0x0\n";
    assert_eq!(String::from_utf8(said).unwrap(), expected);
    let mut said = Vec::new();
    sweep_a_range::run(0xc000_0000, 0xc000_01ff, &mut said).unwrap();
    let swept = String::from_utf8(said).unwrap();
    assert!(swept.contains("0xc0000082  IA32_LSTAR  0x0\n"), "{swept}");
    assert!(swept.contains(" of 512 MSRs answer"), "{swept}");
}

/// Accesses by vCPU, instruction and reason.
type Came = BTreeMap<(u8, &'static str, u64, u32), u64>;

struct Scribe {
    engine: Engine,
    came: Mutex<Came>,
}

impl MsrHandler for Scribe {
    fn answer(&self, access: MsrAccess, cpu: &mut dyn Cpu) -> MsrAnswer {
        let rip = cpu.rip().unwrap();
        let key = (access.vcpu, access.op.verb(), rip, access.reason.bits());
        *self.came.lock().unwrap().entry(key).or_default() += 1;
        let answer = self.engine.answer(access, cpu);
        if access.op == Op::Read {
            assert!([1, 2].map(MsrAnswer::Value).contains(&answer), "{answer:?}");
        }
        answer
    }
}

struct Ears(mpsc::SyncSender<(u8, VcpuEnd)>);

impl EffectSink for Ears {
    fn apply(&self, _: Effect) {}
}

impl VcpuNotice for Ears {
    fn ended(&self, vcpu: u8, end: VcpuEnd) {
        let _ = self.0.send((vcpu, end));
    }
}

impl MsrListener for Ears {
    fn line(&self, _: String) {}
}

const CODE: u64 = 0x1000;
const ROUNDS: u32 = 5000;

/// Real mode: ROUNDS times `rdmsr` of 0x666 and `wrmsr` of 0x667, then nothing.
fn program() -> Vec<u8> {
    let mut code = vec![0x66, 0xbe];
    code.extend(ROUNDS.to_le_bytes());
    code.extend([0x66, 0xb9, 0x66, 0x06, 0, 0, 0x0f, 0x32]); // mov ecx,0x666; rdmsr
    code.extend([0x66, 0xb9, 0x67, 0x06, 0, 0, 0x0f, 0x30]); // mov ecx,0x667; wrmsr
    code.extend([0x66, 0x4e, 0x75, 0xec]); // dec esi; jnz back
    code.extend([0xeb, 0xfe]); // jmp here
    code
}
const RDMSR: u64 = 6 + 6;
const WRMSR: u64 = 6 + 8 + 6;

fn counts_reasons_and_rips_hold_on_four_vcpus_while_the_policy_changes() {
    let ram = GuestRam::new(2 << 20, HugePages::None).unwrap();
    let spec = VmSpec {
        vcpus: 4,
        log_dirty: false,
    };
    let vm = Vm::new(open().unwrap(), &ram, spec).unwrap();
    let mut vcpus = Vec::new();
    for id in 0..4 {
        let at = CODE + u64::from(id) * 0x1000;
        ram.write(Gpa(at), &program()).unwrap();
        let vcpu = vm.vcpu(id).unwrap();
        let mut sregs = vcpu.sregs().unwrap();
        (sregs.cs.base, sregs.cs.selector) = (0, 0);
        vcpu.fd().set_sregs(&sregs).unwrap();
        let mut regs = vcpu.regs().unwrap();
        (regs.rip, regs.rsp, regs.rflags) = (at, 0x8000, 2);
        vcpu.fd().set_regs(&regs).unwrap();
        vcpu.fd()
            .set_mp_state(kvm_bindings::kvm_mp_state { mp_state: 0 })
            .unwrap();
        vcpus.push(vcpu);
    }
    // The first is trapped by a filter; under the second KVM does not know the MSRs.
    let emulated = "[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 1\nread-only = true\n\
                    [[rule]]\nmsr = 0x667\ndo = 'emulate'\n";
    let asked = "[default]\nunknown = 'ignore'\n\
                 [[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 2\naccess = 'r'\n";
    let policies = [policy(emulated), policy(asked)];
    let filters = policies
        .each_ref()
        .map(|policy| compile(policy.traps()).unwrap());
    let (send, ends) = mpsc::sync_channel(16);
    let ears = Arc::new(Ears(send));
    let engine = Engine::new(
        policies[0].clone(),
        None,
        4,
        Arc::new(HostClock::new()),
        Arc::clone(&ears) as _,
    );
    vm.set_msr_filter(&filters[0]).unwrap();
    let scribe = Arc::new(Scribe {
        engine,
        came: Mutex::default(),
    });
    let port = BusPort {
        bus: Arc::new(Bus::new()),
        sink: Arc::clone(&ears) as _,
    };
    let fleet = Fleet::new(4);
    let handler = Arc::clone(&scribe) as Arc<dyn MsrHandler>;
    let notice = ears as Arc<dyn VcpuNotice>;
    fleet
        .start(vcpus, &port, &handler, &notice, |_| Probe::off())
        .unwrap();
    fleet.resume();
    let all = |reads, writes| MsrTally {
        reads,
        writes,
        refused: 0,
    };
    let sum = u64::from(ROUNDS) * 4;
    let whole = BTreeMap::from([(0x666, all(sum, 0)), (0x667, all(0, sum))]);
    let mut swaps = 0_usize;
    while scribe.engine.tallies() != whole {
        let ended = ends.recv_timeout(Duration::from_millis(20));
        assert!(ended.is_err(), "{ended:?}");
        assert!(
            swaps < 2000,
            "the guests do not come to their end: {:?}",
            scribe.engine.tallies()
        );
        swaps += 1;
        fleet.pause().unwrap();
        vm.set_msr_filter(&filters[swaps % 2]).unwrap();
        let policy = policies[swaps % 2].clone();
        scribe.engine.swap(policy, None);
        fleet.resume();
    }
    fleet.stop();
    let came = scribe.came.lock().unwrap();
    for vcpu in 0..4 {
        for (verb, at) in [("rdmsr", RDMSR), ("wrmsr", WRMSR)] {
            let rip = CODE + u64::from(vcpu) * 0x1000 + at;
            let by = |bits| came.get(&(vcpu, verb, rip, bits)).copied().unwrap_or(0);
            let (unknown, filter) = (by(Reason::Unknown.bits()), by(Reason::Filter.bits()));
            assert_eq!(
                unknown + filter,
                u64::from(ROUNDS),
                "vCPU {vcpu} {verb}: {came:x?}"
            );
        }
    }
    assert!(swaps > 0, "the policy was never changed meanwhile");
}
