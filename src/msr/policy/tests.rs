use proptest::prelude::*;

use super::*;
use crate::msr::filter;
use crate::trace::Direction::{Read, Write};

fn parse(texts: &[&str]) -> Result<Policy, PolicyError> {
    let named = |(n, text): (usize, &&str)| (format!("p{n}.toml"), (*text).to_owned());
    let sources: Vec<_> = texts.iter().enumerate().map(named).collect();
    Policy::parse(&sources)
}

fn error(text: &str) -> String {
    parse(&[text]).unwrap_err().to_string()
}

/// The action for an access by vCPU 0 that no `nth` waits for.
fn action(policy: &Policy, index: u32, direction: Direction) -> Option<Action> {
    let mut rules = policy.rules_for(index, direction);
    rules
        .find(|(_, rule)| rule.nth.is_none() && rule.vcpus.has(0))
        .map(|(_, rule)| rule.action)
}

#[test]
fn later_files_win_then_single_then_range_then_bank() {
    let policy = parse(&["[[rule]]\nmsr = 'bank:MC'\ndo = 'stop'\n\
         [[rule]]\nmsr = '0x400-0x403'\ndo = 'deny'\n\
         [[rule]]\nmsr = 'MC0_CTL'\ndo = 'ignore'\n"])
    .unwrap();
    assert_eq!(action(&policy, 0x400, Read), Some(Action::Ignore));
    assert_eq!(action(&policy, 0x401, Read), Some(Action::Deny));
    assert_eq!(action(&policy, 0x404, Read), Some(Action::Stop));
    assert_eq!(action(&policy, 0x480, Read), None);
    let both = parse(&[
        "[[rule]]\nmsr = 'MC0_CTL'\ndo = 'ignore'\n",
        "[[rule]]\nmsr = 'bank:MC'\ndo = 'stop'\n",
    ])
    .unwrap();
    assert_eq!(action(&both, 0x400, Write), Some(Action::Stop));
}

