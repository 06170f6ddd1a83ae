use super::*;
use crate::bus::{Ns, TestClock};
use crate::msr::forward::tests::Fake;

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl MsrListener for Heard {
    fn line(&self, line: String) {
        lock(&self.0).push(line);
    }
}

struct Rig {
    engine: Engine,
    clock: Arc<TestClock>,
    heard: Arc<Heard>,
    cpu: Fake,
}

fn policy(text: &str) -> Policy {
    Policy::parse(&[("p.toml".into(), text.into())]).unwrap()
}

fn rig(text: &str) -> Rig {
    let (clock, heard) = (Arc::new(TestClock::default()), Arc::new(Heard::default()));
    let asker: Option<Arc<dyn Asker>> = Some(Arc::new(Echo));
    let engine = Engine::new(policy(text), asker, 2, clock.clone(), heard.clone());
    Rig {
        engine,
        clock,
        heard,
        cpu: Fake::default(),
    }
}

/// Answers with the MSR's index; MSR 1 gets #GP, MSR 2 no answer.
#[derive(Debug)]
struct Echo;

impl Asker for Echo {
    fn ask(&self, question: Question) -> Result<Reply, AskError> {
        match question.msr {
            1 => Ok(Reply::Fault),
            2 => Err(AskError::Slow(100)),
            index => Ok(Reply::Value(index)),
        }
    }
}

impl Rig {
    fn on(&mut self, vcpu: u8, index: u32, op: Op, reason: Reason) -> MsrAnswer {
        let access = MsrAccess {
            vcpu,
            index,
            op,
            reason,
        };
        self.engine.answer(access, &mut self.cpu)
    }

    fn read(&mut self, index: u32) -> MsrAnswer {
        self.on(0, index, Op::Read, Reason::Filter)
    }

    fn write(&mut self, index: u32, value: u64) -> MsrAnswer {
        self.on(0, index, Op::Write(value), Reason::Filter)
    }
}

const DONE: MsrAnswer = MsrAnswer::Value(0);

#[test]
fn without_a_policy_everything_gets_gp_and_is_counted() {
    let mut rig = rig("");
    for reason in [Reason::Unknown, Reason::Inval] {
        assert_eq!(rig.on(0, 0x666, Op::Read, reason), MsrAnswer::Fault);
        assert_eq!(rig.on(1, 0x666, Op::Write(1), reason), MsrAnswer::Fault);
    }
    let tally = MsrTally {
        reads: 2,
        writes: 2,
        refused: 4,
    };
    assert_eq!(rig.engine.tallies(), BTreeMap::from([(0x666, tally)]));
    assert!(lock(&rig.heard.0).is_empty());
}

#[test]
fn a_guest_that_tries_every_msr_does_not_fill_memory() {
    let mut rig = rig("");
    for index in 0..5000 {
        rig.on(0, index, Op::Read, Reason::Unknown);
    }
    let tallies = rig.engine.tallies();
    assert_eq!(tallies.len(), TOLD_APART);
    assert_eq!(tallies.values().map(|t| t.reads).sum::<u64>(), 5000);
}

#[test]
fn what_is_allowed_and_logged_is_done_by_kvm_under_the_guests_rules() {
    let mut rig = rig("[[rule]]\nmsr = '0-0xffffffff'\nlog = true\n");
    rig.cpu.values.insert(0x1a0, 0x1801);
    assert_eq!(rig.read(0x1a0), MsrAnswer::Value(0x1801));
    assert_eq!(rig.write(0x1a0, 0x1800), DONE);
    assert_eq!(rig.cpu.values[&0x1a0], 0x1800);
    assert_eq!(rig.write(0x1a0, 0), MsrAnswer::Fault, "a fixed bit changes");
    assert_eq!(rig.read(0x666), MsrAnswer::Fault);
    assert_eq!(
        lock(&rig.heard.0)[1],
        "msr: vCPU 0 at 0x1000: wrmsr IA32_MISC_ENABLE (0x1a0) <- 0x1800 (filtered) [p.toml:2]"
    );
}

#[test]
fn nth_injects_an_answer_into_the_nth_access_of_a_vcpu() {
    let mut rig =
        rig("[[rule]]\nmsr = 'PLATFORM_INFO'\naccess = 'r'\ndo = 'emulate'\nvalue = 7\nnth = 3\n");
    rig.cpu.values.insert(0xce, 1);
    let mut on = |vcpu| rig.on(vcpu, 0xce, Op::Read, Reason::Filter);
    let answers: Vec<_> = [0, 0, 1, 0, 0, 1, 1].into_iter().map(&mut on).collect();
    let expected = [1, 1, 1, 7, 1, 1, 7].map(MsrAnswer::Value);
    assert_eq!(answers, expected);
}

#[test]
fn emulated_values_are_per_vcpu_or_shared() {
    let mut rig = rig("[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 1\n\
         [[rule]]\nmsr = 0x667\ndo = 'emulate'\nshared = true\n");
    for index in [0x666, 0x667] {
        assert_eq!(rig.on(0, index, Op::Write(9), Reason::Unknown), DONE);
    }
    let other = |rig: &mut Rig, index| rig.on(1, index, Op::Read, Reason::Unknown);
    assert_eq!(other(&mut rig, 0x666), MsrAnswer::Value(1));
    assert_eq!(other(&mut rig, 0x667), MsrAnswer::Value(9));
}

