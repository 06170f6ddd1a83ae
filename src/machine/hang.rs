//! Whether the guest hangs: a judgement over samples, without a clock or a vCPU of its own.
//!
//! A vCPU makes progress when it leaves the guest for a device, when its RIP travels, or when it
//! runs a program with interrupts on (its kernel is alive, whatever the program does). It waits
//! when it is halted with interrupts on, or was never started, or was taken offline (halted with
//! interrupts off while others live). A machine hangs when a whole patience has gone by in which no
//! vCPU made progress, nothing was printed, and not all of them merely wait.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::hex::Hex;

/// A loop that a stuck kernel runs in lies within this many bytes: a spin lock, `jmp .`, a poll of
/// a flag.
const WINDOW: u64 = 4096;
/// How long an NMI's handlers may take to print, on a slow host too; what moves meanwhile is
/// theirs.
const NMI_SETTLES: Duration = Duration::from_secs(2);
/// When the vCPUs are back where they were, the verdict falls: this long after the NMI.
const NMI_FAILED: Duration = Duration::from_secs(4);

/// What a vCPU was doing when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs.
    Running,
    /// It is in HLT.
    Halted,
    /// It waits for INIT or SIPI.
    NotStarted,
}

/// One look at one vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Which.
    pub vcpu: u8,
    /// What it was doing.
    pub activity: Activity,
    /// Where.
    pub rip: u64,
    /// RFLAGS.IF.
    pub interrupts: bool,
    /// Whether it ran a program (CPL 3).
    pub user: bool,
    /// Exits it made since the look before, those for looking not counted.
    pub exits: u64,
    /// Its IDT reaches to vector 2. Without, an NMI would turn the hang into a triple fault.
    pub takes_nmi: bool,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// Send every vCPU of this list an NMI: a kernel that can still take one says more than a
    /// register dump.
    SendNmi(Vec<u8>),
    /// The machine hangs.
    Hung(Hang),
}

/// A machine that hangs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Hang {
    /// For how long nothing moved.
    #[serde(serialize_with = "seconds")]
    pub after: Duration,
    /// The vCPUs that are stuck; those that merely wait are left out.
    pub stuck: Vec<Stuck>,
}

/// One stuck vCPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stuck {
    /// Which.
    pub vcpu: u8,
    /// Where it was last.
    pub rip: Hex,
    /// RFLAGS.IF.
    pub interrupts: bool,
    /// In HLT, which nothing but an NMI can end when interrupts are off.
    pub halted: bool,
    /// RIP by name, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

fn seconds<S: serde::Serializer>(after: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(after.as_secs_f64())
}

