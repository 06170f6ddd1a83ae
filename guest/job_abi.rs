//! The job file: what the built-in init is asked to do, written by the host into the initramfs.
//!
//! One file for both sides, included with `#[path]`. A line `trapline-job 1`, then records of the
//! form `KEY LENGTH\nBYTES\n`; the length makes every byte possible in arguments and paths.
//! An initramfs without a job file asks for nothing.

use std::error::Error;
use std::fmt;

/// Where the job lies in the initramfs.
pub const JOB_PATH: &str = "/trapline/job";
/// Where the modules to load lie in the initramfs.
pub const MODULE_DIR: &str = "/trapline/modules";

/// What the debug-exit port gets when init itself could not do its job: 0x100, which no exit status
/// of a program reaches, plus 74, the status of a failed machine.
pub const INIT_FAILED: u32 = 0x100 + 74;

const HEADER: &[u8] = b"trapline-job 1\n";

/// What to do once the system stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing: power off.
    #[default]
    Nothing,
    /// An interactive `/bin/sh`.
    Shell,
    /// A command line for `/bin/sh -c`.
    Script(Vec<u8>),
    /// A program and its arguments, without a shell.
    Program(Vec<Vec<u8>>),
}

/// The caller's terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Value of `TERM`.
    pub name: Vec<u8>,
    /// Width in characters.
    pub columns: u16,
    /// Height in characters.
    pub rows: u16,
}

/// Everything init is asked to do, in the order in which it does it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Paths in the initramfs of the kernel modules to load, dependencies first.
    pub modules: Vec<Vec<u8>>,
    /// The caller's terminal, when there is one.
    pub terminal: Option<Terminal>,
    /// Variables added to the environment.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// What to run.
    pub action: Action,
    /// Its standard input comes through the postbox, and is not the console.
    pub input: bool,
    /// Files and folders to send back afterwards; archive members begin with their number here.
    pub get: Vec<Vec<u8>>,
}

/// A job file this init cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobError {
    /// The first line is another one: host and init are of different builds.
    Header,
    /// The file ends within the record that starts here, or its length is no number.
    Record(usize),
    /// A key this build does not know.
    Key(String),
    /// A value that does not have the form its key asks for.
    Value(&'static str),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the job file is of another version"),
            Self::Record(at) => write!(f, "the job file is cut short at byte {at}"),
            Self::Key(key) => write!(f, "the job file asks for {key}, which is unknown here"),
            Self::Value(key) => write!(f, "the job file's {key} record has a bad value"),
        }
    }
}

impl Error for JobError {}

impl Job {
    /// The bytes of the job file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = HEADER.to_vec();
        for module in &self.modules {
            record(&mut out, "module", module);
        }
        if let Some(terminal) = &self.terminal {
            record(&mut out, "term", &terminal.name);
            let size = format!("{} {}", terminal.columns, terminal.rows);
            record(&mut out, "size", size.as_bytes());
        }
        for (name, value) in &self.environment {
            record(&mut out, "env", name);
            record(&mut out, "value", value);
        }
        match &self.action {
            Action::Nothing => {}
            Action::Shell => record(&mut out, "shell", b""),
            Action::Script(text) => record(&mut out, "script", text),
            Action::Program(words) => {
                for word in words {
                    record(&mut out, "word", word);
                }
            }
        }
        if self.input {
            record(&mut out, "input", b"");
        }
        for path in &self.get {
            record(&mut out, "get", path);
        }
        out
    }

    /// Reads a job file.
    pub fn decode(bytes: &[u8]) -> Result<Self, JobError> {
        let mut rest = bytes.strip_prefix(HEADER).ok_or(JobError::Header)?;
        let mut job = Self::default();
        while !rest.is_empty() {
            let at = bytes.len().saturating_sub(rest.len());
            let (key, value, next) = split_record(rest).ok_or(JobError::Record(at))?;
            rest = next;
            job.take(key, value)?;
        }
        Ok(job)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), JobError> {
        let value = value.to_vec();
        match key {
            b"module" => self.modules.push(value),
            b"term" => {
                self.terminal = Some(Terminal {
                    name: value,
                    columns: 0,
                    rows: 0,
                });
            }
            b"size" => {
                let terminal = self.terminal.as_mut().ok_or(JobError::Value("size"))?;
                (terminal.columns, terminal.rows) =
                    parse_size(&value).ok_or(JobError::Value("size"))?;
            }
            b"env" => self.environment.push((value, Vec::new())),
            b"value" => {
                let last = self.environment.last_mut();
                last.ok_or(JobError::Value("value"))?.1 = value;
            }
            b"shell" => self.action = Action::Shell,
            b"script" => self.action = Action::Script(value),
            b"word" => match &mut self.action {
                Action::Program(words) => words.push(value),
                action => *action = Action::Program(vec![value]),
            },
            b"input" => self.input = true,
            b"get" => self.get.push(value),
            other => return Err(JobError::Key(String::from_utf8_lossy(other).into_owned())),
        }
        Ok(())
    }
}

fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(format!("{key} {}\n", value.len()).as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Key, value and what follows them.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (line, rest) = cut(bytes, b'\n')?;
    let (key, length) = cut(line, b' ')?;
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((key, value, rest.strip_prefix(b"\n")?))
}

/// What stands before the first `mark`, and what after it.
fn cut(bytes: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |&b| b == mark);
    Some((parts.next()?, parts.next()?))
}

fn parse_size(value: &[u8]) -> Option<(u16, u16)> {
    let (columns, rows) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    Some((columns.parse().ok()?, rows.parse().ok()?))
}
