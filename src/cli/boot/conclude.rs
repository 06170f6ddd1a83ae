//! What is said of a run when it is over: to the user, and in the report.

use crate::boot::Image;
use std::time::Duration;

use crate::machine::{Booted, Counts, Finished, MsrCount, Report, ReportError, ReportFile, timing};

use super::args::BootArgs;
use crate::cli::{Global, Status, chain, out};

/// Says how the run ended, writes the report, and gives the status.
pub(super) fn conclude(
    finished: Finished,
    mut booted: Booted,
    report: Option<ReportFile>,
    args: &BootArgs,
    global: &Global,
) -> u8 {
    let mut status = finished.outcome.status();
    booted.protocol = finished.protocol.into();
    if let Some(post_mortem) = &finished.post_mortem
        && !global.quiet
    {
        out::say_lines(post_mortem);
    }
    if !global.quiet || status != 0 {
        for line in finished.outcome.lines() {
            out::say(line);
        }
    }
    if !global.quiet
        && let Some(line) = msrs(&finished.counts)
    {
        out::say(line);
    }
    let mut events = None;
    match &finished.events {
        None => {}
        Some(Ok(summary)) => {
            events = Some(*summary);
            if summary.dropped > 0 {
                let (dropped, written) = (summary.dropped, summary.written);
                out::say(format_args!(
                    "{dropped} events were dropped, {written} written"
                ));
            }
        }
        Some(Err(error)) => {
            out::say(chain(error));
            status = Status::Internal as u8;
        }
    }
    if let Some((codes, lost)) = &finished.post_codes {
        for (at, code) in codes {
            let ms = Duration::from_nanos(at.0).as_secs_f64() * 1e3;
            out::say_lines(format_args!("POST {code:#04x} {ms:>16.3} ms\n"));
        }
        if *lost > 0 {
            out::say(format_args!("{lost} more POST codes were not kept"));
        }
    }
    if args.timing {
        out::say_lines(timing(
            &finished.timeline,
            finished.memory,
            &finished.guest_memory,
        ));
    }
    if let Some(file) = report
        && let Err(error) = write(file, finished, booted, status, events)
    {
        out::say(chain(&error));
        status = Status::Internal as u8;
    }
    status
}

/// MSRs told by name in one line; the report has all.
const TOLD: usize = 6;

/// One line on the MSR accesses that came out, if any did.
fn msrs(counts: &Counts) -> Option<String> {
    let sum = |of: fn(&MsrCount) -> u64| -> u64 { counts.msrs.iter().map(of).sum() };
    let (reads, writes, refused) = (sum(|c| c.reads), sum(|c| c.writes), sum(|c| c.refused));
    if reads == 0 && writes == 0 {
        return None;
    }
    let mut most: Vec<_> = counts.msrs.iter().collect();
    most.sort_by_key(|c| std::cmp::Reverse(c.reads.saturating_add(c.writes)));
    let tell = |c: &&MsrCount| {
        let name = c.name.clone().unwrap_or_else(|| c.index.to_string());
        format!("{name} {}r {}w", c.reads, c.writes)
    };
    let told: Vec<_> = most.iter().take(TOLD).map(tell).collect();
    let more = match most.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let unsaid = match counts.msr_lines_unsaid {
        0 => String::new(),
        unsaid => format!("; {unsaid} lines of the log were left out"),
    };
    Some(format!(
        "MSR accesses that came out: {reads} reads, {writes} writes, {refused} of them refused: \
         {}{more}{unsaid}",
        told.join(", ")
    ))
}

fn write(
    file: ReportFile,
    finished: Finished,
    mut booted: Booted,
    status: u8,
    events: Option<crate::trace::StreamSummary>,
) -> Result<(), ReportError> {
    // Here and not before the run, because an ELF file is searched for it.
    booted.version = booted
        .version
        .or_else(|| Image::open(&booted.kernel).ok()?.release());
    let mut report = Report::new(booted, &finished.outcome, status);
    report.timeline = finished.timeline;
    report.memory = finished.memory;
    report.guest_memory = Some(finished.guest_memory);
    report.counts = finished.counts;
    report.console = (&finished.console).into();
    report.events = events;
    report.post_mortem = finished.post_mortem;
    file.write(&report)
}
