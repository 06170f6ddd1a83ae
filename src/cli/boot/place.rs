//! Here, or in the lab: the same command line, run there.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::boot::Image;
use crate::cli::values::Size;
use crate::cli::{Failure, Global, Place, out};
use crate::lab::{self, Command, Decision, Exit, Need, Options, Tunnel};
use crate::machine::control::{self, Listening, Name};
use crate::machine::{DriveSpec, HeldDrives};

use super::args::BootArgs;
use super::guest;

/// Tells the run in the lab which name it has.
const NAME_INSIDE: &str = "TRAPLINE_RUN_NAME";
/// Where that run's control socket lies.
const RUNTIME_INSIDE: &str = "/run/trapline-lab";

/// Runs the guest in a lab when it cannot run here; none when it is to run here.
pub(super) fn elsewhere(args: &BootArgs, global: &Global) -> Result<Option<u8>, Failure> {
    let bare = guest::is_bare(args);
    let need = if bare { Need::Payload } else { Need::Linux };
    let decision = lab::choose(global.place.into(), need);
    if decision == Decision::Here {
        return Ok(None);
    }
    // What is wrong with the command line is said before a lab is started for it.
    guest::msr_policy(args)?;
    // Locks are taken out here: those of a lab bind nobody else.
    let _held = HeldDrives::hold(&guest::drives(args)).map_err(Failure::usage)?;
    if !bare {
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
    let mut command = Command::own()?;
    let _listening = tunnel(args, &mut command, &mut options)?;
    let exit = lab::run(&command, &options)?;
    if let Exit::Refused { why, .. } = &exit {
        out::say(why);
    }
    Ok(Some(exit.status()))
}

/// The run's name: the one given, the one the outer run has taken for it, or one made up.
pub(super) fn name_of_run(args: &BootArgs) -> Result<Name, Failure> {
    let outer = || env::var(NAME_INSIDE).ok().filter(|_| lab::inside());
    match args.name.clone().or_else(outer) {
        Some(name) => name.parse().map_err(Failure::usage),
        None => Ok(Name::generated()),
    }
}

/// Takes the run's name out here and lets `ps` and `ctl` through to the run in the lab. The name is
/// free again when what this gives is dropped.
fn tunnel(
    args: &BootArgs,
    command: &mut Command,
    options: &mut Options,
) -> Result<Listening, Failure> {
    let name = name_of_run(args)?;
    let place = control::Place::find().map_err(Failure::host)?;
    let listening = place.listen(&name).map_err(Failure::usage)?;
    let listener = listening.socket().map_err(Failure::internal)?;
    let inside = Path::new(RUNTIME_INSIDE).join("trapline");
    options.tunnel = Some(Tunnel {
        listener: Arc::new(listener),
        inside: inside.join(format!("{name}.sock")),
    });
    command.env.extend([
        (NAME_INSIDE.into(), name.to_string().into()),
        ("XDG_RUNTIME_DIR".into(), RUNTIME_INSIDE.into()),
    ]);
    Ok(listening)
}

/// Folders that results of the run are written to, and the disks that it writes.
fn writable(args: &BootArgs) -> Vec<PathBuf> {
    let traced = args
        .msr_trace
        .iter()
        .flat_map(|trace| [&trace.trace, &trace.as_policy]);
    let files = [&args.events, &args.json];
    let files = files
        .into_iter()
        .chain(traced)
        .flatten()
        .map(PathBuf::as_path);
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
    let disks = guest::drives(args).into_iter();
    folders.extend(disks.filter(DriveSpec::writes).map(|disk| disk.path));
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
