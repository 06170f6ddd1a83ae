//! How a run ended, and the exit status that says so (design section 5).

use serde::Serialize;

use super::end::End;

/// Ends of one kind that are kept; a guest can oops in a loop under `--on-oops continue`.
const KEPT_PER_KIND: usize = 8;

/// The highest status a guest can report as such; above it are Trapline's own.
const GUEST_MAX: u8 = 63;

/// `--on-oops`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum OnOops {
    /// The run ends with 70 once the oops is printed
    #[default]
    Stop,
    /// The run goes on; its status is 70 at the end
    Continue,
    /// The oops is shown and counted, nothing else
    Ignore,
}

/// `--on-reboot`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum OnReboot {
    /// The run ends with status 0
    #[default]
    Exit,
    /// The machine starts again, as hardware does
    Reset,
}

/// `--exit-rule`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum ExitRule {
    /// What the guest reports, up to 63
    #[default]
    Own,
    /// (value << 1) | 1, as QEMU ends through isa-debug-exit: never 0
    Qemu,
}

impl ExitRule {
    fn status(self, value: u64) -> u8 {
        match self {
            Self::Own => u8::try_from(value).unwrap_or(u8::MAX).min(GUEST_MAX),
            // exit(3) keeps the low eight bits.
            Self::Qemu => (value << 1 | 1).to_le_bytes()[0],
        }
    }

    /// Whether the status no longer tells what the guest said.
    const fn loses(self, value: u64) -> bool {
        match self {
            Self::Own => value > GUEST_MAX as u64,
            Self::Qemu => value > 0x7f,
        }
    }
}

/// What the run does after an end was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It goes on.
    GoOn,
    /// It goes on until the guest has printed the rest of its report, or a moment longer; then it
    /// stops. Stopping at the first line of an oops would cut off its trace.
    Settle,
    /// The machine starts again.
    Reset,
    /// It stops.
    Stop,
}

/// Every end of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    #[serde(skip)]
    on_oops: OnOops,
    #[serde(skip)]
    on_reboot: OnReboot,
    #[serde(skip)]
    exit_rule: ExitRule,
    ends: Vec<End>,
    /// Ends that were noted but not kept.
    #[serde(skip_serializing_if = "is_zero")]
    more: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "signature given by serde"
)]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The classes of design section 5, the one that decides last: `Ord` is the precedence. A policy's
/// stop is an answer the user asked for, so it goes before what the guest says of itself; a signal
/// and `ctl stop` only cut short a run that had not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Quiet,
    Late,
    Signalled(u8),
    Stopped,
    Guest(u8),
    Policy,
    Kernel,
    TripleFault,
    Kvm,
    Vmm,
}

impl Class {
    const fn status(self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Late => 72,
            Self::Signalled(status) | Self::Guest(status) => status,
            Self::Stopped | Self::Policy => 76,
            Self::Kernel => 70,
            Self::TripleFault => 71,
            Self::Kvm => 73,
            Self::Vmm => 74,
        }
    }
}

impl Outcome {
    /// No end yet.
    #[must_use]
    pub fn new(on_oops: OnOops, on_reboot: OnReboot) -> Self {
        Self {
            on_oops,
            on_reboot,
            ..Self::default()
        }
    }

    /// The same under another rule for what the guest reports.
    #[must_use]
    pub const fn with_exit_rule(mut self, rule: ExitRule) -> Self {
        self.exit_rule = rule;
        self
    }

    /// Notes an end and says what the run does now.
    pub fn note(&mut self, end: End) -> Next {
        let next = match &end {
            End::Reported { .. } => Next::GoOn,
            End::Oopsed { .. } => match self.on_oops {
                OnOops::Stop => Next::Settle,
                OnOops::Continue | OnOops::Ignore => Next::GoOn,
            },
            End::Panicked { .. } => Next::Settle,
            // `panic=-1` reboots: a machine that starts again would panic for ever.
            End::Rebooted if self.on_reboot == OnReboot::Reset && !self.panicked() => Next::Reset,
            _ => Next::Stop,
        };
        let kind = std::mem::discriminant(&end);
        let same = |e: &&End| std::mem::discriminant(*e) == kind;
        if matches!(end, End::Reported { .. }) {
            // The last report is the guest's answer; the ones before it are progress.
            self.ends.retain(|e| std::mem::discriminant(e) != kind);
        }
        if self.ends.iter().filter(same).count() < KEPT_PER_KIND {
            self.ends.push(end);
        } else {
            self.more = self.more.saturating_add(1);
        }
        next
    }

