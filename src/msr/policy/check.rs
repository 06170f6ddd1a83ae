//! What a policy asks of KVM, what KVM cannot do of it, and what its author may not expect.

use super::super::filter::{LAST_FILTERABLE, Traps, X2APIC};
use super::super::names::{self, Forward, Msr};
use super::Policy;
use super::error::{PolicyError, Problem, Warning};
use super::rule::{Action, Rule, Scope};
use crate::trace::Direction;

/// Registers that the CPU or KVM loads and reads without `rdmsr` and `wrmsr`, and by what.
const OTHER_WAYS: &[(u32, &str)] = &[
    (0x10, "rdtsc and rdtscp read it"),
    (0x1b, "KVM_SET_SREGS sets it"),
    (0x174, "sysenter reads it"),
    (0x175, "sysenter reads it"),
    (0x176, "sysenter reads it"),
    (0xc000_0080, "mode switches load it"),
    (0xc000_0081, "syscall reads it"),
    (0xc000_0082, "syscall reads it"),
    (0xc000_0100, "segment loads and wrfsbase write it"),
    (0xc000_0101, "segment loads, wrgsbase and swapgs write it"),
    (0xc000_0102, "swapgs writes it"),
    (0xc000_0103, "rdtscp and rdpid read it"),
];

/// What a chain of rules needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// KVM alone handles the access.
    Nothing,
    /// It is only watched on its way.
    Watch,
    /// It is answered here, never by KVM.
    Answer,
    /// It is answered here for some, and done by KVM for others.
    Both,
}

fn is_x2apic(index: u32) -> bool {
    X2APIC.contains(&index)
}

const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    }
}

fn forward(msr: &Msr, direction: Direction) -> Forward {
    match direction {
        Direction::Read => msr.row.read,
        Direction::Write => msr.row.write,
    }
}

impl Policy {
    pub(super) fn check(&mut self) -> Result<(), PolicyError> {
        let named: Vec<Msr> = names::all().collect();
        let mut traps = Traps::default();
        let mut left: Vec<(u32, String)> = Vec::new();
        for (first, last, chains) in self.lookup.segments() {
            let inside = within(&named, first, last);
            let sides = [Direction::Read, Direction::Write];
            for (direction, chain) in sides.into_iter().zip(chains) {
                let rules: Vec<&Rule> = chain.iter().filter_map(|&id| self.rule(id)).collect();
                let need = self.need(&rules);
                if need == Need::Nothing {
                    continue;
                }
                let never = || {
                    inside
                        .iter()
                        .filter(|msr| !is_x2apic(msr.index))
                        .filter(|msr| forward(msr, direction) == Forward::Never)
                };
                let blamed = rules
                    .iter()
                    .find(|r| r.watches() || r.action != Action::Allow);
                if let (Need::Both, Some(msr)) = (need, never().next()) {
                    return Err(self.never(blamed.copied(), msr, direction));
                }
                if need != Need::Watch {
                    traps.add(direction, first, last);
                    continue;
                }
                if let (Some(rule), Some(msr)) = (blamed, never().next())
                    && rule.scope == Scope::Single
                {
                    return Err(self.never(Some(rule), msr, direction));
                }
                for (from, to) in watchable(first, last, inside, direction) {
                    traps.add(direction, from, to);
                }
                for msr in never() {
                    left.push((msr.index, format!("{} ({})", msr.name, word(direction))));
                }
            }
        }
        self.traps = traps;
        self.warnings = self.warn(&left);
        Ok(())
    }

    fn need(&self, chain: &[&Rule]) -> Need {
        let falls = !chain.last().is_some_and(|rule| rule.decides());
        let by_kvm = falls && self.filter == Action::Allow
            || chain.iter().any(|rule| rule.action == Action::Allow);
        let here = falls && self.filter != Action::Allow
            || chain.iter().any(|rule| rule.action != Action::Allow);
        let watched = chain.iter().any(|rule| rule.watches());
        match (by_kvm, here) {
            (true, true) => Need::Both,
            (false, _) => Need::Answer,
            (true, false) if watched => Need::Watch,
            (true, false) => Need::Nothing,
        }
    }

    fn never(&self, rule: Option<&Rule>, msr: &Msr, direction: Direction) -> PolicyError {
        let place = rule.or(self.rules.first()).map_or(
            super::Place {
                file: 0,
                line: 1,
                column: 1,
            },
            |rule| rule.place,
        );
        let problem = Problem::Never {
            access: word(direction),
            name: msr.name.to_string(),
        };
        self.at(place, problem)
    }

