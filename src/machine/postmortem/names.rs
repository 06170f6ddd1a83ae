//! Names for addresses, KASLR taken into account.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

/// An address by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// The function or object.
    pub name: String,
    /// How far into it.
    pub offset: u64,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)
    }
}

impl Serialize for Symbol {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

type Lookup<'a> = &'a dyn Fn(u64) -> Option<(String, u64)>;

/// Where names come from: a vmlinux, a System.map, or nowhere.
#[derive(Clone)]
pub struct Names<'a> {
    known: Option<(Lookup<'a>, Range<u64>)>,
    /// Code that is there only while the kernel comes up.
    init: Range<u64>,
    slide: Option<u64>,
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names")
            .field("text", &self.known.as_ref().map(|(_, text)| text))
            .field("slide", &self.slide)
            .finish_non_exhaustive()
    }
}

impl<'a> Names<'a> {
    /// No names.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            known: None,
            init: 0..0,
            slide: None,
        }
    }

    /// Names of addresses as linked, the range of addresses that are code, and how far
    /// [`super::slide`] found the kernel moved. Without a slide, names are given as if it had not
    /// moved.
    #[must_use]
    pub const fn new(lookup: Lookup<'a>, text: Range<u64>, slide: Option<u64>) -> Self {
        Self {
            known: Some((lookup, text)),
            init: 0..0,
            slide,
        }
    }

    /// The same with a second range of code, as linked.
    #[must_use]
    pub fn with_init(self, init: Range<u64>) -> Self {
        Self { init, ..self }
    }

    /// How far the kernel moved.
    #[must_use]
    pub const fn slide(&self) -> Option<u64> {
        self.slide
    }

    /// The name of `address`.
    #[must_use]
    pub fn of(&self, address: u64) -> Option<Symbol> {
        let (lookup, _) = self.known.as_ref()?;
        let (name, offset) = lookup(self.linked(address))?;
        Some(Symbol { name, offset })
    }

    /// The name of `address` if it is code.
    #[must_use]
    pub fn of_code(&self, address: u64) -> Option<Symbol> {
        let (_, text) = self.known.as_ref()?;
        let at = self.linked(address);
        if !text.contains(&at) && !self.init.contains(&at) {
            return None;
        }
        self.of(address)
    }

    /// Whether there are names at all.
    pub(super) const fn knows(&self) -> bool {
        self.known.is_some()
    }

    const fn linked(&self, address: u64) -> u64 {
        match self.slide {
            Some(slide) => address.wrapping_sub(slide),
            None => address,
        }
    }
}
