//! The guest that the options describe.

use std::path::{Path, PathBuf};

use crate::boot::payload::{self, Payload};
use crate::boot::{Format, Image, Initrd, Kind, Module, Symbols, vmlinux};
use crate::chipset::DebugExitMode;
use crate::kernels::{self, Cache, Kernel};
use crate::machine::{Booted, DriveSpec, DriveUse, Equipment, Input, Spec};
use crate::msr::policy::Policy;

use super::args::BootArgs;
use super::error::BootError;
use super::inside;
use super::parcels::Spool;
use crate::cli::Failure;
use crate::cli::values::Size;

/// What a guest gets unless told.
pub(super) const MEMORY: u64 = 256 << 20;
/// The default command line: a console, and a panic that ends the run at once.
const CMDLINE: &str = "console=ttyS0 panic=-1";

/// A guest ready to be built.
pub(super) struct Guest {
    pub(super) spec: Spec,
    /// The same for the report.
    pub(super) booted: Booted,
    /// One line on what it is and where it came from.
    pub(super) origin: String,
    /// Where names for a post-mortem may be.
    pub(super) names: NameFiles,
    /// Whether a person sits at its console.
    pub(super) interactive: bool,
    /// Where standard input goes.
    pub(super) input: Input,
    pub(super) parcels: Spool,
}

pub(super) fn prepare(args: &BootArgs, quiet: bool) -> Result<Guest, Failure> {
    let policy = msr_policy(args)?;
    let mut guest = match args.kernel.as_deref().and_then(|k| k.strip_prefix(':')) {
        Some(name) => of_payload(args, name),
        None => of_kernel(args, quiet),
    }?;
    guest.spec.equipment.msr_policy = policy;
    Ok(guest)
}

/// The MSR policy; a mistake in it is the user's.
pub(super) fn msr_policy(args: &BootArgs) -> Result<Policy, Failure> {
    let counting = args.msr_trace.as_ref().map(|_| ":count-all".to_owned());
    let files: Vec<_> = counting
        .into_iter()
        .chain(args.msr_policy.iter().cloned())
        .collect();
    Policy::load(&files).map_err(Failure::usage)
}

fn of_payload(args: &BootArgs, name: &str) -> Result<Guest, Failure> {
    let refused = [
        ("initrd", args.initrd.is_some(), "initramfs"),
        ("boot-module", !args.boot_module.is_empty(), "modules"),
        ("format", args.format.is_some(), "choice of format"),
    ];
    if let Some(&(option, _, lacks)) = refused.iter().find(|(_, given, _)| *given) {
        let guest = "a payload";
        return Err(Failure::usage(BootError::NotForThat {
            option,
            guest,
            lacks,
        }));
    }
    refuse_linux_options(args, "a payload")?;
    let payload = payload::find(name).ok_or_else(|| {
        let score = |p: &Payload| strsim::jaro_winkler(p.name, name);
        let nearest = payload::all()
            .iter()
            .max_by(|a, b| score(a).total_cmp(&score(b)));
        let nearest = nearest.filter(|p| score(p) > 0.7).map(|p| p.name);
        Failure::usage(BootError::Payload {
            name: name.into(),
            nearest,
        })
    })?;
    let kernel = Image::from_bytes(format!(":{}", payload.name), payload.elf);
    let kernel = kernel.map_err(Failure::internal)?;
    let given = args.cmdline.clone().or_else(|| args.append.clone());
    // argv[0] first, as a payload's command line is that of a program.
    let cmdline = [Some(payload.name.to_owned()), given].into_iter().flatten();
    let spec = Spec {
        title: format!(":{}", payload.name),
        cmdline: cmdline.collect::<Vec<_>>().join(" "),
        ..plain(args, kernel, DebugExitMode::Exit)
    };
    let origin = format!("payload :{}: {}", payload.name, payload.about);
    Ok(Guest {
        booted: booted(&spec),
        spec,
        names: NameFiles::default(),
        origin,
        interactive: false,
        input: Input::Console,
        parcels: Spool::default(),
    })
}

/// Options that only Linux with the built-in init has a use for.
fn refuse_linux_options(args: &BootArgs, guest: &'static str) -> Result<(), Failure> {
    let refused = [
        ("exec", args.exec.is_some(), "shell"),
        ("shell", args.shell, "shell"),
        ("module", !args.module.is_empty(), "modules of Linux"),
        ("file", !args.file.is_empty(), "files"),
        ("get", !args.get.is_empty(), "files"),
    ];
    match refused.iter().find(|(_, given, _)| *given) {
        Some(&(option, _, lacks)) => Err(Failure::usage(BootError::NotForThat {
            option,
            guest,
            lacks,
        })),
        None => Ok(()),
    }
}

