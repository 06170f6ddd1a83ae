//! External modules: built against a kernel's headers by the compiler of this machine, and kept.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::build::{Tool, missing_programs};
use super::cache::Cache;
use super::error::KernelError;
use super::kernel::Kernel;
use super::staging::Staging;

/// Lines of make's words that an error shows.
const TAIL: usize = 20;
/// What building modules takes. objtool and modpost come with the headers.
const PROGRAMS: [&str; 3] = ["make", "gcc", "ld"];

/// Modules that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// Nothing to build against.
    #[error("{kernel} has no headers to build modules against; get them with: {mend}")]
    NoHeaders {
        /// The kernel.
        kernel: String,
        /// The command that gets them.
        mend: String,
    },
    /// Programs this machine lacks.
    #[error("building modules needs {}; get it with: sudo apt-get install build-essential", names(.0))]
    Tools(Vec<Tool>),
    /// make failed.
    #[error("the modules do not build against {headers}; make said:\n{tail}")]
    Make {
        /// The headers.
        headers: PathBuf,
        /// The end of what it said.
        tail: String,
    },
    /// An attempt before this one failed, and this is not the place for another.
    #[error("{0}")]
    Before(String),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] KernelError),
}

/// The directory with the modules made of `sources`, file names and texts among which there is a
/// Kbuild, for `kernel`. They are built when the cache does not have them; unless an attempt failed
/// and `again` is not set.
///
/// # Errors
/// [`ExternalError`], each with what mends it.
pub fn external(
    cache: &Cache,
    kernel: &Kernel,
    sources: &[(&str, &str)],
    again: bool,
) -> Result<PathBuf, ExternalError> {
    let dir = place(cache, kernel, sources);
    if dir.is_dir() {
        return Ok(dir);
    }
    let failed = dir.with_extension("failed");
    if !again && let Ok(text) = fs::read_to_string(&failed) {
        return Err(ExternalError::Before(text));
    }
    let made = make(cache, kernel, sources, &dir);
    let kept = match &made {
        Ok(()) => match fs::remove_file(&failed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Err(error) => fs::create_dir_all(dir.parent().unwrap_or(&dir))
            .and_then(|()| fs::write(&failed, error.to_string())),
    };
    made?;
    kept.map_err(KernelError::io("write", &failed))?;
    Ok(dir)
}

/// One directory for each set of sources and each build of a kernel.
fn place(cache: &Cache, kernel: &Kernel, sources: &[(&str, &str)]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    sources.hash(&mut hash);
    (&kernel.image, &kernel.version, kernel.made_at).hash(&mut hash);
    // A kernel that is no entry of the cache is built anew under the same path.
    let symbols = kernel
        .headers
        .as_ref()
        .map(|dir| dir.join("Module.symvers"));
    let changed = symbols.and_then(|path| fs::metadata(path).ok()?.modified().ok());
    changed.hash(&mut hash);
    let release = kernel.version.as_deref().unwrap_or("unknown");
    let name = format!("{release}-{:016x}", hash.finish());
    cache.root().join("modules").join(name.replace('/', "_"))
}

fn make(
    cache: &Cache,
    kernel: &Kernel,
    sources: &[(&str, &str)],
    to: &Path,
) -> Result<(), ExternalError> {
    let Some(headers) = &kernel.headers else {
        return Err(ExternalError::NoHeaders {
            kernel: kernel.name.clone(),
            mend: mend(kernel),
        });
    };
    let lacking = missing_programs(&PROGRAMS);
    if !lacking.is_empty() {
        return Err(ExternalError::Tools(lacking));
    }
    let staging = Staging::new(cache)?;
    let dir = staging.path();
    for (name, text) in sources {
        let file = dir.join(name);
        fs::write(&file, text).map_err(KernelError::io("write", &file))?;
    }
    let mut make = Command::new("make");
    make.arg("-C").arg(headers);
    make.arg(format!("M={}", dir.display())).arg("modules");
    make.env("LC_ALL", "C").stdin(Stdio::null());
    // A make this one runs under would pass its flags, and its job server's descriptors.
    for variable in ["MAKEFLAGS", "MFLAGS", "ARCH"] {
        make.env_remove(variable);
    }
    let done = make
        .output()
        .map_err(KernelError::io("run make in", headers))?;
    if !done.status.success() {
        return Err(ExternalError::Make {
            headers: headers.clone(),
            tail: tail(&[done.stdout, done.stderr].concat()),
        });
    }
    tidy(dir).map_err(KernelError::io("arrange", dir))?;
    Ok(staging.publish(to)?)
}

/// Leaves the modules.
fn tidy(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if path.extension().is_none_or(|kind| kind != "ko") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The command that gets a kernel's headers.
fn mend(kernel: &Kernel) -> String {
    let Some(flavour) = &kernel.flavour else {
        return format!(
            "make modules_prepare, in the build directory of {}",
            kernel.name
        );
    };
    match &kernel.suite {
        Some(suite) => format!("trapline kernel get {flavour} --headers --suite {suite}"),
        None => format!("trapline kernel get {flavour} --headers"),
    }
}

fn names(tools: &[Tool]) -> String {
    let names: Vec<_> = tools.iter().map(|tool| tool.name).collect();
    names.join(", ")
}

fn tail(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
    let from = lines.len().saturating_sub(TAIL);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [(&str, &str); 1] = [("Kbuild", "obj-m := x.o\n")];

    fn kernel(dir: &Path) -> Kernel {
        let image = dir.join("vmlinuz");
        fs::write(&image, "no kernel").unwrap();
        Kernel::from_path(&image).unwrap()
    }

    #[test]
    fn without_headers_the_error_has_the_command_that_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut kernel = kernel(dir.path());
        let cache = Cache::at(dir.path().join("cache"));
        kernel.name = "debian-cloud-6.12".into();
        kernel.flavour = Some("debian-cloud".into());
        kernel.suite = Some("bookworm-backports".into());
        let text = external(&cache, &kernel, &SOURCES, true).unwrap_err();
        assert_eq!(
            text.to_string(),
            "debian-cloud-6.12 has no headers to build modules against; get them with: trapline kernel get \
             debian-cloud --headers --suite bookworm-backports"
        );
    }

    #[test]
    fn a_failure_is_kept_with_make_s_words_and_not_repeated_unless_asked() {
        let dir = tempfile::tempdir().unwrap();
        let headers = dir.path().join("headers");
        fs::create_dir(&headers).unwrap();
        fs::write(
            headers.join("Makefile"),
            "modules:\n\t@echo hopeless; false\n",
        )
        .unwrap();
        let mut kernel = kernel(dir.path());
        kernel.headers = Some(headers.clone());
        let cache = Cache::at(dir.path().join("cache"));
        let first = external(&cache, &kernel, &SOURCES, true).unwrap_err();
        assert!(first.to_string().contains("  hopeless"), "{first}");
        let makefile = "modules:\n\t@touch $(M)/x.ko $(M)/x.o; mkdir $(M)/sub\n";
        fs::write(headers.join("Makefile"), makefile).unwrap();
        let second = external(&cache, &kernel, &SOURCES, false).unwrap_err();
        assert!(matches!(&second, ExternalError::Before(text) if *text == first.to_string()));
        let built = external(&cache, &kernel, &SOURCES, true).unwrap();
        let left: Vec<_> = fs::read_dir(&built)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["x.ko"]);
        // Kept: the makefile is not asked again.
        fs::write(headers.join("Makefile"), "").unwrap();
        assert_eq!(external(&cache, &kernel, &SOURCES, false).unwrap(), built);
    }

    #[test]
    fn other_sources_and_a_kernel_built_anew_have_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let mut kernel = kernel(dir.path());
        let one = place(&cache, &kernel, &SOURCES);
        assert_ne!(one, place(&cache, &kernel, &[("Kbuild", "obj-m := y.o\n")]));
        kernel.made_at = Some(1);
        assert_ne!(one, place(&cache, &kernel, &SOURCES));
    }
}