    fn warn(&self, left: &[(u32, String)]) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for rule in &self.rules {
            let mut warn = |text: String| {
                let file = self.files.get(usize::from(rule.place.file));
                warnings.push(Warning {
                    file: file.cloned().unwrap_or_default(),
                    line: rule.place.line,
                    text,
                });
            };
            let has = |index: u32| rule.indices.iter().any(|r| (r.0..=r.1).contains(&index));
            if rule.action == Action::Allow && !rule.watches() {
                continue;
            }
            let meets = |r: &(u32, u32)| r.0 <= *X2APIC.end() && r.1 >= *X2APIC.start();
            if rule.indices.iter().any(meets) {
                warn(
                    "0x800-0x8ff, the x2APIC, are outside every filter: KVM handles them, and they \
                     come out only when KVM refuses them"
                        .into(),
                );
            }
            if rule.scope == Scope::Single && has(u32::MAX) && LAST_FILTERABLE < u32::MAX {
                warn(
                    "no filter reaches 0xffffffff; it comes out because KVM does not know it"
                        .into(),
                );
            }
            if matches!(
                rule.action,
                Action::Emulate(_) | Action::Ask | Action::Ignore
            ) {
                self.warn_of_effect(rule, &mut warn);
            }
            if rule.scope == Scope::Single
                && rule.action != Action::Allow
                && let Some((_, how)) = OTHER_WAYS.iter().find(|(index, _)| has(*index))
            {
                warn(format!(
                    "{} is reached without rdmsr and wrmsr too ({how}), which this rule does not see",
                    rule.msr
                ));
            }
            let unseen: Vec<&str> = left
                .iter()
                .filter(|(index, _)| rule.watches() && has(*index))
                .map(|(_, text)| text.as_str())
                .collect();
            if let [first, ..] = unseen.as_slice() {
                let shown = unseen.get(..unseen.len().min(8)).unwrap_or_default();
                let more = match unseen.len().saturating_sub(shown.len()) {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                debug_assert!(!first.is_empty(), "names are never empty");
                warn(format!(
                    "left to KVM and not seen, because KVM treats the host's access otherwise: \
                     {}{more}; the host's tracepoint kvm:kvm_msr sees them",
                    shown.join(", ")
                ));
            }
        }
        warnings
    }

    fn warn_of_effect(&self, rule: &Rule, warn: &mut impl FnMut(String)) {
        let live: Vec<Msr> = names::all()
            .filter(|msr| msr.row.effect && !is_x2apic(msr.index))
            .filter(|msr| {
                rule.indices
                    .iter()
                    .any(|r| (r.0..=r.1).contains(&msr.index))
            })
            .collect();
        // An answer to an MSR that KVM refuses in any case detaches nothing; a filter does.
        if let [first, ..] = live.as_slice() {
            let all = match live.len() {
                1 => first.name.to_string(),
                many => format!("{} and {} more", first.name, many.saturating_sub(1)),
            };
            warn(format!(
                "the CPU acts on {all}: what this rule answers or drops is not what the CPU does"
            ));
        }
    }
}

/// Where the MSRs lie that KVM handles: what the processors' MSR bitmaps cover (SDM 3C, 25.6.9; APM 2, 15.11), the
/// Hyper-V ones (TLFS, appendix F) and KVM's own. What lies elsewhere and has no name comes out by itself, because
/// KVM does not know it.
const HANDLED: [(u32, u32); 5] = [
    (0, 0x1fff),
    (0x4000_0000, 0x4000_10ff),
    (0x4b56_4d00, 0x4b56_4dff),
    (0xc000_0000, 0xc000_1fff),
    (0xc001_0000, 0xc001_1fff),
];

/// The MSRs of a range that can be watched, with and without a name.
fn watchable(first: u32, last: u32, named: &[Msr], direction: Direction) -> Vec<(u32, u32)> {
    let handled = HANDLED
        .iter()
        .map(|(from, to)| (first.max(*from), last.min(*to)))
        .filter(|(from, to)| from <= to);
    let mut parts: Vec<_> = handled
        .chain(named.iter().map(|msr| (msr.index, msr.index)))
        .collect();
    parts.sort_unstable();
    let never = named
        .iter()
        .filter(|msr| forward(msr, direction) == Forward::Never);
    let mut holes: Vec<_> = never.map(|msr| (msr.index, msr.index)).collect();
    holes.push((*X2APIC.start(), *X2APIC.end()));
    holes.sort_unstable();
    for (from, to) in holes {
        parts = parts
            .into_iter()
            .flat_map(|part| {
                let before = (from > part.0).then(|| (part.0, part.1.min(from.saturating_sub(1))));
                let after = (to < part.1).then(|| (part.0.max(to.saturating_add(1)), part.1));
                [before, after].into_iter().flatten()
            })
            .collect();
    }
    parts.sort_unstable();
    parts
}

fn within(named: &[Msr], first: u32, last: u32) -> &[Msr] {
    let from = named.partition_point(|msr| msr.index < first);
    let to = named.partition_point(|msr| msr.index <= last);
    named.get(from..to).unwrap_or_default()
}