    fn panicked(&self) -> bool {
        self.ends
            .iter()
            .any(|end| matches!(end, End::Panicked { .. }))
    }

    fn class(&self, end: &End) -> Class {
        match end {
            // The machine started again: a step on the way, and no answer.
            End::Rebooted if self.on_reboot == OnReboot::Reset => Class::Quiet,
            End::PoweredOff | End::Rebooted => Class::Guest(0),
            End::Reported { value } | End::Exited { value } => {
                Class::Guest(self.exit_rule.status(value.0))
            }
            End::Oopsed { .. } if self.on_oops == OnOops::Ignore => Class::Quiet,
            End::Panicked { .. } | End::Oopsed { .. } => Class::Kernel,
            End::TripleFault { .. } => Class::TripleFault,
            End::TimedOut { .. } | End::Hung { .. } => Class::Late,
            End::InternalError { .. } | End::FailedEntry { .. } => Class::Kvm,
            End::Vmm { .. } => Class::Vmm,
            End::Policy { .. } => Class::Policy,
            End::Ctl => Class::Stopped,
            End::Signal { number } => {
                Class::Signalled(u8::try_from(number.saturating_add(128)).unwrap_or(u8::MAX))
            }
        }
    }

    /// The end that decides the status: the first of the highest class.
    #[must_use]
    pub fn decisive(&self) -> Option<&End> {
        self.ends.iter().rev().max_by_key(|end| self.class(end))
    }

    /// The exit status. A run that ended without any end noted is our own fault: 74.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.decisive()
            .map_or(Class::Vmm, |end| self.class(end))
            .status()
    }

    /// Whether the status is one that comes with a post-mortem.
    #[must_use]
    pub fn wants_post_mortem(&self) -> bool {
        // By class: under QEMU's rule a guest's own status can be any odd number.
        let class = self.decisive().map_or(Class::Vmm, |end| self.class(end));
        !matches!(class, Class::Guest(_)) && (70..=74).contains(&class.status())
    }

    /// Whether the guest hung, whatever the status.
    #[must_use]
    pub fn hung(&self) -> bool {
        self.ends.iter().any(|end| matches!(end, End::Hung { .. }))
    }

    /// Names the places where the guest hung, where `symbol` can.
    pub fn name_hangs(&mut self, symbol: impl Fn(u64) -> Option<String>) {
        for end in &mut self.ends {
            if let End::Hung { hang } = end {
                hang.name(&symbol);
            }
        }
    }

    /// Every end kept, in the order they happened.
    #[must_use]
    pub fn ends(&self) -> &[End] {
        &self.ends
    }

    /// The ends worth a line on standard error, the decisive one first. An orderly end has none.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let decisive = self.decisive();
        let first = decisive.into_iter();
        let rest = self
            .ends
            .iter()
            .filter(|end| !decisive.is_some_and(|d| std::ptr::eq(d, *end)));
        first
            .chain(rest)
            .filter_map(|end| worth_saying(end, self.exit_rule))
            .collect()
    }
}

fn worth_saying(end: &End, rule: ExitRule) -> Option<String> {
    match end {
        End::PoweredOff | End::Rebooted => None,
        // `| head` is an orderly way to stop.
        End::Signal { number } if *number == libc::SIGPIPE => None,
        End::Reported { value } | End::Exited { value } => rule.loses(value.0).then(|| {
            let status = rule.status(value.0);
            match rule {
                ExitRule::Own => {
                    format!("{end}, which is above {GUEST_MAX}: the exit status is {status}")
                }
                ExitRule::Qemu => format!("{end}, which is above 127: the exit status is {status}"),
            }
        }),
        _ => Some(end.to_string()),
    }
}

