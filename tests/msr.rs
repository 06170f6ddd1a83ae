//! MSR accesses of a guest whose every access is known: answers, reasons, counts and RIPs, unfiltered,
//! forwarded, and with the policy changed meanwhile.

use trapline::msr::Reason;
use trapline::msr::names::{self, Forward, Vendor};
use trapline::msr::policy::Policy;
use trapline::probe::{GuestOp, Outcome, Prober, Seen};

fn policy(text: &str) -> Policy {
    Policy::parse(&[("test".into(), text.into())]).unwrap()
}

fn prober(text: &str) -> Prober {
    Prober::new(policy(text)).unwrap()
}

fn seen(outcomes: &[Outcome]) -> Vec<Seen> {
    outcomes.iter().map(|outcome| outcome.seen).collect()
}

#[test]
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

#[test]
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
