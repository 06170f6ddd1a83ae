//! What the built-in initramfs holds, and what its init is asked to do.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use rustix::stdio::stdin;
use rustix::termios::{isatty, tcgetwinsize};

use crate::boot::Initrd;
use crate::boot::initramfs;
use crate::boot::job::{Action, Job, Terminal};
use crate::kernels::{self, Cache, Kernel, modules};
use crate::machine::Input;

use super::args::BootArgs;
use super::error::BootError;
use super::guest::of_kernels;
use crate::cli::Failure;
use crate::cli::progress::Bar;

/// Where standard input goes: what is typed to the console; a pipe or a file to the command, if the
/// built-in init is what runs it. A debugger in the kernel listens on the console before any init.
pub(super) fn input(args: &BootArgs, cmdline: &str) -> Input {
    let others = ["rdinit=", "kgdb", "kdb"];
    let is_other = |word: &str| others.iter().any(|other| word.starts_with(other));
    if isatty(stdin()) || args.initrd.is_some() || cmdline.split_whitespace().any(is_other) {
        Input::Console
    } else if action(args) == Action::Nothing {
        Input::Nowhere
    } else {
        Input::Command
    }
}

fn action(args: &BootArgs) -> Action {
    match (&args.exec, args.shell, args.command.is_empty()) {
        (Some(script), ..) => Action::Script(script.clone().into_bytes()),
        (_, true, _) => Action::Shell,
        (_, _, false) => Action::Program(
            args.command
                .iter()
                .map(|word| word.clone().into_bytes())
                .collect(),
        ),
        _ => Action::Nothing,
    }
}

/// Builds the initramfs that the options ask for.
pub(super) fn initramfs(
    args: &BootArgs,
    kernel: &Kernel,
    input: Input,
    quiet: bool,
) -> Result<Initrd, Failure> {
    let action = action(args);
    // A program without a shell brings its own files; it still may call on the applets.
    let busybox = match action {
        Action::Nothing => None,
        _ => Some(busybox(quiet)?),
    };
    let job = Job {
        terminal: args.shell.then(terminal),
        action,
        input: input == Input::Command,
        get: args
            .get
            .iter()
            .map(|pair| pair.0.as_os_str().as_bytes().to_vec())
            .collect(),
        ..Job::default()
    };
    let mut packed = Vec::new();
    if !args.module.is_empty() {
        for module in modules::resolve(kernel, &args.module).map_err(Failure::usage)? {
            packed.push((module.name.clone(), module.bytes().map_err(Failure::usage)?));
        }
    }
    let files: Vec<_> = args
        .file
        .iter()
        .map(|pair| (pair.0.clone(), pair.1.clone()))
        .collect();
    let bytes = initramfs::builtin(&job, busybox.as_deref(), &packed, &files);
    let held = Initrd::from_bytes(&bytes.map_err(Failure::usage)?);
    held.map_err(|source| Failure::internal(BootError::Hold { source }))
}

/// The caller's terminal, as the guest's shell should see it.
fn terminal() -> Terminal {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok();
    let given = |value: u16, default| if value == 0 { default } else { value };
    Terminal {
        name: std::env::var_os("TERM").map_or_else(|| b"linux".to_vec(), OsStringExt::into_vec),
        columns: given(size.map_or(0, |s| s.ws_col), 80),
        rows: given(size.map_or(0, |s| s.ws_row), 24),
    }
}

fn busybox(quiet: bool) -> Result<PathBuf, Failure> {
    let cache = Cache::from_env().map_err(of_kernels)?;
    kernels::busybox(&cache, &Bar::new(quiet)).map_err(Failure::host)
}
