//! What is known of an MSR and what becomes of accesses to it, in words.

use super::names::{Access, Class, Forward, Msr, Vendor, of, rank};
use super::policy::{Action, Policy, Rule};
use super::{Reason, filter};
use crate::trace::Direction;

/// What is known, and the decision path of every way to the MSR, as lines of `what: words`.
#[must_use]
pub fn explain(index: u32, policy: &Policy) -> Vec<(&'static str, String)> {
    let msr = of(index);
    let mut lines = vec![("index", format!("{index:#x}"))];
    match &msr {
        Some(msr) => known(msr, &mut lines),
        None => lines.push(("name", "none in Trapline's table".into())),
    }
    for direction in [Direction::Read, Direction::Write] {
        let what = match direction {
            Direction::Read => "guest read",
            Direction::Write => "guest write",
        };
        lines.extend(
            path(index, direction, policy)
                .into_iter()
                .map(|l| (what, l)),
        );
    }
    lines.push((
        "host",
        "KVM_GET_MSRS, KVM_SET_MSRS: no filter and no policy; KVM decides".into(),
    ));
    lines.push(("restore", restore(msr.as_ref())));
    lines
}

fn known(msr: &Msr, lines: &mut Vec<(&'static str, String)>) {
    let row = msr.row;
    let mut name = msr.name.to_string();
    if !row.aka.is_empty() && !row.aka.contains('#') {
        name = format!("{name} ({})", row.aka);
    }
    lines.push(("name", name));
    let vendor = match row.vendor {
        Vendor::Any => "Intel and AMD",
        Vendor::Intel => "Intel",
        Vendor::Amd => "AMD",
        Vendor::Kvm => "KVM",
        Vendor::HyperV => "Hyper-V",
        Vendor::Xen => "Xen",
    };
    lines.push(("defined by", vendor.into()));
    lines.push(("class", class(row.class).into()));
    let access = match row.access {
        Access::ReadWrite => "read and write",
        Access::ReadOnly => "read only",
        Access::WriteOnly => "write only",
        Access::HostOnly => "the host's only",
    };
    let mut bits = format!("{access}, {} bits", row.width);
    if row.canonical {
        bits += ", canonical";
    }
    if row.volatile {
        bits += ", changes by itself";
    }
    lines.push(("access", bits));
    for (what, mask) in [
        ("writable", row.writable),
        ("reserved", row.reserved & row.mask()),
        ("fixed", row.fixed),
    ] {
        if mask != 0 && mask != u64::MAX {
            lines.push((what, format!("{mask:#x}")));
        }
    }
    if !row.cpuid.is_empty() {
        let bits: Vec<_> = row
            .cpuid
            .iter()
            .map(|bit| {
                let (leaf, sub, reg) = (bit.leaf, bit.subleaf, bit.reg);
                format!(
                    "{} (CPUID {leaf:#x}.{sub} {reg:?} bit {})",
                    bit.name, bit.bit
                )
            })
            .collect();
        lines.push(("exists with", bits.join(" or ")));
    }
    if !row.capability.is_empty() {
        lines.push(("capability", row.capability.into()));
    }
    let effect = if row.effect {
        "the processor or KVM acts on it"
    } else {
        "none beyond its value"
    };
    lines.push(("effect", effect.into()));
    let word = |forward| match forward {
        Forward::Exact => "exact",
        Forward::Checked => "after the guest's rules",
        Forward::Never => "never",
    };
    let forward = format!("read {}, write {}", word(row.read), word(row.write));
    lines.push(("forwarding", forward));
    let danger = match row.danger {
        0 => "0, harmless",
        1 => "1, disturbs the guest's own CPU state",
        2 => "2, names guest memory or arms a timer",
        _ => "3, may end the guest or hold up the host",
    };
    lines.push(("danger", danger.into()));
}

const fn class(class: Class) -> &'static str {
    match class {
        Class::Passthrough => "CPU state, reached without an exit",
        Class::Emulated => "kept by KVM",
        Class::Time => "time",
        Class::Apic => "local APIC",
        Class::PvGpa => "names guest memory that the hypervisor writes",
        Class::Pmu => "performance monitoring",
        Class::Mce => "machine check",
        Class::Mtrr => "memory types",
        Class::Feature => "says what the processor can do",
        Class::Vmx => "virtualisation",
        Class::Debug => "debug and branch records",
        Class::Cet => "state of XSAVES",
        Class::Mitigation => "speculation control",
        Class::Hyperv => "Hyper-V",
        Class::Xen => "Xen",
        Class::LegacyZero => "KVM reads a constant",
        Class::Platform => "KVM does not have it",
    }
}

