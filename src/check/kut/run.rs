//! One test, in a process of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use super::log::Log;
use super::plan::Plan;
use super::result::{Kind, Outcome, Ran, TestResult, judge};

/// `HOST_LACKS` of `trapline boot`: here, a CPU with a feature that KVM does not give.
const HOST_LACKS: i32 = 65;

/// A test that could not be started: not the guest's fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process.
    #[error("cannot start {}", program.display())]
    Start {
        /// This program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file for it.
    #[error("cannot write the environment and the report of {name}")]
    Scratch {
        /// Which test.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// How tests are run.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Trapline itself.
    pub program: PathBuf,
    /// Lines of every guest's environment, NAME=VALUE.
    pub environment: Vec<String>,
}

impl Runner {
    /// The environment that the guest finds in its first module.
    fn environment_of(&self, plan: &Plan) -> String {
        let own = format!("NR_CPUS={}", plan.cpus);
        let lines = [own].into_iter().chain(self.environment.iter().cloned());
        lines.map(|line| line + "\n").collect()
    }

    /// The command line of one run.
    fn arguments(&self, plan: &Plan, cpu: Option<&str>, scratch: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["--in", "here", "boot"].map(Into::into).to_vec();
        words.push(plan.file.clone().into());
        let mut option = |name: &str, value: OsString| words.extend([name.into(), value]);
        option("--initrd", scratch.join("environment").into());
        option("--json", scratch.join("report").into());
        option("--cpus", plan.cpus.to_string().into());
        option("--device", "testdev".into());
        option("--device", "pci-testdev".into());
        for device in &plan.devices {
            option("--device", device.into());
        }
        if let Some(memory) = &plan.memory {
            option("--mem", memory.into());
        }
        if let Some(append) = &plan.append {
            option("--append", append.into());
        }
        if let Some(cpu) = cpu {
            option("--cpu", cpu.into());
        }
        // A guest that waits is its own concern: its limit is in seconds.
        option("--hang", "0s".into());
        option("--on-oops", "ignore".into());
        if let Some(timeout) = plan.timeout {
            option("--timeout", format!("{}ms", timeout.as_millis()).into());
        }
        words
    }

    /// Runs a test to its end.
    ///
    /// # Errors
    /// [`StartError`]. A guest that fails is none.
    pub fn run(&self, plan: &Plan) -> Result<TestResult, StartError> {
        let mut notes = plan.notes.clone();
        let mut cpu = plan.cpu.as_ref().map(|[whole, _]| whole.as_str());
        let mut ran = self.once(plan, cpu)?;
        if let Some([whole, least]) = &plan.cpu
            && ran.report.is_none()
            && ran.status == Some(HOST_LACKS)
            && whole != least
        {
            // QEMU leaves out what KVM does not have, and the guest sees for itself.
            notes.push(format!("this host has no --cpu {whole}"));
            cpu = Some(least);
            ran = self.once(plan, cpu)?;
        }
        let outcome = judge(&ran);
        let said = match outcome.kind {
            Kind::Pass | Kind::Skip => String::new(),
            Kind::Fail | Kind::Timeout | Kind::Crash => ran.said,
        };
        Ok(TestResult {
            name: plan.name.clone(),
            file: name_of(&plan.file),
            outcome,
            log: ran.log,
            said,
            took: Some(ran.took),
            notes,
        })
    }

    fn once(&self, plan: &Plan, cpu: Option<&str>) -> Result<Ran, StartError> {
        let scratch = |source| StartError::Scratch {
            name: plan.name.clone(),
            source,
        };
        let dir = tempfile::tempdir().map_err(scratch)?;
        let file = fs::File::create(dir.path().join("environment"));
        file.and_then(|mut file| file.write_all(self.environment_of(plan).as_bytes()))
            .map_err(scratch)?;
        let started = |source| StartError::Start {
            program: self.program.clone(),
            source,
        };
        let begun = Instant::now();
        let mut child = Command::new(&self.program)
            .args(self.arguments(plan, cpu, dir.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(started)?;
        let said = child.stderr.take();
        let said = thread::spawn(move || said.map(Log::read).unwrap_or_default());
        let log = child.stdout.take().map(Log::read).unwrap_or_default();
        let said = said.join().unwrap_or_default();
        let status = child.wait().map_err(started)?;
        let report = fs::read(dir.path().join("report")).unwrap_or_default();
        Ok(Ran {
            status: status.code(),
            signal: status.signal(),
            report: serde_json::from_slice(&report).ok(),
            log: log.text(),
            said: said.text(),
            took: begun.elapsed(),
        })
    }

    /// A test that is not run.
    #[must_use]
    pub fn skipped(name: &str, file: &str, why: String) -> TestResult {
        TestResult {
            name: name.to_owned(),
            file: file.to_owned(),
            outcome: Outcome::skip(why),
            log: String::new(),
            said: String::new(),
            took: None,
            notes: Vec::new(),
        }
    }
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn plan(cpu: Option<[&str; 2]>) -> Plan {
        Plan {
            name: "t".into(),
            file: "x/t.flat".into(),
            cpus: 3,
            memory: Some("2G".into()),
            append: Some("-a b".into()),
            cpu: cpu.map(|pair| pair.map(str::to_owned)),
            devices: vec!["edu".into()],
            timeout: Some(Duration::from_millis(1500)),
            notes: Vec::new(),
        }
    }

    /// A program in the place of Trapline, and the runs it saw.
    fn runner(script: &str) -> (tempfile::TempDir, Runner) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("trapline");
        fs::write(
            &program,
            format!(
                "#!/bin/sh\necho \"$@\" >> {}/runs\n{script}\n",
                dir.path().display()
            ),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let runner = Runner {
            program,
            environment: vec!["A=b".into()],
        };
        (dir, runner)
    }

    fn runs(dir: &tempfile::TempDir) -> Vec<String> {
        let text = fs::read_to_string(dir.path().join("runs")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_says_all_that_the_plan_does() {
        let (dir, runner) = runner("cat \"$6\"; exit 0");
        let result = runner.run(&plan(None)).unwrap();
        let line = &runs(&dir)[0];
        for words in [
            "--in here boot x/t.flat ",
            "--cpus 3 ",
            "--mem 2G ",
            "--append -a b ",
            "--device testdev --device pci-testdev --device edu ",
            "--timeout 1500ms",
        ] {
            assert!(line.contains(words), "{line}");
        }
        assert_eq!(result.log, "NR_CPUS=3\nA=b\n");
        assert_eq!(result.file, "t.flat");
    }

    #[test]
    fn a_cpu_that_the_host_lacks_is_left_out_as_qemu_does() {
        let (dir, runner) = runner("case \"$*\" in *+pcid*) exit 65;; esac; exit 64");
        let cpus = Some(["host,+pcid", "host"]);
        let result = runner.run(&plan(cpus)).unwrap();
        assert_eq!(runs(&dir).len(), 2);
        assert_eq!(result.outcome.kind, Kind::Fail);
        assert!(result.notes[0].contains("+pcid"));
        let same = Some(["host,-pcid", "host,-pcid"]);
        runner.run(&plan(same)).unwrap();
        assert_eq!(runs(&dir).len(), 3);
    }

    #[test]
    fn a_test_that_breaks_is_run_once() {
        let (dir, runner) = runner("exit 74");
        let result = runner.run(&plan(None)).unwrap();
        assert_eq!((runs(&dir).len(), result.outcome.kind), (1, Kind::Crash));
    }
}