/// Whether the guest is one that runs on software KVM too: a payload, a multiboot kernel or a flat
/// binary. Looks at a file that is named, not for one.
pub(super) fn is_bare(args: &BootArgs) -> bool {
    let Some(name) = args.kernel.as_deref() else {
        return false;
    };
    let format = args.format.unwrap_or_default();
    name.starts_with(':')
        || format != Format::Auto
        || Image::open(name).is_ok_and(|image| image.kind() == Kind::Multiboot)
}

/// A guest that is no Linux: its own program, whose command line starts with its name.
fn of_bare(args: &BootArgs, kernel: Kernel, image: Image) -> Result<Guest, Failure> {
    let guest = match image.kind() {
        Kind::Flat => "a flat guest",
        _ => "a multiboot guest",
    };
    refuse_linux_options(args, guest)?;
    let name = args.kernel.clone().unwrap_or_else(|| kernel.name.clone());
    let words = [Some(&name), args.cmdline.as_ref(), args.append.as_ref()];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
    let initrd = args.initrd.as_deref().map(open_initrd).transpose()?;
    let modules = args.boot_module.iter().map(|module| {
        let file = open_initrd(&module.file)?;
        let string = match &module.string {
            Some(words) => format!("{} {words}", module.file.display()),
            None => module.file.display().to_string(),
        };
        Ok(Module { file, string })
    });
    let modules = modules.collect::<Result<_, Failure>>()?;
    let origin = format!("{} guest {name}", image.kind().name());
    let spec = Spec {
        title: kernel.name,
        cmdline: words.join(" "),
        initrd,
        modules,
        ..plain(args, image, DebugExitMode::Exit)
    };
    // kvm-unit-tests keeps the ELF64 file, with its symbols, beside the converted one.
    let elf = kernel.image.with_extension("elf");
    let names = NameFiles {
        vmlinux: Some(elf).filter(|elf| elf.is_file()),
        ..NameFiles::default()
    };
    Ok(Guest {
        booted: booted(&spec),
        spec,
        names,
        origin,
        interactive: false,
        input: Input::Console,
        parcels: Spool::default(),
    })
}

fn open_initrd(path: &Path) -> Result<Initrd, Failure> {
    Initrd::open(path).map_err(|source| {
        Failure::usage(BootError::Initrd {
            path: path.to_owned(),
            source,
        })
    })
}

/// Files that may hold a kernel's symbols.
#[derive(Debug, Default)]
pub(super) struct NameFiles {
    system_map: Option<PathBuf>,
    vmlinux: Option<PathBuf>,
    image: Option<PathBuf>,
}

impl NameFiles {
    /// The first of them that has any: a map is quick to read, a vmlinux has all, and an image
    /// carries its own kallsyms.
    pub(super) fn read(&self) -> Option<Symbols> {
        let map = || std::fs::read_to_string(self.system_map.as_deref()?).ok();
        let image = || vmlinux::extract(&std::fs::read(self.image.as_deref()?).ok()?).ok();
        map()
            .and_then(|text| Symbols::from_system_map(&text).ok())
            .or_else(|| Symbols::from_vmlinux(self.vmlinux.as_deref()?).ok())
            .or_else(|| Symbols::from_kallsyms(&image()?))
    }
}

fn of_kernel(args: &BootArgs, quiet: bool) -> Result<Guest, Failure> {
    let (kernel, from) = find_kernel(args)?;
    let format = args.format.unwrap_or_default();
    let image = Image::open_as(&kernel.image, format).map_err(Failure::usage)?;
    match image.kind() {
        Kind::Multiboot | Kind::Flat => of_bare(args, kernel, image),
        Kind::BzImage | Kind::Elf if !args.boot_module.is_empty() => {
            Err(Failure::usage(BootError::NotForThat {
                option: "boot-module",
                guest: "a Linux kernel",
                lacks: "modules of a boot loader",
            }))
        }
        Kind::BzImage | Kind::Elf => of_linux(args, kernel, &from, image, quiet),
    }
}

