//! Accesses as they were answered, and a policy that answers like that.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::access::{MsrAccess, MsrAnswer, Op};
use super::model::{Cell, Model};
use super::names;

/// One access and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Guest time in nanoseconds.
    pub ns: u64,
    /// The access.
    pub access: MsrAccess,
    /// Where its instruction lies; none when KVM did not say.
    pub rip: Option<u64>,
    /// The words on top of the stack: among them is where a function that has pushed little returns to.
    pub stack: Option<[u64; 4]>,
    /// What the guest got.
    pub answer: MsrAnswer,
}

/// How a policy answers one MSR as it was recorded.
enum Like {
    /// KVM is left to it, for this reason.
    Kvm(&'static str),
    /// A register, for each value it may begin with and the vCPUs that it does for.
    Register(Vec<(Model, Vec<u8>)>, &'static str),
    /// Every access of the kind gets #GP.
    Refused(&'static str),
}

/// A policy, as TOML, under which the guest gets for MSRs without architectural effect what it got when this was
/// recorded. The rest is left to KVM. `about` is said in its first lines.
#[must_use]
pub fn imitate(recorded: &[Recorded], about: &str) -> String {
    let mut by_msr: BTreeMap<u32, Vec<&Recorded>> = BTreeMap::new();
    for one in recorded {
        by_msr.entry(one.access.index).or_default().push(one);
    }
    let mut text = String::from(
        "# MSRs without architectural effect, answered as they were recorded; KVM handles the others.\n",
    );
    for line in about.lines() {
        let _ = writeln!(text, "# {line}");
    }
    for (index, mut accesses) in by_msr {
        accesses.sort_by_key(|one| one.ns);
        let found = like(index, &accesses);
        put(&mut text, index, &accesses, &found);
    }
    text
}

fn put(text: &mut String, index: u32, accesses: &[&Recorded], found: &Like) {
    let name = names::of(index).map_or_else(|| format!("{index:#x}"), |msr| msr.name.to_string());
    let reads = accesses
        .iter()
        .filter(|one| one.access.op == Op::Read)
        .count();
    let writes = accesses.len().saturating_sub(reads);
    let times = match (reads, writes) {
        (reads, 0) => format!("{reads} reads"),
        (0, writes) => format!("{writes} writes"),
        (reads, writes) => format!("{reads} reads, {writes} writes"),
    };
    // Writing cannot fail: a String takes everything.
    let _ = match found {
        Like::Kvm(why) => writeln!(text, "\n# {name}, {times}: KVM's, {why}."),
        Like::Refused(access) => writeln!(
            text,
            "\n# {name}, {times}.\n[[rule]]\nmsr = \"{index:#x}\"\naccess = \"{access}\"\ndo = \"deny\""
        ),
        Like::Register(models, access) => {
            let _ = writeln!(text, "\n# {name}, {times}.");
            for (model, vcpus) in models {
                let _ = writeln!(
                    text,
                    "[[rule]]\nmsr = \"{index:#x}\"\naccess = \"{access}\"\ndo = \"emulate\""
                );
                let _ = writeln!(text, "value = \"{:#x}\"", model.value);
                if model.read_only {
                    let _ = writeln!(text, "read-only = true");
                } else if model.mask != model.bits() {
                    let _ = writeln!(text, "mask = \"{:#x}\"", model.mask);
                }
                if model.shared {
                    let _ = writeln!(text, "shared = true");
                }
                if models.len() > 1 {
                    let _ = writeln!(text, "vcpu = {vcpus:?}");
                }
            }
            Ok(())
        }
    };
}

fn like(index: u32, accesses: &[&Recorded]) -> Like {
    let known = names::of(index);
    if known.is_some_and(|msr| msr.row.effect) {
        return Like::Kvm("the CPU acts on it");
    }
    if known.is_some_and(|msr| msr.row.volatile) {
        return Like::Kvm("it changes by itself");
    }
    let reads = accesses.iter().any(|one| one.access.op == Op::Read);
    let writes = accesses.iter().any(|one| one.access.op != Op::Read);
    let access = match (reads, writes) {
        (true, false) => "r",
        (false, true) => "w",
        _ => "rw",
    };
    if accesses.iter().all(|one| one.answer == MsrAnswer::Fault) {
        return Like::Refused(access);
    }
    let width = known.map_or(64, |msr| msr.row.width);
    let writable = known.map_or(u64::MAX, |msr| msr.row.writable);
    let plain = Model {
        width,
        ..Model::constant(0)
    };
    let masks = [plain.bits(), writable & plain.bits(), 0];
    let candidates = masks
        .iter()
        .flat_map(|&mask| {
            let model = Model { mask, ..plain };
            [
                model,
                Model {
                    shared: true,
                    ..model
                },
            ]
        })
        .chain([Model {
            read_only: true,
            ..plain
        }]);
    // The simplest that answers right: of those for as few groups of vCPUs as can be, the first.
    let found = candidates.filter_map(|candidate| fits(candidate, accesses));
    match found.min_by_key(Vec::len) {
        Some(models) => Like::Register(models, access),
        None => Like::Kvm("its answers follow from more than what was written"),
    }
}

/// The candidate with the value or values it must begin with, if it answers all of this as it was answered.
fn fits(candidate: Model, accesses: &[&Recorded]) -> Option<Vec<(Model, Vec<u8>)>> {
    let mut vcpus: Vec<u8> = accesses.iter().map(|one| one.access.vcpu).collect();
    vcpus.sort_unstable();
    vcpus.dedup();
    let mut models: Vec<(Model, Vec<u8>)> = Vec::new();
    let parts: Vec<Option<u8>> = if candidate.shared {
        vec![None]
    } else {
        vcpus.iter().copied().map(Some).collect()
    };
    for part in parts {
        let own = accesses
            .iter()
            .filter(|one| part.is_none_or(|vcpu| one.access.vcpu == vcpu));
        let model = begins(candidate, own.copied())?;
        let ids = part.map_or_else(|| vcpus.clone(), |vcpu| vec![vcpu]);
        match models.iter_mut().find(|(known, _)| *known == model) {
            Some((_, known)) => known.extend(ids),
            None => models.push((model, ids)),
        }
    }
    Some(models)
}

fn begins<'a>(
    candidate: Model,
    accesses: impl Iterator<Item = &'a Recorded> + Clone,
) -> Option<Model> {
    let mut model = candidate;
    // What it holds before the first write shows in a read before it; after it only in bits that a write leaves.
    let first = accesses
        .clone()
        .find_map(|one| match (one.access.op, one.answer) {
            (Op::Read, MsrAnswer::Value(value)) => Some(value),
            _ => None,
        });
    model.value = first.unwrap_or(0);
    if model.value & !model.bits() != 0 {
        return None;
    }
    let mut cell: Cell = model.fresh(0);
    for one in accesses {
        match (one.access.op, one.answer) {
            (Op::Read, MsrAnswer::Value(value)) if model.read(cell, 0) == value => {}
            (Op::Write(value), MsrAnswer::Value(_)) => cell = model.write(cell, value, 0)?,
            (Op::Write(value), MsrAnswer::Fault) if model.write(cell, value, 0).is_none() => {}
            _ => return None,
        }
    }
    Some(model)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bus::TestClock;
    use crate::msr::forward::tests::Fake;
    use crate::msr::policy::Policy;
    use crate::msr::{Engine, MsrHandler, MsrListener, Reason};

    struct Deaf;

    impl MsrListener for Deaf {
        fn line(&self, _: String) {}
    }

    /// Accesses in their order, a nanosecond apart.
    fn tape(accesses: &[(u8, u32, Op, MsrAnswer)]) -> Vec<Recorded> {
        let one = |(ns, &(vcpu, index, op, answer)): (u64, &(u8, u32, Op, MsrAnswer))| Recorded {
            ns,
            access: MsrAccess {
                vcpu,
                index,
                op,
                reason: Reason::Filter,
            },
            rip: None,
            stack: None,
            answer,
        };
        (0..).zip(accesses).map(one).collect()
    }

    const DONE: MsrAnswer = MsrAnswer::Value(0);
    const READ: Op = Op::Read;

    /// Replays a tape under the policy made of it; how many rules that has, and what was left to KVM.
    fn replay(tape: &[Recorded]) -> (usize, String) {
        let text = imitate(tape, "a test\nof two lines");
        let policy = Policy::parse(&[("made".into(), text.clone())]).unwrap();
        let rules = policy.rules().len();
        let engine = Engine::new(
            policy,
            None,
            4,
            Arc::new(TestClock::default()),
            Arc::new(Deaf),
        );
        let mut cpu = Fake::default();
        for one in tape {
            let own = format!(
                "# {}",
                names::of(one.access.index).map_or(String::new(), |m| m.name.to_string())
            );
            let kvms = text
                .lines()
                .any(|line| line.starts_with(&own) && line.contains("KVM's"));
            if !kvms {
                assert_eq!(
                    engine.answer(one.access, &mut cpu),
                    one.answer,
                    "{one:x?}\n{text}"
                );
            }
        }
        (rules, text)
    }

    #[test]
    fn what_was_answered_is_answered_so_again() {
        let value = MsrAnswer::Value;
        let (rules, text) = replay(&tape(&[
            (0, 0x1a0, READ, value(1)),
            (1, 0x1a0, READ, value(1)),
            // Kept as written.
            (0, 0x8b, Op::Write(0), DONE),
            (0, 0x8b, READ, value(0)),
            (0, 0x666, READ, value(5)),
            (0, 0x666, Op::Write(9), DONE),
            (0, 0x666, READ, value(9)),
            // Taken and dropped.
            (0, 0x667, READ, value(5)),
            (0, 0x667, Op::Write(9), DONE),
            (0, 0x667, READ, value(5)),
            // Never there.
            (0, 0x668, READ, MsrAnswer::Fault),
            // Its writes get #GP.
            (0, 0x669, READ, value(3)),
            (0, 0x669, Op::Write(3), MsrAnswer::Fault),
            // Another on each vCPU, and one for all.
            (0, 0x66a, READ, value(0)),
            (1, 0x66a, READ, value(1)),
            (2, 0x66a, READ, value(1)),
            (0, 0x66b, Op::Write(4), DONE),
            (1, 0x66b, READ, value(4)),
        ]));
        assert_eq!(rules, 8, "{text}");
        assert!(text.starts_with("# MSRs without") && text.contains("# a test\n# of two lines\n"));
        assert!(
            text.contains("vcpu = [1, 2]") && text.contains("shared = true"),
            "{text}"
        );
    }

    #[test]
    fn what_the_cpu_acts_on_and_what_follows_no_rule_is_left_to_kvm() {
        let value = MsrAnswer::Value;
        let (rules, text) = replay(&tape(&[
            (0, 0xc000_0080, READ, value(0xd01)),
            (0, 0x10, READ, value(77)),
        ]));
        assert_eq!(rules, 0);
        assert!(
            text.contains("IA32_EFER, 1 reads: KVM's, the CPU acts on it."),
            "{text}"
        );
        let moving = tape(&[(0, 0x666, READ, value(1)), (0, 0x666, READ, value(2))]);
        let text = imitate(&moving, "");
        assert!(
            text.contains("0x666, 2 reads: KVM's, its answers follow from more"),
            "{text}"
        );
    }
}
