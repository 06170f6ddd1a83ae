//! `boot --json FILE`: everything that is known of a run when it is over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::console::ConsoleSummary;
use super::end::End;
use super::footprint::Footprint;
use super::hex::Hex;
use super::memory::MemoryUse;
use super::outcome::Outcome;
use super::postmortem::PostMortem;
use super::timeline::Mark;
use super::watch::AlarmCounts;
use crate::bus::DeviceCounts;
use crate::trace::StreamSummary;
use crate::vm::ExitCounts;

/// What was booted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Booted {
    /// The image, as it was found.
    pub kernel: PathBuf,
    /// What the image says of its version, when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `bzimage`, `elf`, `payload`.
    pub format: String,
    /// The protocol it was entered by: `linux`, `pvh`, `flat`.
    pub protocol: String,
    /// The command line it got.
    pub cmdline: String,
    /// vCPUs.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
}

/// Exits of all vCPUs, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ExitTotals {
    /// Port reads and writes.
    pub pio: u64,
    /// Memory reads and writes.
    pub mmio: u64,
    /// `rdmsr` and `wrmsr`.
    pub msr: u64,
    /// Signals and `immediate_exit`.
    pub interrupted: u64,
    /// Everything else.
    pub other: u64,
    /// Port writes that KVM collected: accesses, but no exits.
    pub collected: u64,
}

impl ExitTotals {
    /// Adds one vCPU's.
    pub fn add(&mut self, counts: &ExitCounts) {
        use std::sync::atomic::Ordering::Relaxed;
        let add = |sum: &mut u64, counter: &std::sync::atomic::AtomicU64| {
            *sum = sum.saturating_add(counter.load(Relaxed));
        };
        add(&mut self.pio, &counts.pio);
        add(&mut self.mmio, &counts.mmio);
        add(&mut self.msr, &counts.msr);
        add(&mut self.interrupted, &counts.interrupted);
        add(&mut self.other, &counts.other);
        add(&mut self.collected, &counts.collected);
    }
}

/// How often an MSR was reached in user space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MsrCount {
    /// Which.
    pub index: Hex,
    /// Its name, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Of both, those answered with #GP.
    pub refused: u64,
}

/// What was counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Exits by kind.
    pub exits: ExitTotals,
    /// Accesses by device.
    pub devices: BTreeMap<String, DeviceCounts>,
    /// Accesses nobody answered.
    pub unclaimed: u64,
    /// MSR accesses that left the guest.
    pub msrs: Vec<MsrCount>,
    /// Lines of the MSR policy's log that were not said, to keep it readable.
    pub msr_lines_unsaid: u64,
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    schema: &'static str,
    /// The exit status.
    pub status: u8,
    /// The end that decided it, in words.
    pub reason: String,
    /// Every end there was.
    pub ends: Vec<End>,
    /// What was booted.
    #[serde(flatten)]
    pub booted: Booted,
    /// When the steps of the run happened.
    pub timeline: Vec<Mark>,
    /// Memory at the end.
    pub memory: Option<Footprint>,
    /// What the guest's memory cost at the end.
    pub guest_memory: Option<MemoryUse>,
    /// What was counted.
    pub counts: Counts,
    /// What was heard on the console.
    pub console: ConsoleReport,
    /// What `--events` wrote.
    pub events: Option<StreamSummary>,
    /// What was found after an end that was not in order.
    pub post_mortem: Option<PostMortem>,
}

/// What was heard on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ConsoleReport {
    /// Bytes printed.
    pub bytes: u64,
    /// Of them, those that standard output did not take.
    pub lost: u64,
    /// What the watch counted.
    pub alarms: AlarmCounts,
}

impl From<&ConsoleSummary> for ConsoleReport {
    fn from(summary: &ConsoleSummary) -> Self {
        Self {
            bytes: summary.bytes,
            lost: summary.lost,
            alarms: summary.alarms,
        }
    }
}

impl Report {
    /// A report with what every run has.
    #[must_use]
    pub fn new(booted: Booted, outcome: &Outcome, status: u8) -> Self {
        Self {
            schema: "trapline/boot/1",
            status,
            reason: outcome
                .decisive()
                .map_or_else(|| "the run ended without saying why".into(), End::to_string),
            ends: outcome.ends().to_vec(),
            booted,
            timeline: Vec::new(),
            memory: None,
            guest_memory: None,
            counts: Counts::default(),
            console: ConsoleReport::default(),
            events: None,
            post_mortem: None,
        }
    }
}

/// A report that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be made.
    #[error("cannot create the report {path}")]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written; what is in it is not whole.
    #[error("cannot write the report {path}; what is in it is not whole")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The file, made before the run: a path that cannot be written is known before the guest has
/// worked for an hour.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    file: File,
}

impl ReportFile {
    /// Makes the file, or empties the one that is there.
    ///
    /// # Errors
    /// [`ReportError::Create`].
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let file = File::create(path).map_err(|source| ReportError::Create {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            file,
        })
    }

    /// Writes the report.
    ///
    /// # Errors
    /// [`ReportError::Write`].
    pub fn write(self, report: &Report) -> Result<(), ReportError> {
        let mut out = BufWriter::new(self.file);
        let written = serde_json::to_writer_pretty(&mut out, report)
            .map_err(io::Error::from)
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
        written.map_err(|source| ReportError::Write {
            path: self.path,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::outcome::Next;

    fn report() -> Report {
        let mut outcome = Outcome::default();
        let end = End::TripleFault { vcpu: 0 };
        assert_eq!(outcome.note(end), Next::Stop);
        let booted = Booted {
            kernel: "/boot/vmlinuz".into(),
            protocol: "linux".into(),
            ..Booted::default()
        };
        Report::new(booted, &outcome, outcome.status())
    }

    #[test]
    fn a_report_says_how_the_run_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        ReportFile::create(&path).unwrap().write(&report()).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(json["schema"], "trapline/boot/1");
        assert_eq!(
            (&json["status"], &json["protocol"]),
            (&71.into(), &"linux".into())
        );
        assert_eq!(json["reason"], "triple fault on vCPU 0");
        assert_eq!(json["ends"][0]["end"], "triple_fault");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_known_before_the_run() {
        let error = ReportFile::create(Path::new("/nowhere/r.json")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot create the report /nowhere/r.json"
        );
    }

    #[test]
    fn a_full_disk_is_told() {
        let file = ReportFile::create(Path::new("/dev/full")).unwrap();
        let error = file.write(&report()).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
}
