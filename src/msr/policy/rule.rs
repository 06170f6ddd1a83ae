//! A rule: which accesses it is for, and what it does to them.

use super::super::model::Model;
use crate::trace::Direction;

/// How a rule names its MSRs; the narrower outranks the wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One MSR.
    Single,
    /// From one to another.
    Range,
    /// A bank by its name.
    Bank,
}

/// A set of vCPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VcpuSet([u64; 4]);

impl VcpuSet {
    /// All of them.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// These.
    #[must_use]
    pub fn of(vcpus: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self([0; 4]);
        for vcpu in vcpus {
            if let Some(word) = set.0.get_mut(usize::from(vcpu >> 6)) {
                *word |= 1 << (vcpu & 63);
            }
        }
        set
    }

    /// Whether it has `vcpu`.
    #[must_use]
    pub fn has(&self, vcpu: u8) -> bool {
        let word = self.0.get(usize::from(vcpu >> 6)).copied().unwrap_or(0);
        word >> (vcpu & 63) & 1 != 0
    }

    /// Whether it leaves none out.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// Whether both have one.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }
}

/// What is done to an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// What KVM would do.
    Allow,
    /// #GP.
    Deny,
    /// Answered from a value that Trapline keeps.
    Emulate(Model),
    /// Reads as zero; writes are dropped.
    Ignore,
    /// The run ends.
    Stop,
    /// An external program answers.
    Ask,
}

impl Action {
    /// The word it is written with.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Emulate(_) => "emulate",
            Self::Ignore => "ignore",
            Self::Stop => "stop",
            Self::Ask => "ask",
        }
    }
}

/// Where a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which of the policy's files, in the order they were given.
    pub file: u16,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it is written.
    pub place: Place,
    /// How its MSRs are named, in the policy's own words.
    pub msr: String,
    /// How widely it names them.
    pub scope: Scope,
    /// Its MSRs, as inclusive ranges, sorted and apart.
    pub indices: Vec<(u32, u32)>,
    /// Whether it is for reads.
    pub reads: bool,
    /// Whether it is for writes.
    pub writes: bool,
    /// Whose accesses it is for.
    pub vcpus: VcpuSet,
    /// It applies to this access of a vCPU only, counted from 1.
    pub nth: Option<u64>,
    /// Whether each access is logged.
    pub log: bool,
    /// Whether each access comes out to be counted, though there is nothing else to do about it.
    pub count: bool,
    /// What it does.
    pub action: Action,
}

impl Rule {
    /// Whether it is for accesses that go this way.
    #[must_use]
    pub const fn covers(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.reads,
            Direction::Write => self.writes,
        }
    }

    /// Whether accesses are to come out though KVM handles them.
    #[must_use]
    pub const fn watches(&self) -> bool {
        self.log || self.count
    }

    /// Whether it decides every access it covers, so that none falls through to the next rule.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.nth.is_none() && self.vcpus.is_all()
    }

    /// Sorts before the rules it outranks: the later file, then the narrower scope, then `nth`.
    #[must_use]
    pub fn rank(&self) -> (u16, Scope, bool) {
        (u16::MAX - self.place.file, self.scope, self.nth.is_none())
    }

    /// Whether some access would be both rules' while neither outranks the other.
    #[must_use]
    pub fn clashes(&self, other: &Self) -> bool {
        self.rank() == other.rank()
            && self.nth == other.nth
            && (self.reads && other.reads || self.writes && other.writes)
            && self.vcpus.meets(&other.vcpus)
    }
}