/// The status under `--bisect`: what does not tell about the kernel is 125, which `git bisect run`
/// takes as "skip this commit".
#[must_use]
pub const fn for_bisect(status: u8) -> u8 {
    match status {
        64 | 65 | 74 => 125,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::machine::hang::Hang;
    use crate::machine::hex::Hex;

    fn reported(value: u64) -> End {
        End::Reported { value: Hex(value) }
    }
    fn exited(value: u64) -> End {
        End::Exited { value: Hex(value) }
    }
    fn panicked() -> End {
        End::Panicked {
            line: "Kernel panic - not syncing: sysrq triggered crash".into(),
        }
    }
    fn oopsed() -> End {
        End::Oopsed {
            line: "Oops: 0000 [#1]".into(),
        }
    }
    fn late() -> End {
        End::TimedOut {
            after: Duration::from_secs(5),
        }
    }
    fn hung() -> End {
        End::Hung {
            hang: Hang::default(),
        }
    }
    fn vmm() -> End {
        End::Vmm {
            error: "serial: broken".into(),
        }
    }
    fn kvm() -> End {
        End::InternalError {
            suberror: 1,
            data: vec![],
        }
    }
    fn entry() -> End {
        End::FailedEntry {
            reason: Hex(0),
            cpu: 0,
        }
    }
    fn policy() -> End {
        End::Policy {
            rule: "stop on 0x10".into(),
        }
    }
    fn signal(number: i32) -> End {
        End::Signal { number }
    }
    fn triple() -> End {
        End::TripleFault { vcpu: 0 }
    }

    fn run(ends: &[End]) -> Outcome {
        let mut outcome = Outcome::default();
        for end in ends {
            outcome.note(end.clone());
        }
        outcome
    }

    #[test]
    fn a_guest_that_starts_again_has_not_answered() {
        let mut outcome = Outcome::new(OnOops::Stop, OnReboot::Reset);
        assert_eq!(outcome.note(End::Rebooted), Next::Reset);
        let after = Duration::from_secs(2);
        outcome.note(End::TimedOut { after });
        assert_eq!(outcome.status(), 72);
    }

    #[test]
    fn one_end_has_the_status_of_its_class() {
        let table = [
            (End::PoweredOff, 0),
            (End::Rebooted, 0),
            (reported(0), 0),
            (reported(7), 7),
            (exited(63), 63),
            (exited(64), 63),
            (reported(u64::MAX), 63),
            (panicked(), 70),
            (oopsed(), 70),
            (triple(), 71),
            (late(), 72),
            (hung(), 72),
            (kvm(), 73),
            (entry(), 73),
            (vmm(), 74),
            (policy(), 76),
            (End::Ctl, 76),
            (signal(libc::SIGINT), 130),
            (signal(libc::SIGTERM), 143),
            (signal(libc::SIGPIPE), 141),
        ];
        for (end, status) in table {
            assert_eq!(run(std::slice::from_ref(&end)).status(), status, "{end}");
        }
    }

    #[test]
    fn of_several_ends_the_precedence_decides_whatever_the_order() {
        // Each row beats the rows below it.
        let ladder: [(End, u8); 8] = [
            (vmm(), 74),
            (kvm(), 73),
            (triple(), 71),
            (panicked(), 70),
            (policy(), 76),
            (reported(3), 3),
            (End::Ctl, 76),
            (late(), 72),
        ];
        for (i, (high, status)) in ladder.iter().enumerate() {
            for (low, _) in &ladder[i..] {
                assert_eq!(run(&[high.clone(), low.clone()]).status(), *status);
                assert_eq!(run(&[low.clone(), high.clone()]).status(), *status);
            }
        }
    }

    #[test]
    fn what_follows_the_guests_answer_can_only_make_it_worse() {
        let table: [(&[End], u8); 7] = [
            (&[reported(0), panicked(), End::Rebooted], 70),
            (&[reported(7), End::PoweredOff], 7),
            (&[reported(0), late()], 0),
            (&[reported(7), hung()], 7),
            (&[reported(1), reported(0), End::PoweredOff], 0),
            (&[reported(5), signal(libc::SIGINT)], 5),
            (&[oopsed(), reported(0), End::PoweredOff], 70),
        ];
        for (ends, status) in table {
            assert_eq!(run(ends).status(), status, "{ends:?}");
        }
    }

    #[test]
    fn an_ignored_oops_changes_nothing_but_the_list() {
        let mut outcome = Outcome::new(OnOops::Ignore, OnReboot::Exit);
        assert_eq!(outcome.note(oopsed()), Next::GoOn);
        outcome.note(reported(4));
        assert_eq!(outcome.note(End::PoweredOff), Next::Stop);
        assert_eq!((outcome.status(), outcome.ends().len()), (4, 3));
    }

    #[test]
    fn oopses_and_reboots_do_what_their_options_say() {
        let next = |oops, reboot, end| Outcome::new(oops, reboot).note(end);
        assert_eq!(next(OnOops::Stop, OnReboot::Exit, oopsed()), Next::Settle);
        assert_eq!(next(OnOops::Continue, OnReboot::Exit, oopsed()), Next::GoOn);
        assert_eq!(
            next(OnOops::Continue, OnReboot::Exit, panicked()),
            Next::Settle
        );
        assert_eq!(
            next(OnOops::Stop, OnReboot::Exit, End::Rebooted),
            Next::Stop
        );
        assert_eq!(
            next(OnOops::Stop, OnReboot::Reset, End::Rebooted),
            Next::Reset
        );
        assert_eq!(next(OnOops::Stop, OnReboot::Reset, triple()), Next::Stop);
    }

    #[test]
    fn a_panic_that_reboots_does_not_start_again() {
        let mut outcome = Outcome::new(OnOops::Stop, OnReboot::Reset);
        outcome.note(panicked());
        assert_eq!(outcome.note(End::Rebooted), Next::Stop);
    }

    #[test]
    fn a_run_without_an_end_is_our_own_failure() {
        assert_eq!(Outcome::default().status(), 74);
    }

    #[test]
    fn the_true_value_is_told_when_the_status_cannot_carry_it() {
        let outcome = run(&[reported(300), End::PoweredOff]);
        assert_eq!(
            outcome.lines(),
            ["the guest reported 300, which is above 63: the exit status is 63"]
        );
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["ends"][0]["value"], "0x12c");
        assert!(run(&[reported(7), End::PoweredOff]).lines().is_empty());
    }

    #[test]
    fn the_decisive_end_is_told_first_and_is_the_first_of_its_class() {
        let mut second = panicked();
        if let End::Panicked { line } = &mut second {
            *line = "again".into();
        }
        let outcome = run(&[oopsed(), second, vmm()]);
        assert_eq!(outcome.lines()[0], "serial: broken");
        assert_eq!(
            run(&[late(), oopsed(), panicked()]).decisive(),
            Some(&oopsed())
        );
    }

    #[test]
    fn a_guest_that_oopses_for_ever_is_counted_not_kept() {
        let mut outcome = Outcome::new(OnOops::Continue, OnReboot::Exit);
        for _ in 0..1000 {
            outcome.note(oopsed());
        }
        assert_eq!((outcome.ends().len(), outcome.more), (8, 992));
    }

    #[test]
    fn under_qemus_rule_a_status_is_odd_and_only_the_guests_own_changes() {
        let status = |end: End| {
            let mut outcome = Outcome::default().with_exit_rule(ExitRule::Qemu);
            outcome.note(end);
            (
                outcome.status(),
                outcome.wants_post_mortem(),
                outcome.lines().len(),
            )
        };
        assert_eq!(status(exited(0)), (1, false, 0));
        assert_eq!(status(exited(35)), (71, false, 0));
        assert_eq!(status(exited(77)), (155, false, 0));
        assert_eq!(status(exited(127)), (255, false, 0));
        assert_eq!(status(exited(128)), (1, false, 1));
        assert_eq!(status(exited(u64::MAX)), (255, false, 1));
        assert_eq!(status(End::PoweredOff), (0, false, 0));
        assert_eq!(status(triple()), (71, true, 1));
    }

    #[test]
    fn bisect_skips_what_says_nothing_about_the_kernel() {
        for status in 0..=255 {
            let expected = if [64, 65, 74].contains(&status) {
                125
            } else {
                status
            };
            assert_eq!(for_bisect(status), expected);
        }
    }
}
