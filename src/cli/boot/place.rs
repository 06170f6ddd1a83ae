//! Here, or in the lab: the same command line, run there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::boot::Image;
use crate::cli::values::Size;
use crate::cli::{Failure, Global, Place, out};
use crate::lab::{self, Command, Decision, Exit, Need, Options};

use super::args::BootArgs;
use super::guest;

/// Runs the guest in a lab when it cannot run here; none when it is to run here.
pub(super) fn elsewhere(args: &BootArgs, global: &Global) -> Result<Option<u8>, Failure> {
    let payload = args
        .kernel
        .as_deref()
        .is_some_and(|kernel| kernel.starts_with(':'));
    let need = if payload { Need::Payload } else { Need::Linux };
    let decision = lab::choose(global.place.into(), need);
    if decision == Decision::Here {
        return Ok(None);
    }
    // What is wrong with the command line is said before a lab is started for it.
    if !payload {
        let (kernel, _) = guest::find_kernel(args)?;
        Image::open(&kernel.image).map_err(Failure::usage)?;
    }
    if !global.quiet {
        out::say(&decision);
    }
    let memory = args.mem.unwrap_or(Size(guest::MEMORY)).0;
    let mut options = args.lab.apply(Options::for_guest(memory));
    options.writable = writable(args);
    options.show_console = global.verbose > 1;
    let exit = lab::run(&Command::new(own_command_line()?), &options)?;
    Ok(Some(match exit {
        Exit::Code(status) => status,
        Exit::Signal(signal) => signal.saturating_add(128),
        Exit::Refused { status, why } => {
            out::say(why);
            status
        }
    }))
}

/// This command line, with the place settled.
fn own_command_line() -> Result<Vec<OsString>, Failure> {
    let program = env::current_exe().map_err(Failure::internal)?;
    let place = ["--in", "here"].map(OsString::from);
    Ok([program.into()]
        .into_iter()
        .chain(place)
        .chain(env::args_os().skip(1))
        .collect())
}

/// Folders that results of the run are written to.
fn writable(args: &BootArgs) -> Vec<PathBuf> {
    let files = [&args.events, &args.json];
    let files = files.into_iter().flatten().map(PathBuf::as_path);
    let results = args.get.iter().map(|pair| pair.1.as_path());
    let folder = |path: &Path| match path.parent() {
        _ if path.is_dir() => path.to_owned(),
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders: Vec<_> = files
        .filter(|path| *path != Path::new("-"))
        .chain(results)
        .map(folder)
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

impl From<Place> for lab::Place {
    fn from(place: Place) -> Self {
        match place {
            Place::Auto => Self::Auto,
            Place::Here => Self::Here,
            Place::Lab => Self::Lab,
        }
    }
}
