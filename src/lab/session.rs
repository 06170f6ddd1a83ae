//! One lab from start to end.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use super::choose::inside;
use super::command::{Command, Exit};
use super::error::LabError;
use super::kernel::{self, LabKernel};
use super::machine::Machine;
use super::options::Options;
use super::qemu::{self, Engine, Plan, Wires};
use super::shares::{self, Share};
use super::talk::Talk;
use super::terminal::{self, Streams};
use super::wire::Job;
use super::wires::Ends;
use super::{child, initramfs, memory};
use crate::host::Qemu;
use crate::kernels::Cache;

/// Runs a command in a lab of its own. Standard input, output and error are this process's; while it
/// runs, signals to this process go to the command.
///
/// # Errors
/// When the lab could not be made or broke. A command that fails is not an error.
pub fn run(command: &Command, options: &Options) -> Result<Exit, LabError> {
    if inside() {
        return Err(LabError::Nested);
    }
    let qemu = Qemu::find()?;
    memory::check(options.mem)?;
    let cache = Cache::from_env()?;
    let kernel = LabKernel::prepare(kernel::choose(options.kernel.as_deref())?, &cache)?;
    let engine = Engine::choose(options.accel)?;
    let shares = writable(options, &cache)?;
    let look = Streams::look();
    let job = Job {
        argv: command
            .argv
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect(),
        env: command.environment(),
        cwd: working_directory(command)?.into_os_string().into_vec(),
        shares: shares
            .iter()
            .enumerate()
            .map(|(n, s)| s.to_wire(n))
            .collect(),
        terminal: if look.terminal {
            terminal::size()
        } else {
            (0, 0)
        },
        merge: look.merge,
        socket: options
            .tunnel
            .iter()
            .flat_map(|tunnel| tunnel.inside.as_os_str().as_bytes().to_vec())
            .collect(),
    };

    let (ours, theirs) = Ends::pair().map_err(LabError::io("create sockets"))?;
    let child = start(&qemu, &kernel, engine, options, &shares, theirs)?;
    let log = cache.root().join("lab/console.log");
    let machine = Machine::new(child, ours.console, options.show_console, log);
    let outputs = [ours.stdout, ours.stderr];
    let mut talk = Talk::new(ours.control, ours.stdin, outputs, look)?;
    if let Some(tunnel) = &options.tunnel {
        talk.dig(tunnel, ours.tunnel)?;
    }
    talk.hold(machine, job, options.start_limit)
}

/// Starts QEMU, which takes the far ends and the initramfs with it.
fn start(
    qemu: &Qemu,
    kernel: &LabKernel,
    engine: Engine,
    options: &Options,
    shares: &[Share],
    ends: Ends,
) -> Result<Child, LabError> {
    let mut modules = vec![engine.kvm_module];
    modules.extend(options.devices.modules());
    let initramfs = initramfs::build(&kernel.kernel, &modules)?;
    let plan = Plan {
        engine,
        mem: options.mem,
        cpus: options.cpus,
        image: &kernel.image,
        devices: options.devices,
        extra: &options.extra_devices,
        shares,
        wires: Wires {
            console: ends.console.as_fd(),
            control: ends.control.as_fd(),
            stdin: ends.stdin.as_fd(),
            stdout: ends.stdout.as_fd(),
            stderr: ends.stderr.as_fd(),
            tunnel: ends.tunnel.as_fd(),
            initramfs: initramfs.as_fd(),
        },
    };
    let mut process = std::process::Command::new(&qemu.path);
    process.args(plan.arguments()).stdin(Stdio::null());
    // QEMU's own words belong to the lab's console.
    let words = |end: &UnixStream| end.try_clone().map(|end| Stdio::from(OwnedFd::from(end)));
    process
        .stdout(words(&ends.console).map_err(LabError::io("copy a socket"))?)
        .stderr(words(&ends.console).map_err(LabError::io("copy a socket"))?);
    let mut keep = ends.into_fds();
    keep.push(initramfs.into());
    // The far ends close here with `process`: QEMU's hang-up is then seen.
    child::spawn(&mut process, keep).map_err(LabError::io("start QEMU"))
}

/// The shares asked for, and the cache, which every command may fill.
fn writable(options: &Options, cache: &Cache) -> Result<Vec<Share>, LabError> {
    let mut paths = options.writable.clone();
    std::fs::create_dir_all(cache.root()).map_err(|source| LabError::Share {
        path: cache.root().into(),
        source,
    })?;
    paths.push(cache.root().into());
    let shares = shares::resolve(&paths)?;
    if shares.len() > qemu::SHARES_MAX {
        return Err(LabError::TooManyShares {
            asked: shares.len(),
            limit: qemu::SHARES_MAX,
        });
    }
    Ok(shares)
}

fn working_directory(command: &Command) -> Result<PathBuf, LabError> {
    match &command.cwd {
        Some(dir) => Ok(dir.clone()),
        None => std::env::current_dir().map_err(LabError::io("find the working directory")),
    }
}
