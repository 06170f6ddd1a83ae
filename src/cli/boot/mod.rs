//! `trapline boot`: the main job.

mod args;
mod board;
mod conclude;
mod config;
mod error;
mod guest;
mod huge;
mod inside;
mod landing;
mod msr_trace;
mod parcels;
mod place;

pub(crate) use args::BootArgs;
pub(crate) use msr_trace::TraceFiles;

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::boot::payload;
use crate::machine::control::Place;
use crate::machine::{
    Connections, Control, End, EscapeKey, Input, ReportFile, Rules, Timeline, for_bisect, run,
};
use crate::trace::Stream;

use error::BootError;

use super::{Failure, Global, out};

/// How long no progress is a hang, unless told.
const HANG: Duration = Duration::from_secs(60);

impl BootArgs {
    /// Boots, waits for the end, and says how it was.
    pub(crate) fn run(self, global: &Global) -> Result<ExitCode, Failure> {
        let bisect = self.bisect;
        let status = match self.run_to_status(global) {
            Ok(status) => status,
            Err(failure) if bisect => {
                let _ = failure.report();
                failure.status as u8
            }
            Err(failure) => return Err(failure),
        };
        Ok(if bisect { for_bisect(status) } else { status }.into())
    }

    fn run_to_status(mut self, global: &Global) -> Result<u8, Failure> {
        let timeline = Arc::new(Timeline::new());
        if let Some(path) = self.config.take() {
            self = self.over(config::read(&path).map_err(Failure::usage)?);
        }
        if self.kernel.as_deref() == Some(":") {
            for payload in payload::all() {
                out::line(format_args!(
                    ":{:<10} {} [status {}]",
                    payload.name, payload.about, payload.ending
                ))?;
            }
            return Ok(0);
        }
        if self.print_board {
            board::print(&self)?;
            return Ok(0);
        }
        match place::elsewhere(&self, global)? {
            Some(status) => Ok(status),
            None => self.run_here(global, timeline),
        }
    }

    fn run_here(self, global: &Global, timeline: Arc<Timeline>) -> Result<u8, Failure> {
        let guest = guest::prepare(&self, global.quiet)?;
        if !global.quiet {
            out::say(&guest.origin);
        }
        huge::check(guest.spec.memory, guest.spec.huge_pages).map_err(Failure::host)?;
        let report = self.json.as_deref().map(ReportFile::create).transpose();
        let report = report.map_err(Failure::usage)?;
        let control = Control {
            place: Place::find().map_err(Failure::host)?,
            name: place::name_of_run(&self)?,
        };
        let events = self.events.as_deref().map(Stream::to_path).transpose();
        let events = events.map_err(Failure::usage)?;
        let trace = self.msr_trace.as_ref().map(TraceFiles::create).transpose();
        let trace = trace.map_err(Failure::usage)?;
        let output = io::stdout().as_fd().try_clone_to_owned();
        let output = output.map_err(|source| Failure::internal(BootError::Stdout { source }))?;
        let (booted, names) = (guest.booted, guest.names);
        let sent = guest.parcels.reader().map_err(Failure::internal)?;
        let to = Connections {
            control,
            timeline,
            symbols: Box::new(move || names.read()),
            output,
            parcels: Box::new(guest.parcels),
            say: Box::new(|words| out::say(words)),
            events,
            records_msrs: trace.is_some(),
        };
        let mut finished = run(guest.spec, self.rules(guest.interactive, guest.input), to)
            .map_err(error::of_run)?;
        if let Some(sent) = sent
            && let Err(error) = parcels::unpack(sent, &self.get)
        {
            let text = super::chain(&error);
            if error.decides(finished.outcome.status()) {
                finished.outcome.note(End::Vmm { error: text });
            } else {
                out::say(text);
            }
        }
        let traced = trace.zip(finished.msr_trace.take());
        let title = booted.kernel.display().to_string();
        let status = conclude::conclude(finished, booted, report, &self, global);
        if let Some((files, trace)) = traced {
            files.write(&trace, &title, global.quiet)?;
        }
        Ok(status)
    }

    fn rules(&self, interactive: bool, input: Input) -> Rules {
        let hang = self.hang.map_or(HANG, |span| span.0);
        // In a file every byte is for the guest.
        let typed = interactive && rustix::termios::isatty(rustix::stdio::stdin());
        let keys = self.escape.unwrap_or_default();
        Rules {
            timeout: self.timeout.map(|span| span.0),
            hang: (!hang.is_zero()).then_some(hang),
            on_oops: self.on_oops.unwrap_or_default(),
            exit_rule: self.exit_rule.unwrap_or_default(),
            on_reboot: self.on_reboot.unwrap_or_default(),
            interactive,
            escape: if typed { keys } else { EscapeKey::NONE },
            input,
        }
    }
}