#[test]
fn errors_say_line_and_column() {
    let table = [
        ("[[rule]\n", "p0.toml:1:8:"),
        (
            "\n[[rule]]\nmsr = 'TSC_AUXX'\n",
            "p0.toml:3:7: no MSR is called \"TSC_AUXX\"; the nearest name is IA32_TSC_AUX",
        ),
        (
            "[[rule]]\nmsr = 'bank:MCX'\n",
            "p0.toml:2:7: there is no bank \"MCX\"; the nearest is bank:MC",
        ),
        (
            "[[rule]]\nmsr = 0x10\nacces = 'r'\n",
            "p0.toml:3:1: there is no key \"acces\" here; did you mean \"access\"?",
        ),
        (
            "msr = 3\n",
            "p0.toml:1:1: there is no key \"msr\" here; it belongs in another table",
        ),
        (
            "[[rule]]\nmsr = 'TSC'\ndo = 'block'\n",
            "do = \"block\" is not known; it can be allow, deny",
        ),
        (
            "[[rule]]\nmsr = '0x100000000'\n",
            "p0.toml:2:7: 0x100000000 is past the last MSR",
        ),
        (
            "[[rule]]\nmsr = '0xfffffff0-0x100000000'\n",
            "0x100000000 is past the last MSR",
        ),
        (
            "[[rule]]\nmsr = '9-3'\n",
            "the range 0x9-0x3 ends before it begins",
        ),
        (
            "[[rule]]\nmsr = 'TSC_AUX'\ndo = 'emulate'\nvalue = '0x100000000'\n",
            "p0.toml:4:9: value = 0x100000000 is wider than IA32_TSC_AUX, which has 32 bits",
        ),
        (
            "[[rule]]\nmsr = '0-0xffffffff'\ndo = 'emulate'\n",
            "would keep the values of 4294967296 MSRs",
        ),
        (
            "[[rule]]\nmsr = 5\ndo = 'deny'\nvalue = 1\n",
            "value means nothing with do = \"deny\"",
        ),
        (
            "[[rule]]\nmsr = 5\ndo = 'deny'\nnth = 0\n",
            "nth counts accesses from 1",
        ),
        (
            "[[rule]]\nmsr = 5\nnth = 3\n",
            "nth means nothing with do = \"allow\"",
        ),
        (
            "[[rule]]\nmsr = 5\ndo = 'deny'\nvcpu = [255]\n",
            "no vCPU 255",
        ),
        ("[[rule]]\nmsr = 5\ndo = 'deny'\nvcpu = []\n", "for no vCPU"),
        ("[[rule]]\nmsr = 5\ndo = 'ask'\n", "needs a program"),
        (
            "[[rule]]\nmsr = 5\ndo = 'emulate'\nvalue = 'x'\n",
            "\"x\" is not a number",
        ),
        ("[ask]\ncommand = 'a'\ntimeout = '5'\n", "not a time limit"),
        ("[default]\nunknown = 'allow'\n", "it can be deny, ignore"),
    ];
    for (text, expected) in table {
        let found = error(text);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
}

#[test]
fn two_rules_of_one_rank_on_one_msr_are_refused() {
    let found = error(
        "[[rule]]\nmsr = '0x10-0x20'\ndo = 'deny'\n[[rule]]\nmsr = '0x18-0x30'\ndo = 'stop'\n",
    );
    assert!(
        found.contains("p0.toml:5:7: 0x18 has this rule and the one at line 2"),
        "{found}"
    );
    for apart in ["access = 'w'\n", "vcpu = [1]\n", "nth = 4\n"] {
        let one = "[[rule]]\nmsr = 'PLATFORM_INFO'\ndo = 'deny'\naccess = 'r'\nvcpu = [0]\n";
        let other = format!("[[rule]]\nmsr = 0xce\ndo = 'stop'\n{apart}");
        assert!(parse(&[&format!("{one}{other}")]).is_ok(), "{apart}");
    }
}

#[test]
fn what_cannot_be_forwarded_is_refused_with_the_alternative() {
    let found = error("[[rule]]\nmsr = 'TSC'\naccess = 'w'\nlog = true\n");
    assert!(
        found.contains("IA32_TIME_STAMP_COUNTER") && found.contains("kvm:kvm_msr"),
        "{found}"
    );
    assert!(parse(&["[[rule]]\nmsr = 'TSC'\naccess = 'r'\nlog = true\n"]).is_ok());
    // To deny it on one vCPU is to do it for the others.
    let found = error("[[rule]]\nmsr = 'TSC'\ndo = 'deny'\nvcpu = [1]\n");
    assert!(
        found.contains("cannot be logged, counted or handled per vCPU"),
        "{found}"
    );
    assert!(parse(&["[[rule]]\nmsr = 'TSC'\ndo = 'deny'\n"]).is_ok());
}

#[test]
fn a_log_over_a_range_leaves_out_what_cannot_be_forwarded_and_says_so() {
    let policy = parse(&["[[rule]]\nmsr = '0-0xffffffff'\nlog = true\n"]).unwrap();
    assert!(policy.traps().has(Read, 0x10) && !policy.traps().has(Write, 0x10));
    assert!(policy.traps().has(Write, 0xc000_0080));
    // What has no name is seen too, where KVM may handle it; elsewhere it comes out by itself.
    for (index, seen) in [
        (0x666, true),
        (0xc001_1fff, true),
        (0x2000, false),
        (0xdead_beef, false),
    ] {
        assert!(crate::msr::names::of(index).is_none());
        assert_eq!(policy.traps().has(Read, index), seen, "{index:#x}");
    }
    assert!(!policy.traps().has(Read, 0x802));
    let text: String = policy.warnings().iter().map(ToString::to_string).collect();
    assert!(text.contains("IA32_TIME_STAMP_COUNTER (write)"), "{text}");
    assert!(filter::compile(policy.traps()).is_ok());
}

#[test]
fn to_be_counted_an_access_has_to_come_out() {
    let counting = parse(&["[[rule]]\nmsr = 'EFER'\ncount = true\n"]).unwrap();
    assert!(counting.traps().has(Read, 0xc000_0080));
    let found = error("[[rule]]\nmsr = 'TSC'\naccess = 'w'\ncount = true\n");
    assert!(found.contains("kvm:kvm_msr"), "{found}");
}

#[test]
fn what_is_allowed_without_a_log_costs_no_exit() {
    let policy =
        parse(&["[[rule]]\nmsr = '0-0xffff'\n[[rule]]\nmsr = 'EFER'\nlog = true\naccess = 'w'\n"])
            .unwrap();
    assert!(!policy.traps().has(Read, 0xc000_0080) && !policy.traps().has(Read, 0x10));
    assert!(policy.traps().has(Write, 0xc000_0080));
    let none = parse(&[""]).unwrap();
    assert!(none.traps().is_empty());
}

#[test]
fn surprises_are_told() {
    let table = [
        (
            "[[rule]]\nmsr = 0x802\ndo = 'emulate'\n",
            "0x800-0x8ff, the x2APIC, are outside every filter",
        ),
        (
            "[[rule]]\nmsr = 'LSTAR'\ndo = 'emulate'\n",
            "the CPU acts on IA32_LSTAR",
        ),
        (
            "[[rule]]\nmsr = 'EFER'\ndo = 'deny'\n",
            "mode switches load it",
        ),
        (
            "[[rule]]\nmsr = '0xffffffff'\ndo = 'deny'\n",
            "no filter reaches 0xffffffff",
        ),
    ];
    for (text, expected) in table {
        let warnings = parse(&[text]).unwrap().warnings().to_vec();
        assert!(
            warnings.iter().any(|w| w.to_string().contains(expected)),
            "{text:?}: {warnings:?}"
        );
    }
    assert!(
        parse(&["[[rule]]\nmsr = 0x610\ndo = 'emulate'\n"])
            .unwrap()
            .warnings()
            .is_empty()
    );
}

#[test]
fn every_shipped_policy_is_sound_and_fits_a_filter() {
    for name in shipped_names() {
        let policy = Policy::load(&[format!(":{name}")]).unwrap();
        filter::compile(policy.traps()).unwrap();
        assert!(!policy.rules().is_empty() || policy.otherwise(Reason::Unknown) != Action::Deny);
    }
    let error = Policy::load(&[":strikt".into()]).unwrap_err().to_string();
    assert!(error.contains(":strict"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Policy::load(&["/nowhere/p.toml".into()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the MSR policy /nowhere/p.toml"
    );
}

/// The rule that decides, found the slow way.
fn slowly(rules: &[Rule], index: u32, direction: Direction) -> Vec<usize> {
    let mut all: Vec<_> = rules
        .iter()
        .enumerate()
        .filter(|(_, r)| r.covers(direction))
        .filter(|(_, r)| r.indices.iter().any(|i| (i.0..=i.1).contains(&index)))
        .collect();
    all.sort_by_key(|(id, r)| (r.rank(), *id));
    let end = all
        .iter()
        .position(|(_, r)| r.decides())
        .map_or(all.len(), |at| at + 1);
    all[..end].iter().map(|(id, _)| *id).collect()
}

proptest! {
    #[test]
    fn the_lookup_finds_what_a_search_of_all_rules_finds(
        rules in prop::collection::vec((0u32..60, 0u32..9, 0usize..3, prop::option::of(0u8..2)), 0..12),
        index in 0u32..80,
    ) {
        let mut text = String::new();
        for (first, len, access, vcpu) in rules {
            let access = ["r", "w", "rw"][access];
            let msr = if len == 0 { format!("{first}") } else { format!("{first}-{}", first + len) };
            text += &format!("[[rule]]\nmsr = '{msr}'\ndo = 'deny'\naccess = '{access}'\n");
            if let Some(vcpu) = vcpu {
                text += &format!("vcpu = [{vcpu}]\n");
            }
        }
        if let Ok(policy) = parse(&[&text]) {
            for direction in [Read, Write] {
                let found: Vec<_> = policy.rules_for(index, direction)
                    .map(|(id, _)| usize::try_from(id).unwrap()).collect();
                prop_assert_eq!(found, slowly(policy.rules(), index, direction));
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\[\\[rule\\]\\]|msr|do|=|'|[a-z0-9x:-]{1,6}|\n| ){0,40}") {
        let _ = parse(&[&text]);
    }
}
