//! What `msr trace` leaves behind: a file of accesses, a table of MSRs, a policy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cli::{Failure, out};
use crate::machine::{Hex, MsrTrace, Place, Symbol};
use crate::msr::record::{Recorded, imitate};
use crate::msr::{MsrAnswer, Op, Reason, names};

/// Files that a trace is written to.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TraceFiles {
    /// Write every access as a JSON line, with the name of the code that made it
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Write a policy that answers the MSRs without architectural effect as they were answered now
    #[arg(long, value_name = "FILE")]
    pub(crate) as_policy: Option<PathBuf>,
}

/// A file that a trace cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the {what} to {}", path.display())]
pub(crate) struct TraceError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The files, made before the run: a path that cannot be written is known early.
pub(super) struct Open {
    trace: Option<(PathBuf, File)>,
    as_policy: Option<(PathBuf, File)>,
}

const TRACE: &str = "MSR trace";
const POLICY: &str = "MSR policy";

impl TraceFiles {
    pub(super) fn create(&self) -> Result<Open, TraceError> {
        let open = |what, path: &Option<PathBuf>| {
            let open = |path: &PathBuf| {
                let file = File::create(path).map_err(|source| TraceError {
                    what,
                    path: path.clone(),
                    source,
                })?;
                Ok((path.clone(), file))
            };
            path.as_ref().map(open).transpose()
        };
        Ok(Open {
            trace: open(TRACE, &self.trace)?,
            as_policy: open(POLICY, &self.as_policy)?,
        })
    }
}

/// One line of the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Guest time.
    ns: u64,
    vcpu: u8,
    rip: Option<Hex>,
    symbol: Option<&'a Symbol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a Symbol>,
    msr: Hex,
    name: Option<String>,
    access: &'static str,
    /// What was read or written; none for a read that got none.
    value: Option<Hex>,
    reason: Reason,
    answer: &'static str,
}

impl<'a> Line<'a> {
    fn new((one, place): &'a (Recorded, Place)) -> Self {
        let value = match (one.access.op, one.answer) {
            (Op::Write(value), _) | (Op::Read, MsrAnswer::Value(value)) => Some(value),
            (Op::Read, _) => None,
        };
        Self {
            ns: one.ns,
            vcpu: one.access.vcpu,
            rip: one.rip.map(Hex),
            symbol: place.symbol.as_ref(),
            caller: place.caller.as_ref(),
            msr: Hex(one.access.index.into()),
            name: names::of(one.access.index).map(|msr| msr.name.to_string()),
            access: match one.access.op {
                Op::Read => "read",
                Op::Write(_) => "write",
            },
            value: value.map(Hex),
            reason: one.access.reason,
            answer: match one.answer {
                MsrAnswer::Value(_) => "done",
                MsrAnswer::Fault => "gp",
                MsrAnswer::Stop => "stop",
            },
        }
    }
}

impl Open {
    /// Writes the files, and the table to standard output.
    pub(super) fn write(self, trace: &MsrTrace, guest: &str, quiet: bool) -> Result<(), Failure> {
        let at = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Failure::internal(TraceError { what, path, source })
        };
        if let Some((path, file)) = self.trace {
            lines(trace, file).map_err(at(TRACE, &path))?;
        }
        if let Some((path, mut file)) = self.as_policy {
            let accesses: Vec<_> = trace.accesses.iter().map(|(one, _)| *one).collect();
            let about = format!("Recorded by trapline msr trace of {guest}.");
            let text = imitate(&accesses, &about);
            file.write_all(text.as_bytes()).map_err(at(POLICY, &path))?;
        }
        out::print(table(trace))?;
        if !quiet {
            out::say(
                "not seen: the x2APIC (0x800-0x8ff), what instructions other than rdmsr and wrmsr load, and the \
                 accesses listed above as left to KVM; on this host perf record -e kvm:kvm_msr sees those that \
                 exit",
            );
            if trace.lost > 0 {
                out::say(format_args!(
                    "{} accesses beyond the first {} were counted and not kept",
                    trace.lost,
                    trace.accesses.len()
                ));
            }
        }
        Ok(())
    }
}

fn lines(trace: &MsrTrace, file: File) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for one in &trace.accesses {
        serde_json::to_writer(&mut out, &Line::new(one))?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// What is shown of one MSR.
#[derive(Default)]
struct Row {
    reads: u64,
    writes: u64,
    refused: u64,
    first: Option<String>,
    last: Option<u64>,
}

fn table(trace: &MsrTrace) -> String {
    let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
    for (one, by) in &trace.accesses {
        let row = rows.entry(one.access.index).or_default();
        match one.access.op {
            Op::Read => row.reads += 1,
            Op::Write(value) => {
                row.writes += 1;
                row.last = Some(value);
            }
        }
        match (one.access.op, one.answer) {
            (_, MsrAnswer::Fault | MsrAnswer::Stop) => row.refused += 1,
            (Op::Read, MsrAnswer::Value(value)) => row.last = Some(value),
            (Op::Write(_), MsrAnswer::Value(_)) => {}
        }
        let place = || match (by.caller.as_ref().or(by.symbol.as_ref()), one.rip) {
            (Some(symbol), _) => symbol.to_string(),
            (None, Some(rip)) => format!("{rip:#x}"),
            (None, None) => "?".into(),
        };
        row.first.get_or_insert_with(place);
    }
    let name = |index: u32| names::of(index).map_or_else(|| "-".into(), |m| m.name.to_string());
    let width = rows
        .keys()
        .map(|index| name(*index).len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:<10}  {:<width$}  {:>6}  {:>6}  {:>7}  {:<18}  FIRST BY\n",
        "INDEX", "NAME", "READS", "WRITES", "REFUSED", "LAST VALUE"
    );
    for (index, row) in rows {
        let (hex, last) = (
            format!("{index:#x}"),
            row.last.map_or_else(|| "-".into(), |v| format!("{v:#x}")),
        );
        text += &format!(
            "{hex:<10}  {:<width$}  {:>6}  {:>6}  {:>7}  {last:<18}  {}\n",
            name(index),
            row.reads,
            row.writes,
            row.refused,
            row.first.unwrap_or_default()
        );
    }
    text
}