impl Hang {
    /// Names the places, where `symbol` can.
    pub fn name(&mut self, symbol: impl Fn(u64) -> Option<String>) {
        for stuck in &mut self.stuck {
            stuck.symbol = symbol(stuck.rip.0);
        }
    }
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.as_secs_f64();
        write!(f, "no vCPU made progress for {after:.1} s")?;
        for (index, stuck) in self.stuck.iter().enumerate() {
            write!(f, "{}{stuck}", if index == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vcpu, rip) = (self.vcpu, self.rip);
        let does = if self.halted { "is halted" } else { "spins" };
        let flag = if self.interrupts { "on" } else { "off" };
        write!(f, "vCPU {vcpu} {does} at {rip} with interrupts {flag}")?;
        match &self.symbol {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

/// A vCPU since its window was opened.
#[derive(Debug, Clone, Copy)]
struct Track {
    sample: Sample,
    low: u64,
    high: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Nothing has moved since then.
    Still(Duration),
    /// An NMI was sent then; what it makes the kernel print is not progress.
    Nmi { sent: Duration, hang: Hang },
}

/// The judge.
#[derive(Debug)]
pub struct HangWatch {
    patience: Duration,
    stage: Stage,
    tracks: Vec<Track>,
}

impl HangWatch {
    /// A judge for `--hang PATIENCE`, from `now` on.
    #[must_use]
    pub const fn new(patience: Duration, now: Duration) -> Self {
        Self {
            patience,
            stage: Stage::Still(now),
            tracks: Vec::new(),
        }
    }

    /// How often to look: often enough that RIP is seen to travel, seldom enough to cost nothing.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.patience
            .checked_div(10)
            .unwrap_or_default()
            .clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// Begins anew: the machine was paused, reset or restored, and time was lost that was not the
    /// guest's.
    pub fn restart(&mut self, now: Duration) {
        self.stage = Stage::Still(now);
        self.tracks.clear();
    }

    /// Takes one look at all vCPUs. `printed` are the bytes printed since the look before.
    pub fn look(&mut self, now: Duration, samples: &[Sample], printed: u64) -> Verdict {
        let travelled = self.track(samples);
        let exits = samples.iter().any(|s| s.exits > 0);
        match &self.stage {
            &Stage::Still(since) => {
                if travelled || exits || printed > 0 || all_wait(samples) {
                    self.restart(now);
                    self.track(samples);
                    return Verdict::Fine;
                }
                let after = now.saturating_sub(since);
                if after < self.patience {
                    return Verdict::Fine;
                }
                let stuck = stuck(samples);
                let hang = Hang { after, stuck };
                let takers: Vec<u8> = samples
                    .iter()
                    .filter(|s| s.activity != Activity::NotStarted && s.takes_nmi)
                    .map(|s| s.vcpu)
                    .collect();
                if takers.is_empty() {
                    return Verdict::Hung(hang);
                }
                self.stage = Stage::Nmi { sent: now, hang };
                Verdict::SendNmi(takers)
            }
            Stage::Nmi { sent, hang } => {
                let waited = now.saturating_sub(*sent);
                if waited < NMI_SETTLES {
                    self.tracks.clear();
                    return Verdict::Fine;
                }
                if travelled || exits || all_wait(samples) {
                    self.restart(now);
                    return Verdict::Fine;
                }
                if waited < NMI_FAILED {
                    return Verdict::Fine;
                }
                Verdict::Hung(Hang {
                    after: hang.after.saturating_add(waited),
                    stuck: stuck(samples),
                })
            }
        }
    }

    /// The hang, between the NMI and the verdict. A vCPU that falls over meanwhile fell over the
    /// NMI.
    #[must_use]
    pub const fn suspected(&self) -> Option<&Hang> {
        match &self.stage {
            Stage::Nmi { hang, .. } => Some(hang),
            Stage::Still(_) => None,
        }
    }

    /// Widens every window by the new samples. Returns whether a vCPU got out of its own, or came
    /// to be.
    fn track(&mut self, samples: &[Sample]) -> bool {
        let mut travelled = false;
        for &sample in samples {
            let found = self
                .tracks
                .iter_mut()
                .find(|t| t.sample.vcpu == sample.vcpu);
            let Some(track) = found else {
                self.tracks.push(Track {
                    sample,
                    low: sample.rip,
                    high: sample.rip,
                });
                continue;
            };
            let started = track.sample.activity == Activity::NotStarted
                && sample.activity != Activity::NotStarted;
            track.sample = sample;
            track.low = track.low.min(sample.rip);
            track.high = track.high.max(sample.rip);
            let alive = sample.activity == Activity::Running && sample.user && sample.interrupts;
            // A vCPU that wakes from HLT now and then only to halt again stays where it is.
            travelled |= started || alive || track.high.saturating_sub(track.low) > WINDOW;
        }
        travelled
    }
}

/// Whether all vCPUs wait for something that can come.
fn all_wait(samples: &[Sample]) -> bool {
    let spins = |s: &Sample| s.activity == Activity::Running;
    let idles = |s: &Sample| s.activity == Activity::Halted && s.interrupts;
    !samples.iter().any(spins) && samples.iter().any(idles)
}

fn stuck(samples: &[Sample]) -> Vec<Stuck> {
    let someone_spins = samples.iter().any(|s| s.activity == Activity::Running);
    samples
        .iter()
        .filter(|s| match s.activity {
            Activity::Running => true,
            Activity::Halted => !s.interrupts && !someone_spins,
            Activity::NotStarted => false,
        })
        .map(|s| Stuck {
            vcpu: s.vcpu,
            rip: Hex(s.rip),
            interrupts: s.interrupts,
            halted: s.activity == Activity::Halted,
            symbol: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn spins(vcpu: u8, rip: u64, interrupts: bool) -> Sample {
        Sample {
            vcpu,
            activity: Activity::Running,
            rip,
            interrupts,
            user: false,
            exits: 0,
            takes_nmi: true,
        }
    }
    fn halted(vcpu: u8, interrupts: bool) -> Sample {
        Sample {
            activity: Activity::Halted,
            ..spins(vcpu, 0xffff_ffff_8100_0000, interrupts)
        }
    }
    fn asleep(vcpu: u8) -> Sample {
        Sample {
            activity: Activity::NotStarted,
            ..spins(vcpu, 0xfff0, false)
        }
    }

    /// Looks once a second for a minute. Returns when the NMI was sent, and when the verdict fell.
    fn minute(look: impl Fn(u64) -> (Vec<Sample>, u64)) -> (Option<u64>, Option<(u64, Hang)>) {
        let mut watch = HangWatch::new(PATIENCE, Duration::ZERO);
        let mut nmi = None;
        for second in 0..60 {
            let (samples, printed) = look(second);
            match watch.look(Duration::from_secs(second), &samples, printed) {
                Verdict::Fine => {}
                Verdict::SendNmi(_) => nmi = nmi.or(Some(second)),
                Verdict::Hung(hang) => return (nmi, Some((second, hang))),
            }
        }
        (nmi, None)
    }

    fn still(samples: Vec<Sample>) -> (Option<u64>, Option<(u64, Hang)>) {
        minute(|_| (samples.clone(), 0))
    }

    #[test]
    fn guests_that_hang_are_told_after_an_nmi() {
        let table: [(&str, Vec<Sample>, Vec<u8>); 6] = [
            (
                "jmp . with interrupts off",
                vec![spins(0, 0x1000, false)],
                vec![0],
            ),
            (
                "jmp . with interrupts on",
                vec![spins(0, 0x1000, true)],
                vec![0],
            ),
            ("cli; hlt", vec![halted(0, false)], vec![0]),
            (
                "a lock held by an idle vCPU",
                vec![spins(0, 0x1000, false), halted(1, true)],
                vec![0],
            ),
            (
                "all halted for good",
                vec![halted(0, false), halted(1, false)],
                vec![0, 1],
            ),
            (
                "one spins, one was never started",
                vec![spins(0, 0x1000, false), asleep(1)],
                vec![0],
            ),
        ];
        for (what, samples, stuck) in table {
            let (nmi, hung) = still(samples);
            let (second, hang) = hung.unwrap_or_else(|| panic!("{what}: not seen"));
            assert_eq!((nmi, second), (Some(10), 14), "{what}");
            assert_eq!(
                hang.stuck.iter().map(|s| s.vcpu).collect::<Vec<_>>(),
                stuck,
                "{what}"
            );
        }
    }

    #[test]
    fn guests_that_live_are_left_alone() {
        type Look = fn(u64) -> (Vec<Sample>, u64);
        let table: [(&str, Look); 8] = [
            ("idle", |_| (vec![halted(0, true), halted(1, true)], 0)),
            ("idle, one offline", |_| {
                (vec![halted(0, true), halted(1, false)], 0)
            }),
            ("idle, one never started", |_| {
                (vec![halted(0, true), asleep(1)], 0)
            }),
            ("works", |n| (vec![spins(0, 0x1000 * n * n, true)], 0)),
            ("one of two works", |n| {
                (vec![spins(0, 0x1000, false), spins(1, 0x9000 * n, true)], 0)
            }),
            ("prints in a loop", |n| {
                (vec![spins(0, 0x1000, false)], n % 2)
            }),
            ("polls a device", |_| {
                (
                    vec![Sample {
                        exits: 1,
                        ..spins(0, 0x1000, false)
                    }],
                    0,
                )
            }),
            ("a program computes", |_| {
                (
                    vec![Sample {
                        user: true,
                        ..spins(0, 0x40_1000, true)
                    }],
                    0,
                )
            }),
        ];
        for (what, look) in table {
            assert_eq!(minute(look), (None, None), "{what}");
        }
    }

    #[test]
    fn a_guest_that_an_nmi_wakes_is_no_hang() {
        let (nmi, hung) = minute(|second| {
            let rip = if second <= 10 {
                0x1000
            } else {
                0x1000 * second * 7
            };
            (vec![spins(0, rip, true)], 0)
        });
        assert_eq!((nmi, hung), (Some(10), None));
    }

    #[test]
    fn what_the_nmi_makes_the_kernel_print_is_no_progress() {
        // "Uhhuh. NMI received for unknown reason", for one second, and back into the loop.
        let (nmi, hung) = minute(|second| match second {
            11 => (
                vec![Sample {
                    exits: 900,
                    ..spins(0, 0x9_9000, false)
                }],
                300,
            ),
            _ => (vec![spins(0, 0x1000, true)], 0),
        });
        assert_eq!((nmi, hung.map(|(second, _)| second)), (Some(10), Some(14)));
    }

    #[test]
    fn a_guest_that_cannot_take_an_nmi_gets_none() {
        let sample = Sample {
            takes_nmi: false,
            ..spins(0, 0x1000, false)
        };
        let (nmi, hung) = still(vec![sample, asleep(1)]);
        assert_eq!((nmi, hung.map(|(second, _)| second)), (None, Some(10)));
    }

    #[test]
    fn a_vcpu_that_falls_over_the_nmi_was_hung() {
        let mut watch = HangWatch::new(PATIENCE, Duration::ZERO);
        let samples = [spins(0, 0x1000, false)];
        watch.look(Duration::ZERO, &samples, 0);
        assert_eq!(watch.suspected(), None);
        let verdict = watch.look(PATIENCE, &samples, 0);
        assert_eq!(verdict, Verdict::SendNmi(vec![0]));
        assert_eq!(watch.suspected().unwrap().stuck[0].rip, Hex(0x1000));
    }

    #[test]
    fn progress_starts_the_patience_again() {
        let (nmi, _) = minute(|second| (vec![spins(0, 0x1000, true)], u64::from(second == 8)));
        assert_eq!(nmi, Some(18));
    }

    #[test]
    fn a_pause_is_not_held_against_the_guest() {
        let mut watch = HangWatch::new(PATIENCE, Duration::ZERO);
        let samples = [spins(0, 0x1000, false)];
        assert_eq!(watch.look(Duration::ZERO, &samples, 0), Verdict::Fine);
        watch.restart(Duration::from_secs(100));
        assert_eq!(
            watch.look(Duration::from_secs(101), &samples, 0),
            Verdict::Fine
        );
    }

    #[test]
    fn the_line_says_where() {
        let mut hang = Hang {
            after: PATIENCE,
            stuck: vec![
                Stuck {
                    vcpu: 0,
                    rip: Hex(0x1000),
                    interrupts: false,
                    halted: false,
                    symbol: None,
                },
                Stuck {
                    vcpu: 1,
                    rip: Hex(0x2000),
                    interrupts: false,
                    halted: true,
                    symbol: None,
                },
            ],
        };
        hang.name(|rip| (rip == 0x1000).then(|| "spin+0x0".to_owned()));
        assert_eq!(
            hang.to_string(),
            "no vCPU made progress for 10.0 s: vCPU 0 spins at 0x1000 with interrupts off (spin+0x0), \
             vCPU 1 is halted at 0x2000 with interrupts off"
        );
    }
}
