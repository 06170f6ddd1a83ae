//! What an experiment is.

/// Something that a boot shows.
#[derive(Debug)]
pub struct Experiment {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in a line.
    pub shows: &'static str,
    /// What to expect, by configuration: the first that fits a kernel counts.
    pub cases: &'static [Case],
}

/// What is expected of kernels of one kind.
#[derive(Debug)]
pub struct Case {
    /// Which kernels: all of these hold.
    pub on: &'static [Config],
    /// Where such a kernel comes from.
    pub from: &'static str,
    /// What is expected there, in a line.
    pub expects: &'static str,
    /// How it is brought about.
    pub setup: Setup,
    /// The exit status of the boot (design section 5).
    pub status: u8,
    /// Lines that must appear, in this order for each source. They are the proof.
    pub lines: &'static [Line],
    /// Texts that no line of the console may hold.
    pub never: &'static [&'static str],
}

/// An option of a kernel's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Config {
    /// Built in or a module.
    On(&'static str),
    /// Neither.
    Off(&'static str),
}

impl Config {
    /// Whether it holds where `is_on` says which options are on.
    pub fn holds(self, is_on: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::On(option) => is_on(option),
            Self::Off(option) => !is_on(option),
        }
    }
}

impl std::fmt::Display for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On(option) => f.write_str(option),
            Self::Off(option) => write!(f, "no {option}"),
        }
    }
}

/// How a boot is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The module of `guest/modules` that is packed as /experiment.ko; none: a script is enough.
    pub module: Option<&'static str>,
    /// What the guest's shell runs.
    pub script: &'static str,
    /// vCPUs.
    pub cpus: u8,
    /// Further words of the kernel's command line.
    pub append: &'static str,
    /// Further flags of `trapline boot`.
    pub flags: &'static [&'static str],
}

impl Setup {
    /// One vCPU, a module and the script that loads it.
    pub(super) const fn module(module: &'static str, script: &'static str) -> Self {
        Self {
            module: Some(module),
            script,
            cpus: 1,
            append: "",
            flags: &[],
        }
    }
}

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The guest, on its console.
    Console,
    /// Trapline, on standard error.
    Trapline,
}

/// A line that must appear: `*` stands for anything, and so do its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Who says it.
    pub source: Source,
    /// What.
    pub pattern: &'static str,
}

/// The guest says.
pub(super) const fn guest(pattern: &'static str) -> Line {
    Line {
        source: Source::Console,
        pattern,
    }
}

/// Trapline says.
pub(super) const fn trapline(pattern: &'static str) -> Line {
    Line {
        source: Source::Trapline,
        pattern,
    }
}

impl Experiment {
    /// The case for a kernel of which `is_on` says which options are on.
    pub fn case(&self, is_on: impl Fn(&str) -> bool) -> Option<&'static Case> {
        let fits = |case: &&Case| case.on.iter().all(|config| config.holds(&is_on));
        self.cases.iter().find(fits)
    }
}
