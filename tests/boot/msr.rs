//! `--msr-policy` from outside: mistakes, answers, ends, and Linux under every policy that ships.

use std::fs;
use std::path::PathBuf;

use trapline::msr::policy::shipped_names;

use super::common::{Case, Need};
use super::linux::{kernel, run};
use super::{Run, boot};

pub(crate) const CASES: &[Case] = &[
    case(
        "a_mistake_in_a_policy_is_shown_with_its_place",
        &[],
        mistakes,
    ),
    case(
        "a_policy_that_no_filter_holds_comes_with_its_plan",
        &[Need::Kvm],
        too_wide,
    ),
    case("unknown_msrs_get_gp_and_are_counted", &[Need::Kvm], counted),
    case("a_policy_answers_logs_and_stops", &[Need::Kvm], answers),
    case("a_program_answers_and_its_end_is_told", &[Need::Kvm], asks),
    case(
        "linux_boots_under_every_shipped_policy",
        &[Need::KvmLinux, Need::Kernel],
        linux_boots,
    ),
];

const fn case(name: &'static str, needs: &'static [Need], run: fn()) -> Case {
    Case { name, needs, run }
}

/// The MSR payload under a policy of this text.
fn under(text: &str, msr: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("p.toml");
    fs::write(&path, text).unwrap();
    boot([":msr", "-a", msr, "--msr-policy", path.to_str().unwrap()])
}

fn mistakes() {
    under("[[rule]]\nmsr = 'TSC_AUXX'\n", "0x10")
        .ends(64)
        .says("p.toml:2:7: no MSR is called \"TSC_AUXX\"; the nearest name is IA32_TSC_AUX");
    under("[[rule]]\nmsr = 'TSC'\nlog = true\n", "0x10")
        .ends(64)
        .says("kvm:kvm_msr");
    boot([":msr", "--msr-policy", ":strikt"])
        .ends(64)
        .says(":strict");
    boot([":msr", "--msr-policy", "/nowhere"])
        .ends(64)
        .says("cannot read the MSR policy /nowhere");
}

fn too_wide() {
    let rule = |n: u32| format!("[[rule]]\nmsr = {}\ndo = 'deny'\n", n * 1_000_000);
    let text: String = (0..21).map(rule).collect();
    under(&text, "0x10")
        .ends(64)
        .says("needs 21 ranges of the MSR filter");
}

fn counted() {
    boot([":msr"])
        .ends(0)
        .prints("rdmsr 0xdeadbeef: #GP(0)")
        .says("1 reads, 1 writes, 2 of them refused: 0xdeadbeef 1r 1w");
}

fn answers() {
    under(
        "[[rule]]\nmsr = '0x666'\ndo = 'emulate'\nvalue = 7\nlog = true\n",
        "0x666",
    )
    .prints("rdmsr 0x666: 0x7")
    .prints("wrmsr 0x666: taken")
    .says("rdmsr 0x666 -> 0x7 (filtered) [");
    under(
        "[[rule]]\nmsr = 'PAT'\naccess = 'w'\ndo = 'stop'\n",
        "0x277",
    )
    .ends(76)
    .says("p.toml:2: vCPU 0: wrmsr IA32_PAT (0x277)");
    boot([":msr", "--msr-policy", ":like-ignore-msrs"])
        .prints("rdmsr 0xdeadbeef: 0x0")
        .prints("wrmsr 0xdeadbeef: taken");
}

fn asks() {
    let answer = "while read l; do id=${l#*:}; echo \"{\\\"id\\\":${id%%,*},\\\"value\\\":\\\"0xabc\\\"}\"; done";
    let text = format!("[ask]\ncommand = '{answer}'\n[default]\nunknown = 'ask'\n");
    under(&text, "0xdeadbeef").prints("rdmsr 0xdeadbeef: 0xabc");
    under(
        "[ask]\ncommand = 'exit 3'\notherwise = 'stop'\n[default]\nunknown = 'ask'\n",
        "0xdeadbeef",
    )
    .ends(76)
    .says("has ended: exit status: 3");
}

fn linux_boots() {
    let kernel = kernel();
    for name in shipped_names() {
        let policy = format!(":{name}");
        let found = run(&kernel, &["--msr-policy", &policy]);
        found.ends(0).prints("reboot: Power down");
        if name == "trace-all" {
            found.says("wrmsr IA32_EFER (0xc0000080)");
        }
    }
}
