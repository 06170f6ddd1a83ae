//! When the steps of a run happened (`--timing`, and the report).

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cpu_time::CpuTime;
use super::footprint::Footprint;
use super::memory::MemoryUse;

/// A step every run of a kernel goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Trapline began.
    Start,
    /// The first vCPU enters the guest for the first time.
    FirstRun,
    /// The guest's first byte on the serial port.
    FirstByte,
    /// The guest's init says that it is there.
    Init,
    /// The run is over.
    End,
}

impl Step {
    /// For listings; the names of `trace`'s lifecycle events are the JSON ones.
    const fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::FirstRun => "first KVM_RUN",
            Self::FirstByte => "first serial byte",
            Self::Init => "init",
            Self::End => "end",
        }
    }
}

/// One step, from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// Which.
    pub step: Step,
    /// Since the start.
    #[serde(rename = "ms", serialize_with = "millis")]
    pub at: Duration,
    /// CPU time Trapline had used, the guest's included, when it was known then.
    #[serde(flatten)]
    pub cpu: Option<CpuTime>,
}

pub(super) fn millis<S: serde::Serializer>(at: &Duration, to: S) -> Result<S::Ok, S::Error> {
    // Whole microseconds: the digits below are noise.
    to.serialize_f64((at.as_secs_f64() * 1e6).round() / 1e3)
}

/// The steps so far. Shared by all threads of a run.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    marks: Mutex<Vec<Mark>>,
}

impl Timeline {
    /// A run that starts now.
    #[must_use]
    pub fn new() -> Self {
        let timeline = Self {
            start: Instant::now(),
            marks: Mutex::new(Vec::with_capacity(5)),
        };
        timeline.mark(Step::Start);
        timeline
    }

    /// `step` happens now. Only the first time counts: a machine that is reset goes through its
    /// steps again.
    pub fn mark(&self, step: Step) {
        self.add(step, Instant::now(), CpuTime::now());
    }

    /// `step` happened then.
    pub fn mark_at(&self, step: Step, at: Instant) {
        self.add(step, at, None);
    }

    fn add(&self, step: Step, at: Instant, cpu: Option<CpuTime>) {
        let at = at.saturating_duration_since(self.start);
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.iter().all(|m| m.step != step) {
            marks.push(Mark { step, at, cpu });
        }
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The steps that happened, in their order.
    #[must_use]
    pub fn marks(&self) -> Vec<Mark> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut marks = marks.clone();
        marks.sort_by_key(|m| m.at);
        marks
    }
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

/// What `--timing` prints.
#[must_use]
pub fn timing(marks: &[Mark], memory: Option<Footprint>, guest: &MemoryUse) -> String {
    let mut text = String::new();
    let mut before = Duration::ZERO;
    for mark in marks {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        let since = mark.at.saturating_sub(before);
        let _ = write!(text, "{:<18}{:>10.1} ms", mark.step.label(), ms(mark.at));
        if mark.step != Step::Start {
            let _ = write!(text, "  {:>+10.1} ms", ms(since));
            if let Some(cpu) = mark.cpu {
                let _ = write!(text, "  {:>10.1} ms CPU", ms(cpu.total));
            }
        }
        text.push('\n');
        before = mark.at;
    }
    if let Some(memory) = memory {
        let mib = |kib: u64| Duration::from_millis(kib).as_secs_f64() * 1000.0 / 1024.0;
        let (own, guest) = (mib(memory.own_kib), mib(memory.guest_kib));
        let _ = writeln!(
            text,
            "{:<18}{own:>10.1} MiB of its own, {guest:.1} MiB of the guest's (Pss)",
            "memory"
        );
    }
    let line = guest.line();
    let (size, rest) = line.split_once(' ').unwrap_or_default();
    let _ = writeln!(text, "{:<18}{size:>10} {rest}", "guest memory");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_counts_once_and_steps_come_in_their_order() {
        let timeline = Timeline::new();
        let later = Instant::now() + Duration::from_secs(2);
        timeline.mark_at(Step::Init, later);
        timeline.mark(Step::FirstRun);
        timeline.mark_at(Step::Init, later + Duration::from_secs(5));
        let marks = timeline.marks();
        let steps: Vec<Step> = marks.iter().map(|m| m.step).collect();
        assert_eq!(steps, [Step::Start, Step::FirstRun, Step::Init]);
        assert!(marks[2].at < Duration::from_secs(3));
    }

    #[test]
    fn the_listing_tells_what_each_step_cost() {
        let mark = |step, ms, cpu: Option<u64>| Mark {
            step,
            at: Duration::from_millis(ms),
            cpu: cpu.map(|ms| CpuTime {
                total: Duration::from_millis(ms),
                user: Duration::ZERO,
            }),
        };
        let marks = [
            mark(Step::Start, 0, Some(1)),
            mark(Step::FirstRun, 5, Some(4)),
            mark(Step::FirstByte, 105, None),
        ];
        let memory = Footprint {
            own_kib: 2560,
            guest_kib: 64 * 1024,
        };
        let guest = MemoryUse {
            size: 128 << 20,
            held: Some(70 << 20),
            ..MemoryUse::default()
        };
        assert_eq!(
            timing(&marks, Some(memory), &guest),
            "\
start                    0.0 ms
first KVM_RUN            5.0 ms        +5.0 ms         4.0 ms CPU
first serial byte      105.0 ms      +100.0 ms
memory                   2.5 MiB of its own, 64.0 MiB of the guest's (Pss)
guest memory           128.0 MiB, 70.0 MiB held by the host
"
        );
    }

    #[test]
    fn json_has_milliseconds() {
        let mut mark = Mark {
            step: Step::FirstRun,
            at: Duration::from_micros(1500),
            cpu: None,
        };
        assert_eq!(
            serde_json::to_value(mark).unwrap(),
            serde_json::json!({"step": "first_run", "ms": 1.5})
        );
        mark.cpu = Some(CpuTime {
            total: Duration::from_micros(1250),
            user: Duration::from_micros(500),
        });
        assert_eq!(
            serde_json::to_value(mark).unwrap(),
            serde_json::json!({"step": "first_run", "ms": 1.5, "cpu_ms": 1.25, "user_ms": 0.5})
        );
    }
}
