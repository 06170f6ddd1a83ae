//! Running kbuild: out of tree, everything it says in a log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{BuildError, BuildRequest, read, tools};
use crate::kernels::cache::Cache;
use crate::kernels::error::KernelError;
use crate::kernels::progress::Progress;

/// Lines of a log that an error shows.
const TAIL: usize = 20;

/// Instruments arch/x86/kvm and nothing else. A variable on the command line replaces the ones the
/// makefiles set, and this one is expanded anew in each directory (scripts/Makefile.lib, `_c_flags`),
/// so the source needs no change.
const KCOV_OF_KVM: &str = "KCOV_INSTRUMENT=$(if $(filter arch/x86/kvm arch/x86/kvm/%,$(obj)),y,n)";

/// One build: source, output, log.
#[derive(Debug)]
pub(super) struct Make {
    source: PathBuf,
    out: PathBuf,
    /// Where `modules_install` puts `lib/modules`.
    root: PathBuf,
    log: PathBuf,
    variables: Vec<String>,
    jobs: usize,
}

impl Make {
    pub(super) fn new(
        cache: &Cache,
        source: &Path,
        root: &Path,
        name: &str,
        request: &BuildRequest<'_>,
    ) -> Result<Self, KernelError> {
        let logs = cache.root().join("logs");
        let out = root.join("out");
        for dir in [&logs, &out] {
            fs::create_dir_all(dir).map_err(KernelError::io("create", dir))?;
        }
        let log = logs.join(format!("build-{name}.log"));
        File::create(&log).map_err(KernelError::io("create", &log))?;
        let mut variables = vec![
            format!("INSTALL_MOD_PATH={}", root.display()),
            "INSTALL_MOD_STRIP=1".into(),
            // depmod needs no root here, and what it writes is used when it is there.
            "KBUILD_BUILD_USER=trapline".into(),
            "KBUILD_BUILD_HOST=trapline".into(),
        ];
        if request.kcov {
            variables.push(KCOV_OF_KVM.into());
        }
        Ok(Self {
            source: source.into(),
            out,
            root: root.into(),
            log,
            variables,
            jobs: request.jobs,
        })
    }

    pub(super) fn out(&self) -> &Path {
        &self.out
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Runs make for these targets and waits for it.
    pub(super) fn run(&self, targets: &[&str], progress: &dyn Progress) -> Result<(), BuildError> {
        let failed = || BuildError::Make {
            target: targets.join(" "),
            log: self.log.clone(),
            tail: tail(&self.log),
        };
        let mut log = File::options()
            .append(true)
            .open(&self.log)
            .map_err(KernelError::io("open", &self.log))?;
        let errors = log
            .try_clone()
            .map_err(KernelError::io("open", &self.log))?;
        let mut child = Command::new("make")
            .arg(format!("-j{}", self.jobs))
            .arg("-C")
            .arg(&self.source)
            .arg(format!("O={}", self.out.display()))
            .args(&self.variables)
            .args(targets)
            .env("LC_ALL", "C")
            // A make this one runs under would pass its flags, and its job server's descriptors.
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("ARCH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .map_err(KernelError::io("run make in", &self.source))?;
        let pipe = child.stdout.take().into_iter();
        for line in pipe.flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
            writeln!(log, "{line}").map_err(KernelError::io("write", &self.log))?;
            if let Some(step) = step(&line) {
                progress.step(&step);
            }
        }
        let status = child
            .wait()
            .map_err(KernelError::io("wait for make in", &self.root))?;
        if status.success() {
            Ok(())
        } else {
            Err(failed())
        }
    }
}

/// `  CC      kernel/fork.o` as `compiling: CC kernel/fork.o`.
fn step(line: &str) -> Option<String> {
    let line = line.strip_prefix("  ")?;
    let mut words = line.split_whitespace();
    let verb = words
        .next()
        .filter(|w| w.chars().all(|c| c.is_ascii_uppercase() || c == '_'))?;
    Some(format!("{verb} {}", words.collect::<Vec<_>>().join(" ")))
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines
        .iter()
        .skip(from)
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `6.12.117` from the top makefile's first lines.
pub(super) fn kernel_version(source: &Path) -> Result<String, KernelError> {
    let text = read(&source.join("Makefile"))?;
    let value = |name: &str| {
        let line = text
            .lines()
            .take(20)
            .find_map(|l| l.strip_prefix(name)?.trim().strip_prefix('='));
        line.map_or("", str::trim)
    };
    Ok(format!(
        "{}.{}.{}{}",
        value("VERSION"),
        value("PATCHLEVEL"),
        value("SUBLEVEL"),
        value("EXTRAVERSION")
    ))
}

/// The kernel's own compression: LZ4 unpacks several times faster, and needs a tool few machines have.
pub(super) fn compression() -> &'static str {
    if tools::is_program("lz4") {
        "CONFIG_KERNEL_LZ4=y\n"
    } else {
        "CONFIG_KERNEL_GZIP=y\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_makefile() {
        let dir = tempfile::tempdir().unwrap();
        let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc2\nNAME = Baby\n";
        fs::write(dir.path().join("Makefile"), text).unwrap();
        assert_eq!(kernel_version(dir.path()).unwrap(), "6.13.0-rc2");
    }

    #[test]
    fn kbuilds_short_lines_are_steps_and_its_chatter_is_not() {
        assert_eq!(step("  CC      kernel/fork.o").unwrap(), "CC kernel/fork.o");
        assert_eq!(step("  LD [M]  a.ko").unwrap(), "LD [M] a.ko");
        for line in [
            "make[1]: Entering directory",
            "  warning: x",
            "",
            "Kernel: ready",
        ] {
            assert_eq!(step(line), None, "{line}");
        }
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        fs::write(file.path(), text).unwrap();
        let tail = tail(file.path());
        assert!(
            tail.starts_with("  line 80\n") && tail.ends_with("  line 99"),
            "{tail}"
        );
    }
}