fn path(index: u32, direction: Direction, policy: &Policy) -> Vec<String> {
    let mut steps = Vec::new();
    let trapped = policy.traps().has(direction, index);
    if filter::X2APIC.contains(&index) {
        steps.push("KVM's local APIC, past every filter; refused accesses come out".into());
    } else if trapped {
        steps.push("the filter hands it out (KVM_MSR_EXIT_REASON_FILTER)".into());
    } else {
        steps.push("KVM handles it, or the processor itself".into());
    }
    let rules: Vec<&Rule> = policy
        .rules_for(index, direction)
        .map(|(_, rule)| rule)
        .collect();
    for rule in &rules {
        steps.push(step(rule, policy, trapped));
    }
    if !rules.last().is_some_and(|rule| rule.decides()) {
        let rest = |reason| policy.otherwise(reason).word();
        if trapped {
            steps.push(format!("no other rule: {}", rest(Reason::Filter)));
        }
        steps.push(format!(
            "if KVM does not know it: {}; if KVM refuses it: {}",
            rest(Reason::Unknown),
            rest(Reason::Inval)
        ));
    }
    steps
}

fn step(rule: &Rule, policy: &Policy, trapped: bool) -> String {
    let mut text = format!("{}: {}", policy.locate(rule.place), rule.action.word());
    match rule.action {
        Action::Emulate(model) => {
            text = format!("{text} {:#x}, writable {:#x}", model.value, model.mask);
        }
        Action::Allow if trapped => text += ", done by Trapline as KVM would",
        Action::Allow => text += ", by KVM alone",
        _ => {}
    }
    if !rule.vcpus.is_all() {
        text += ", on some vCPUs";
    }
    if let Some(nth) = rule.nth {
        text = format!("{text}, access {nth} only");
    }
    if rule.log {
        text += ", logged";
    } else if rule.count {
        text += ", counted";
    }
    text
}

fn restore(msr: Option<&Msr>) -> String {
    let Some(msr) = msr else {
        return "unknown; KVM's list says whether it is saved".into();
    };
    match msr.row.restore {
        rank::NEVER => "not state, or not KVM's".into(),
        rank::FEATURE => "first, with the feature MSRs".into(),
        rank::APIC => "with the APIC base, in agreement with KVM_SET_SREGS".into(),
        rank::TSC => "with the TSC, after plain MSRs".into(),
        rank::TIMER => "after the TSC".into(),
        rank::MCE => "after KVM_X86_SETUP_MCE".into(),
        rank::GPA => "after the memory slots exist".into(),
        order => format!("rank {order}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(index: u32, policy: &str) -> String {
        let policy = Policy::parse(&[("p.toml".into(), policy.into())]).unwrap();
        let lines = explain(index, &policy).into_iter();
        lines
            .map(|(what, words)| format!("{what}: {words}\n"))
            .collect()
    }

    #[test]
    fn the_path_names_the_rules_in_their_order() {
        let policy = "[[rule]]\nmsr = 'EFER'\naccess = 'w'\ndo = 'deny'\nnth = 2\n\
                      [[rule]]\nmsr = '0-0xffffffff'\nlog = true\n";
        let found = text(0xc000_0080, policy);
        for part in [
            "name: IA32_EFER",
            "guest write: the filter hands it out",
            "guest write: p.toml:2: deny, access 2 only\nguest write: p.toml:7: allow, done by",
        ] {
            assert!(found.contains(part), "{part}: {found}");
        }
        // It has no gate of its own: its bits have.
        assert!(!found.contains("exists with"), "{found}");
    }

    #[test]
    fn what_the_table_lacks_is_explained_as_far_as_it_goes() {
        let unnamed = text(0x666, "");
        assert!(
            unnamed.contains("none in Trapline's table")
                && unnamed.contains("does not know it: deny")
        );
        assert!(text(0x802, "").contains("past every filter"));
    }
}
