//! `trapline boot`: the main job.

mod args;
mod config;
mod error;
mod guest;
mod inside;
mod parcels;
mod place;

pub(crate) use args::BootArgs;

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use crate::boot::payload;
use crate::machine::control::{Name, Place};
use crate::machine::{Connections, Control, End, EscapeKey, Finished, Rules, for_bisect, run};
use crate::trace::Stream;

use error::BootError;

use super::{Failure, Global, Status, out};

/// How long no progress is a hang, unless told.
const HANG: Duration = Duration::from_secs(30);

impl BootArgs {
    /// Boots, waits for the end, and says how it was.
    pub(super) fn run(self, global: &Global) -> Result<ExitCode, Failure> {
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
        match place::elsewhere(&self, global)? {
            Some(status) => Ok(status),
            None => self.run_here(global),
        }
    }

    fn run_here(self, global: &Global) -> Result<u8, Failure> {
        let guest = guest::prepare(&self, global.quiet)?;
        if !global.quiet {
            out::say(&guest.origin);
        }
        let name = self
            .name
            .as_deref()
            .map_or_else(|| Ok(Name::generated()), str::parse);
        let control = Control {
            place: Place::find().map_err(Failure::host)?,
            name: name.map_err(Failure::usage)?,
        };
        let events = self.events.as_deref().map(Stream::to_path).transpose();
        let events = events.map_err(Failure::usage)?;
        let output = io::stdout().as_fd().try_clone_to_owned();
        let output = output.map_err(|source| Failure::internal(BootError::Stdout { source }))?;
        let spool = guest.parcels.reader().map_err(Failure::internal)?;
        let to = Connections {
            control,
            output,
            parcels: Box::new(guest.parcels),
            say: Box::new(|words| out::say(words)),
            events,
        };
        let finished = run(guest.spec, self.rules(guest.interactive), to).map_err(error::of_run)?;
        let mut status = conclude(&finished, global);
        if let Some(spool) = spool
            && let Err(error) = parcels::unpack(spool, &self.get)
        {
            out::say(super::chain(&error));
            status = Status::Internal as u8;
        }
        Ok(status)
    }

    fn rules(&self, interactive: bool) -> Rules {
        let hang = self.hang.map_or(HANG, |span| span.0);
        let keys = self.escape.unwrap_or_default();
        Rules {
            timeout: self.timeout.map(|span| span.0),
            hang: (!hang.is_zero()).then_some(hang),
            on_oops: self.on_oops.unwrap_or_default(),
            on_reboot: self.on_reboot.unwrap_or_default(),
            interactive,
            escape: if interactive { keys } else { EscapeKey::NONE },
            input: true,
            symbols: Vec::new(),
        }
    }
}

/// Says how the run ended, and gives its status.
fn conclude(finished: &Finished, global: &Global) -> u8 {
    let outcome = &finished.outcome;
    let status = outcome.status();
    let plain = |end: &End| matches!(end, End::PoweredOff | End::Rebooted);
    for end in outcome.ends() {
        if !(global.quiet || status == 0 && plain(end)) {
            out::say(end);
        }
    }
    match &finished.events {
        Some(Ok(summary)) if summary.dropped > 0 => {
            let (dropped, written) = (summary.dropped, summary.written);
            out::say(format_args!(
                "{dropped} events were dropped, {written} written"
            ));
        }
        Some(Err(error)) => {
            out::say(super::chain(error));
            return Status::Internal as u8;
        }
        _ => {}
    }
    status
}
