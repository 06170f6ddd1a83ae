//! One thing that was looked at.

use std::fmt;

use serde::{Serialize, Serializer};

/// How it stands with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// There and right.
    Ok,
    /// Usable, with a loss that the text names.
    Warn,
    /// Not to be had.
    No,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::No => "no",
        })
    }
}

/// What a fact is about; the order is that of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// /dev/kvm and the module behind it.
    Kvm,
    /// One capability of KVM.
    Capability,
    /// DMA remapping and device assignment.
    Vfio,
    /// What the lab is made of.
    Lab,
    /// What guests are made of.
    Guests,
    /// The machine around it.
    System,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Capability => "capability",
            Self::Vfio => "vfio",
            Self::Lab => "lab",
            Self::Guests => "guests",
            Self::System => "system",
        })
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A fact, its reason, and the command that mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about.
    pub topic: Topic,
    /// Its name within the topic.
    pub name: &'static str,
    /// How it stands.
    pub mark: Mark,
    /// What was found, and what is lost by it.
    pub what: String,
    /// A command line that mends it; none when nothing is wrong or no command can.
    pub mend: Option<String>,
}

impl Fact {
    /// A fact that needs no mending, or has no command for it.
    pub fn new(topic: Topic, name: &'static str, mark: Mark, what: impl Into<String>) -> Self {
        Self {
            topic,
            name,
            mark,
            what: what.into(),
            mend: None,
        }
    }

    /// With the command that mends it.
    #[must_use]
    pub fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}