#[test]
fn a_reset_restores_first_values_but_those_that_survive_it() {
    let mut rig = rig("[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 1\n\
         [[rule]]\nmsr = 0x667\ndo = 'emulate'\nreset = 'power'\n\
         [[rule]]\nmsr = 0x668\ndo = 'emulate'\ncounter = 1000000000\n");
    for index in 0x666..0x668 {
        rig.write(index, 5);
    }
    rig.clock.advance(Ns(100));
    assert_eq!(rig.read(0x668), MsrAnswer::Value(100));
    rig.engine.reset(ResetKind::Warm);
    let read = |rig: &mut Rig| (0x666..0x669).map(|i| rig.read(i)).collect::<Vec<_>>();
    assert_eq!(read(&mut rig), [1, 5, 0].map(MsrAnswer::Value));
    rig.engine.reset(ResetKind::Cold);
    assert_eq!(read(&mut rig), [1, 0, 0].map(MsrAnswer::Value));
}

#[test]
fn state_is_saved_whole_and_checked_when_loaded() {
    let text = "[[rule]]\nmsr = 'TSC_AUX'\ndo = 'emulate'\nmask = 0xff\n\
                [[rule]]\nmsr = 0x667\ndo = 'emulate'\nshared = true\n\
                [[rule]]\nmsr = 0x600\ndo = 'deny'\nnth = 2\n";
    let mut first = rig(text);
    first.write(0xc000_0103, 0x12);
    first.write(0x667, 0x34);
    first.on(0, 0x600, Op::Read, Reason::Filter);
    let state = first.engine.save();
    let json = serde_json::to_value(&state).unwrap();
    let mut other = rig(text);
    other
        .engine
        .load(&serde_json::from_value(json.clone()).unwrap())
        .unwrap();
    assert_eq!(other.engine.save(), state);
    assert_eq!(other.read(0xc000_0103), MsrAnswer::Value(0x12));
    let spoil = |path: &str, value: serde_json::Value| {
        let mut spoilt = json.clone();
        *spoilt.pointer_mut(path).unwrap() = value;
        let state: Result<MsrState, _> = serde_json::from_value(spoilt);
        state.is_err() || other.engine.load(&state.unwrap()).is_err()
    };
    for (path, value) in [
        ("/cells/0/rule", 9.into()),
        ("/cells/0/rule", 2.into()),
        ("/cells/0/msr", 0x668.into()),
        ("/cells/0/vcpu", 0.into()),
        ("/cells/1/vcpu", 7.into()),
        ("/cells/1/vcpu", serde_json::Value::Null),
        ("/cells/1/cell/value", 0x100.into()),
        ("/counts/0/rule", 0.into()),
        ("/counts/0/vcpu", 200.into()),
        ("/born/power", 5.into()),
    ] {
        assert!(spoil(path, value.clone()), "{path} = {value}");
    }
    assert_eq!(
        other.engine.save(),
        state,
        "what is refused changes nothing"
    );
}

#[test]
fn a_new_policy_keeps_the_registers_both_have() {
    let kept = "[[rule]]\nmsr = 0x666\ndo = 'emulate'\nmask = 0xf\n";
    let mut rig = rig(kept);
    rig.write(0x666, 5);
    let more = format!("[[rule]]\nmsr = 0x10\naccess = 'r'\ndo = 'deny'\n{kept}");
    rig.engine.swap(policy(&more), None);
    assert_eq!(rig.read(0x666), MsrAnswer::Value(5));
    rig.engine.swap(
        policy("[[rule]]\nmsr = 0x666\ndo = 'emulate'\nvalue = 2\n"),
        None,
    );
    assert_eq!(rig.read(0x666), MsrAnswer::Value(2));
}

#[test]
fn a_program_is_asked_and_its_failure_is_answered_as_the_policy_says() {
    let mut rig =
        rig("[ask]\ncommand = 'x'\notherwise = 'ignore'\n[[rule]]\nmsr = '0-9'\ndo = 'ask'\n");
    assert_eq!(rig.read(5), MsrAnswer::Value(5));
    assert_eq!(rig.read(1), MsrAnswer::Fault);
    assert_eq!(rig.read(2), DONE);
    let heard = lock(&rig.heard.0).join("\n");
    assert!(heard.contains("gave no answer within 100 ms"), "{heard}");
}

#[test]
fn stop_ends_the_run_and_says_where() {
    let mut rig = rig("[[rule]]\nmsr = 'EFER'\naccess = 'w'\ndo = 'stop'\n");
    assert_eq!(rig.write(0xc000_0080, 1), MsrAnswer::Stop);
    let access = MsrAccess {
        vcpu: 0,
        index: 0xc000_0080,
        op: Op::Write(1),
        reason: Reason::Filter,
    };
    assert_eq!(
        rig.engine.why(access),
        "p.toml:2: vCPU 0: wrmsr IA32_EFER (0xc0000080)"
    );
}

#[test]
fn a_hammering_guest_fills_the_counts_and_not_the_log() {
    let mut rig = rig("[[rule]]\nmsr = 0x666\ndo = 'deny'\nlog = true\n");
    for _ in 0..100_000 {
        rig.read(0x666);
    }
    let said = u64::try_from(lock(&rig.heard.0).len()).unwrap();
    assert!(said < 100, "{said} lines");
    assert_eq!(said + rig.engine.unsaid(), 100_000);
    assert_eq!(rig.engine.tallies()[&0x666].refused, 100_000);
}

#[test]
fn ignored_unknown_msrs_read_zero_and_known_ones_still_fault() {
    let mut rig =
        rig("[default]\nunknown = 'ignore'\n[[rule]]\nmsr = '0-0xffffffff'\nlog = true\n");
    assert_eq!(rig.on(0, 0x666, Op::Read, Reason::Unknown), DONE);
    assert_eq!(rig.on(0, 0x666, Op::Write(1), Reason::Filter), DONE);
    rig.cpu.refuses = true;
    assert_eq!(rig.write(0xc000_0082, 1), MsrAnswer::Fault);
}
