//! Building kernels for testing from the distribution's source, out of tree and into the cache.

mod config;
mod headers;
mod make;
mod source;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

pub use config::Recipe;
pub use tools::Tool;
pub(super) use tools::missing_programs;

use super::apt::AptError;
use super::cache::Cache;
use super::deb::UnpackError;
use super::depmod;
use super::error::KernelError;
use super::get::{keep, now, series_of};
use super::kernel::{Kernel, Manifest};
use super::options::Options;
use super::progress::Progress;
use super::staging::Staging;
use make::Make;
use source::Tree;

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct BuildRequest<'a> {
    /// Which kernel.
    pub recipe: Recipe,
    /// A source tree or a `linux-source-*` package; none is the suite's newest.
    pub source: Option<&'a str>,
    /// The suite to take the package from; none is the machine's own release.
    pub suite: Option<&'a str>,
    /// With coverage of KVM.
    pub kcov: bool,
    /// With the kernel's address sanitizer.
    pub kasan: bool,
    /// How many compilers at a time.
    pub jobs: usize,
}

/// A kernel that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Programs or headers this machine lacks.
    #[error("building a kernel needs {}; get it with\n  sudo apt-get install {}", tools::names(.0), tools::packages(.0))]
    Tools(Vec<Tool>),
    /// No source package.
    #[error(
        "no kernel source in {package}; name a suite that has one (--suite), or a tree (--source DIR)"
    )]
    NoSource {
        /// What was looked for or in.
        package: String,
    },
    /// A directory that holds no kernel source.
    #[error("{path} is not a kernel source tree: it has no Kbuild or no arch/x86/Kconfig")]
    NotATree {
        /// The directory.
        path: PathBuf,
    },
    /// A tree that was built in.
    #[error(
        "{path} has been built in, and kbuild then refuses to build elsewhere; run make mrproper there, or clone it"
    )]
    NotClean {
        /// The directory.
        path: PathBuf,
    },
    /// Options that the source does not know, or that others forbid.
    #[error(
        "{source_tree} did not keep {}; a newer source may have them (--suite, --source linux-source-6.12), \
         and the log says what was left out: {log}", .options.join(", ")
    )]
    Options {
        /// What was built from.
        source_tree: String,
        /// `NAME=wanted (is got)`.
        options: Vec<String>,
        /// The build's log.
        log: PathBuf,
    },
    /// make failed.
    #[error("make {target} failed; the whole log is {log}, its end:\n{tail}")]
    Make {
        /// Which target.
        target: String,
        /// The build's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// apt.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A damaged package.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] KernelError),
}

/// A kernel built, and whether it was there already.
#[derive(Debug)]
pub struct Built {
    /// The kernel, in the cache.
    pub kernel: Kernel,
    /// Whether it was there, from the same source with the same options.
    pub already: bool,
}

/// The options a kernel was asked to have, beside the `config` it got.
const ASKED: &str = "asked.config";

/// Builds a kernel into the cache, or finds it there.
///
/// # Errors
/// When tools or source are missing, an option cannot be had, or make fails.
pub fn build(
    cache: &Cache,
    request: &BuildRequest<'_>,
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let missing = tools::missing();
    if !missing.is_empty() {
        return Err(BuildError::Tools(missing));
    }
    let tree = source::open(cache, request.source, request.suite, progress)?;
    let version = make::kernel_version(&tree.dir)?;
    let extras = extras(request);
    let flavour = request.recipe.name();
    let asked = config::compose(request, &version, &format!("-{flavour}{extras}"));
    // A series has one kernel in the cache; what a user builds from a tree of his own has another.
    let short = if tree.own {
        version
    } else {
        series_of(&version)
    };
    let name = format!("{flavour}-{short}{extras}");
    if let Some(kernel) = there(cache, &name, &tree, &asked)? {
        return Ok(Built {
            kernel,
            already: true,
        });
    }

    let staging = Staging::new(cache)?;
    let job = Job {
        make: Make::new(cache, &tree.dir, staging.path(), &name, request)?,
        tree,
        asked,
        progress,
    };
    job.configure()?;
    job.make.run(&["bzImage", "modules"], progress)?;
    let version = job.collect(staging.path())?;
    let manifest = Manifest {
        name,
        version,
        flavour: flavour.into(),
        suite: job.tree.suite,
        package: job.tree.origin,
        made_at: now(),
    };
    Ok(Built {
        kernel: keep(cache, staging, &manifest)?,
        already: false,
    })
}

