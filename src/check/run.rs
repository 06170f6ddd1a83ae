//! One boot, in a process of its own.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::case::Case;
use super::judge::Ran;
use super::stop;

/// Enough for any of them, on a host ten times slower than the slowest known.
const TIMEOUT: &str = "240s";

/// A boot that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The process.
    #[error("cannot start {program} to boot {kernel}")]
    Start {
        /// This program.
        program: PathBuf,
        /// What it was to boot.
        kernel: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A signal came to it, and so perhaps to this process too.
    #[error("the boot of {kernel} was ended by signal {signal}")]
    Signal {
        /// What was booted.
        kernel: PathBuf,
        /// Which.
        signal: i32,
    },
}

/// Where boots are made.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// Trapline itself.
    pub program: &'a Path,
    /// An image, or a directory of the cache or of a build.
    pub kernel: &'a Path,
    /// Where the modules built for it lie.
    pub modules: Option<&'a Path>,
}

impl Boot<'_> {
    /// The command line that does it.
    #[must_use]
    pub fn arguments(&self, case: &Case) -> Vec<OsString> {
        let setup = &case.setup;
        let mut words: Vec<OsString> = vec!["boot".into(), self.kernel.into()];
        words.extend(["--in", "here", "--timeout", TIMEOUT].map(Into::into));
        words.extend(["--cpus".into(), setup.cpus.to_string().into()]);
        // Lines of the boot itself take half its time; the script turns them on again.
        let append = format!("quiet {}", setup.append);
        words.extend(["--append".into(), append.trim().into()]);
        words.extend(setup.flags.iter().map(Into::into));
        if let (Some(name), Some(dir)) = (setup.module, self.modules) {
            let mut pair = dir.join(name).with_extension("ko").into_os_string();
            pair.push(":/experiment.ko");
            words.extend([OsStr::new("--file").into(), pair]);
        }
        words.extend(["--exec".into(), setup.script.into()]);
        words
    }

    /// Boots, once: a verdict is about the run that was seen.
    ///
    /// # Errors
    /// [`RunError`]. A guest that fails is none.
    pub fn run(&self, case: &Case) -> Result<Ran, RunError> {
        let begun = Instant::now();
        let ended = |signal| RunError::Signal {
            kernel: self.kernel.into(),
            signal,
        };
        if stop::asked() {
            return Err(ended(libc::SIGTERM));
        }
        let child = Command::new(self.program)
            .args(self.arguments(case))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let done =
            child.and_then(|child| stop::while_it_runs(child.id(), || child.wait_with_output()));
        let done = done.map_err(|source| RunError::Start {
            program: self.program.into(),
            kernel: self.kernel.into(),
            source,
        })?;
        if let Some(signal) = done.status.signal() {
            return Err(ended(signal));
        }
        let status = done.status.code().and_then(|code| u8::try_from(code).ok());
        Ok(Ran {
            status: status.unwrap_or(u8::MAX),
            console: String::from_utf8_lossy(&done.stdout).into_owned(),
            said: String::from_utf8_lossy(&done.stderr).into_owned(),
            took: begun.elapsed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;
    use std::sync::{Mutex, PoisonError};
    use std::thread;
    use std::time::Duration;

    use super::super::find;
    use super::*;

    fn boot(program: &Path) -> Boot<'_> {
        Boot {
            program,
            kernel: Path::new("/k"),
            modules: Some(Path::new("/m")),
        }
    }

    #[test]
    fn the_command_line_packs_the_module_and_runs_the_script() {
        let case = &find("hard-lockup").unwrap().cases[0];
        let words = boot(Path::new("x")).arguments(case);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        let has = |pair: [&str; 2]| words.windows(2).any(|at| at == pair);
        assert!(
            has(["--file", "/m/trapline_lockup.ko:/experiment.ko"]),
            "{words:?}"
        );
        assert!(has(["--cpus", "2"]) && has(["--in", "here"]));
        assert!(
            words
                .last()
                .unwrap()
                .contains("insmod /experiment.ko do=hard")
        );
    }

    /// A program that stands for Trapline.
    fn script(dir: &Path, text: &str) -> PathBuf {
        let program = dir.join("program");
        std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        program
    }

    /// What SIGTERM reaches is one for the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn sigterm_ends_the_boot_under_way_and_there_is_no_other() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "touch $(dirname $0)/up; exec sleep 60");
        let case = &find("stack-place").unwrap().cases[0];
        let up = dir.path().join("up");
        let first = thread::scope(|scope| {
            let run = scope.spawn(|| boot(&program).run(case));
            while !up.exists() {
                thread::sleep(Duration::from_millis(10));
            }
            stop::hand_on(libc::SIGTERM, null_mut(), null_mut());
            run.join().unwrap()
        });
        let second = boot(&program).run(case);
        stop::forget();
        for ended in [first, second] {
            assert!(
                matches!(ended, Err(RunError::Signal { signal: 15, .. })),
                "{ended:?}"
            );
        }
    }

    #[test]
    fn a_boot_that_fails_is_not_made_again() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        let program = script(dir.path(), "echo x >>$(dirname $0)/runs; exit 72");
        let case = &find("stack-place").unwrap().cases[0];
        assert_eq!(boot(&program).run(case).unwrap().status, 72);
        let runs = std::fs::read_to_string(dir.path().join("runs")).unwrap();
        assert_eq!(runs, "x\n");
    }
}