fn of_linux(
    args: &BootArgs,
    kernel: Kernel,
    from: &str,
    image: Image,
    quiet: bool,
) -> Result<Guest, Failure> {
    let version = kernel
        .version
        .as_deref()
        .map(|v| format!(" ({v})"))
        .unwrap_or_default();
    let origin = format!("kernel {}{version}{from}", kernel.name);
    let cmdline = match (&args.cmdline, &args.append) {
        (Some(whole), None) => whole.clone(),
        (Some(whole), Some(more)) => format!("{whole} {more}"),
        (None, Some(more)) => format!("{CMDLINE} {more}"),
        (None, None) => CMDLINE.into(),
    };
    let input = inside::input(args, &cmdline);
    let (initrd, debug_exit, parcels) = match &args.initrd {
        Some(path) => (open_initrd(path)?, DebugExitMode::Exit, Spool::default()),
        None => {
            let parcels = Spool::for_results(&args.get).map_err(Failure::usage)?;
            (
                inside::initramfs(args, &kernel, input, quiet)?,
                DebugExitMode::Report,
                parcels,
            )
        }
    };
    let release = kernel.version.clone();
    let names = NameFiles {
        system_map: kernel.system_map.clone(),
        vmlinux: kernel.vmlinux.clone(),
        image: Some(kernel.image.clone()),
    };
    let spec = Spec {
        title: kernel.name,
        cmdline,
        initrd: Some(initrd),
        ..plain(args, image, debug_exit)
    };
    let interactive = args.shell || args.initrd.is_some();
    Ok(Guest {
        booted: Booted {
            version: release,
            ..booted(&spec)
        },
        spec,
        names,
        origin,
        interactive,
        input,
        parcels,
    })
}

/// The kernel that is named, or the one to boot when none is; and where the latter came from.
pub(super) fn find_kernel(args: &BootArgs) -> Result<(Kernel, String), Failure> {
    match &args.kernel {
        Some(name) => {
            let cache = Cache::from_env().map_err(of_kernels)?;
            Ok((
                kernels::locate(&cache, name).map_err(of_kernels)?,
                String::new(),
            ))
        }
        None => {
            let (kernel, origin) = kernels::default_kernel().map_err(of_kernels)?;
            Ok((kernel, format!(", {origin}")))
        }
    }
}

/// What the report says of a guest; the protocol is known when it is loaded.
fn booted(spec: &Spec) -> Booted {
    // A payload has a name and no path.
    let payload = spec.title.starts_with(':').then_some(&spec.title);
    Booted {
        kernel: payload.map_or_else(|| spec.kernel.path().into(), Into::into),
        version: None,
        format: match spec.kernel.kind() {
            _ if payload.is_some() => "payload",
            Kind::BzImage => "bzimage",
            Kind::Elf => "elf",
            Kind::Multiboot => "multiboot",
            Kind::Flat => "flat",
        }
        .into(),
        protocol: String::new(),
        cmdline: spec.cmdline.clone(),
        cpus: u32::try_from(spec.cpus).unwrap_or(u32::MAX),
        memory_mib: spec.memory >> 20,
    }
}

/// The files of the guest's drives: disks, then discs.
pub(super) fn drives(args: &BootArgs) -> Vec<DriveSpec> {
    let disks = args.disk.iter().map(|disk| disk.0.clone());
    let discs = args.cdrom.iter().map(|path| DriveSpec {
        path: path.clone(),
        kind: DriveUse::CdRom,
    });
    disks.chain(discs).collect()
}

/// What the options put on the board.
pub(super) fn equipment(args: &BootArgs, debug_exit: DebugExitMode) -> Equipment {
    Equipment {
        debug_exit,
        post_codes: args.post_codes,
        devices: args.device.iter().map(|device| device.0.clone()).collect(),
        drives: drives(args),
        cpu: args.cpu.clone().unwrap_or_default(),
        ..Equipment::default()
    }
}

/// What the options say of any guest.
fn plain(args: &BootArgs, kernel: Image, debug_exit: DebugExitMode) -> Spec {
    Spec {
        title: String::new(),
        cpus: args.cpus.unwrap_or(1),
        memory: args.mem.unwrap_or(Size(MEMORY)).0,
        huge_pages: args.hugepages.map(Into::into).unwrap_or_default(),
        kernel,
        protocol: args.protocol.map(Into::into).unwrap_or_default(),
        cmdline: String::new(),
        initrd: None,
        modules: Vec::new(),
        equipment: equipment(args, debug_exit),
    }
}

/// A kernel that is not there is the host's lack; one that is no kernel is the user's mistake.
pub(super) fn of_kernels(error: kernels::KernelError) -> Failure {
    if error.is_hosts_fault() {
        Failure::host(error)
    } else {
        Failure::usage(error)
    }
}