/// `-kcov`: kept in the name and in the local version, so that `uname -r` tells one from another.
fn extras(request: &BuildRequest<'_>) -> String {
    let words = [(request.kcov, "-kcov"), (request.kasan, "-kasan")];
    words
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| *word)
        .collect()
}

/// The same kernel, built before: a tree of the user's may have changed and is always built.
fn there(
    cache: &Cache,
    name: &str,
    tree: &Tree,
    asked: &str,
) -> Result<Option<Kernel>, KernelError> {
    let kernel = cache.list()?.into_iter().find(|k| k.name == name);
    let same = |k: &Kernel| {
        let before = read(&cache.kernels().join(name).join(ASKED));
        k.package.as_deref() == Some(&*tree.origin) && before.is_ok_and(|text| text == asked)
    };
    Ok(kernel.filter(|k| !tree.own && same(k)))
}

/// One build, from a source that is there to files that are kept.
struct Job<'a> {
    make: Make,
    tree: Tree,
    /// The options the kernel is to have.
    asked: String,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    fn configure(&self) -> Result<(), BuildError> {
        self.progress.step("configuring");
        self.make.run(&["tinyconfig"], self.progress)?;
        let file = self.make.out().join(".config");
        let tiny = read(&file)?;
        // The last line that sets an option wins.
        fs::write(&file, format!("{tiny}\n{}", self.asked))
            .map_err(KernelError::io("write", &file))?;
        self.make.run(&["olddefconfig"], self.progress)?;
        let options = config::not_kept(&self.asked, &Options::read(&file)?);
        if options.is_empty() {
            return Ok(());
        }
        Err(BuildError::Options {
            source_tree: self.tree.origin.clone(),
            options,
            log: self.make.log().into(),
        })
    }

    /// Moves what is kept to `root` and removes the rest; gives the release.
    fn collect(&self, root: &Path) -> Result<String, BuildError> {
        let out = self.make.out();
        let release = read(&out.join("include/config/kernel.release"))?
            .trim()
            .to_owned();
        self.progress.step("installing modules");
        self.make.run(&["modules_install"], self.progress)?;
        for link in ["build", "source"] {
            // They point into the build, which goes.
            let link = root.join("lib/modules").join(&release).join(link);
            if link.is_symlink() {
                fs::remove_file(&link).map_err(KernelError::io("remove", &link))?;
            }
        }
        // Where the machine has no depmod.
        let modules = root.join("lib/modules").join(&release);
        depmod::index(&modules).map_err(KernelError::io("index the modules in", modules))?;
        self.progress.step("keeping what modules need to build");
        headers::collect(&self.tree.dir, out, &root.join("headers"))?;
        for (from, to) in [
            ("arch/x86/boot/bzImage", "vmlinuz"),
            ("vmlinux", "vmlinux"),
            ("System.map", "System.map"),
            (".config", "config"),
        ] {
            let from = out.join(from);
            fs::rename(&from, root.join(to)).map_err(KernelError::io("keep", &from))?;
        }
        let asked = root.join(ASKED);
        fs::write(&asked, &self.asked).map_err(KernelError::io("write", asked))?;
        fs::remove_dir_all(out).map_err(KernelError::io("remove", out))?;
        Ok(release)
    }
}

fn read(path: &Path) -> Result<String, KernelError> {
    fs::read_to_string(path).map_err(KernelError::io("read", path))
}
