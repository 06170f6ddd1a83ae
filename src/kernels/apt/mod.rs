//! The distribution's packages, without root and without touching the system's lists.
//!
//! apt does the work, in directories of the cache: it knows mirrors, proxies, credentials and keys,
//! and it verifies. The source list is derived from the machine's own; nothing else is trusted.

mod config;
mod error;
mod record;
mod sources;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use error::AptError;
pub(super) use record::Record;

use super::cache::Cache;
use super::progress::Progress;
use super::staging;
use config::Machine;
use sources::Source;

/// apt with a state of its own, for one suite.
#[derive(Debug)]
pub(super) struct Apt {
    config: PathBuf,
    /// What the sources offer, for messages and manifests.
    suite: String,
    /// Held while this apt is in use: two of them in one state directory fail on apt's own lock.
    _lock: fs::File,
    /// What `update` complained about; shown when a package is then missing.
    complaints: Vec<String>,
}

impl Apt {
    /// Prepares apt for `suite`, or for the machine's own, and fetches its lists.
    pub(super) fn open(
        cache: &Cache,
        suite: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Self, AptError> {
        let machine = Machine::read()?;
        let (name, sources) = sources::choose(&machine.sources, &machine.codename, suite)?;
        let dir = cache.root().join("apt").join(&name);
        let lock = staging::lock_file(&dir.join("lock"), || {
            progress.step("waiting for another trapline that uses apt");
        })?;
        let mut apt = Self {
            config: write_config(&dir, &machine, &sources)?,
            suite: name,
            _lock: lock,
            complaints: Vec::new(),
        };
        progress.step(&format!("reading the package lists of {}", apt.suite));
        apt.complaints = apt
            .run("apt-get", &["update"], &dir, progress)?
            .err()
            .unwrap_or_default();
        for line in &apt.complaints {
            progress.warn(line);
        }
        Ok(apt)
    }

    /// The suite this apt reads.
    pub(super) fn suite(&self) -> &str {
        &self.suite
    }

    /// The candidate of each package that exists, in the order asked for.
    pub(super) fn show(&self, names: &[&str]) -> Result<Vec<Record>, AptError> {
        let output = self
            .command("apt-cache")
            .args(["show", "--no-all-versions"])
            .args(names)
            .stderr(Stdio::null())
            .output()
            .map_err(AptError::run("apt-cache"))?;
        let mut records = record::parse(&String::from_utf8_lossy(&output.stdout));
        records.sort_by_key(|r| names.iter().position(|name| *name == r.package));
        Ok(records)
    }

    /// The packages whose names match a regular expression of apt's.
    pub(super) fn names(&self, pattern: &str) -> Result<Vec<String>, AptError> {
        let output = self
            .command("apt-cache")
            .args(["search", "--names-only", pattern])
            .stderr(Stdio::null())
            .output()
            .map_err(AptError::run("apt-cache"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// The first of `names` that exists.
    pub(super) fn first(&self, names: &[&str]) -> Result<Record, AptError> {
        self.show(names)?
            .into_iter()
            .next()
            .ok_or_else(|| AptError::NoPackage {
                names: names.join(" or "),
                suite: self.suite.clone(),
                complaints: self.complaints.clone(),
            })
    }

    /// Downloads a package into `dir` and gives its file; apt has checked it against the signed lists.
    pub(super) fn download(
        &self,
        record: &Record,
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<PathBuf, AptError> {
        let what = format!("{}={}", record.package, record.version);
        progress.step(&format!(
            "downloading {} {}",
            record.package, record.version
        ));
        if let Err(lines) = self.run("apt-get", &["download", &what], dir, progress)? {
            return Err(AptError::Failed {
                what: format!("download {what}"),
                lines: lines.join("\n  "),
            });
        }
        // The file's version has its colon percent-encoded: match by name and suffix.
        let stem = format!("{}_", record.package);
        let entries = fs::read_dir(dir).map_err(AptError::io("read", dir))?;
        let mut files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files
            .find(|path| {
                let name = path
                    .file_name()
                    .and_then(|n| n.to_str())
                    .unwrap_or_default();
                name.starts_with(&stem) && name.ends_with(".deb")
            })
            .ok_or_else(|| AptError::Failed {
                what: format!("download {what}"),
                lines: "apt-get reported success but left no file".into(),
            })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    /// Runs apt, feeding its own progress on. The inner error is what it complained about.
    fn run(
        &self,
        program: &'static str,
        args: &[&str],
        dir: &Path,
        progress: &dyn Progress,
    ) -> Result<Result<(), Vec<String>>, AptError> {
        let mut child = self
            .command(program)
            // Progress as machine-readable lines among standard output.
            .args([
                "-q",
                "-o",
                "APT::Status-Fd=1",
                "-o",
                "APT::Update::Error-Mode=any",
            ])
            .args(args)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(AptError::run(program))?;
        // Both pipes are read at once: a child that fills one while the other is read would hang.
        let complaints = child.stderr.take().map(|pipe| {
            std::thread::spawn(move || {
                let lines = BufReader::new(pipe).lines().map_while(Result::ok);
                lines
                    .filter(|line| line.starts_with("E:") || line.starts_with("W:"))
                    .collect()
            })
        });
        let told = child.stdout.take().into_iter();
        for line in told.flat_map(|pipe| BufReader::new(pipe).lines().map_while(Result::ok)) {
            if let Some(percent) = percent(&line) {
                progress.at(percent / 100.0);
            }
        }
        let status = child.wait().map_err(AptError::run(program))?;
        let lines: Vec<String> = complaints
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default();
        Ok(if status.success() { Ok(()) } else { Err(lines) })
    }
}

/// `dlstatus:1:42.5:Retrieving file 1 of 1`, apt's README.progress-reporting.
fn percent(line: &str) -> Option<f64> {
    line.strip_prefix("dlstatus:")?
        .split(':')
        .nth(1)?
        .parse()
        .ok()
}

fn write_config(dir: &Path, machine: &Machine, sources: &[Source]) -> Result<PathBuf, AptError> {
    for sub in [
        "state/lists/partial",
        "cache/archives/partial",
        "sources",
        "empty",
        "log",
    ] {
        let sub = dir.join(sub);
        fs::create_dir_all(&sub).map_err(AptError::io("create", sub))?;
    }
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(AptError::io("write", &path))?;
        Ok(path)
    };
    let stanzas: Vec<_> = sources.iter().map(ToString::to_string).collect();
    write("sources/distribution.sources", &stanzas.join("\n"))?;
    // What is installed here is of no interest: only downloads are made.
    write("status", "")?;
    write("apt.conf", &config::render(dir, machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_progress_lines_give_a_percentage() {
        assert_eq!(
            percent("dlstatus:1:42.5:Retrieving file 1 of 1 (3s remaining)"),
            Some(42.5)
        );
        assert_eq!(percent("Get:1 something"), None);
        assert_eq!(percent("dlstatus:1"), None);
    }
}
