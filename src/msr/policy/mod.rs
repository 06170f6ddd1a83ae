//! The policy: which accesses are allowed, denied, answered, logged.
//!
//! Files stack: a later one wins, and within a file a single MSR outranks a range and a range a bank.
//! Rules compile to a lookup of one binary search and to the accesses that a filter must trap.

mod check;
mod error;
mod lookup;
mod read;
mod rule;
mod shipped;
mod text;

use std::fs;

pub use error::{PolicyError, Problem, Warning};
pub use read::{Ask, target};
pub use rule::{Action, Place, Rule, Scope, VcpuSet};
pub use shipped::{shipped, shipped_names};
pub use text::number;

use super::access::Reason;
use super::filter::Traps;
use crate::trace::Direction;
use lookup::Lookup;

/// A policy, checked and compiled.
#[derive(Debug, Clone)]
pub struct Policy {
    files: Vec<String>,
    rules: Vec<Rule>,
    lookup: Lookup,
    unknown: Action,
    inval: Action,
    filter: Action,
    log: bool,
    ask: Option<Ask>,
    traps: Traps,
    warnings: Vec<Warning>,
}

impl Default for Policy {
    /// Nothing is filtered; what KVM refuses gets #GP.
    fn default() -> Self {
        Self {
            files: Vec::new(),
            rules: Vec::new(),
            lookup: Lookup::default(),
            unknown: Action::Deny,
            inval: Action::Deny,
            filter: Action::Allow,
            log: false,
            ask: None,
            traps: Traps::default(),
            warnings: Vec::new(),
        }
    }
}

impl Policy {
    /// Reads files, or `:NAME` for those built in; later ones win.
    ///
    /// # Errors
    /// [`PolicyError`] with file, line and column.
    pub fn load(names: &[String]) -> Result<Self, PolicyError> {
        let mut sources = Vec::new();
        for name in names {
            let text = match name.strip_prefix(':') {
                Some(shipped) => shipped::find(shipped)?.to_owned(),
                None => fs::read_to_string(name).map_err(|source| PolicyError::Read {
                    path: name.clone(),
                    source,
                })?,
            };
            sources.push((name.clone(), text));
        }
        Self::parse(&sources)
    }

    /// From names and texts of files; later ones win.
    ///
    /// # Errors
    /// [`PolicyError`] with file, line and column.
    pub fn parse(sources: &[(String, String)]) -> Result<Self, PolicyError> {
        if sources.len() > usize::from(u16::MAX) {
            return Err(PolicyError::Many(sources.len()));
        }
        let mut policy = Self::default();
        let mut asks = None;
        for (number, (name, text)) in (0..=u16::MAX).zip(sources) {
            let file = read::read(name, text, number)?;
            policy.files.push(name.clone());
            policy.rules.extend(file.rules);
            policy.unknown = file.unknown.unwrap_or(policy.unknown);
            policy.inval = file.inval.unwrap_or(policy.inval);
            policy.filter = file.filter.unwrap_or(policy.filter);
            policy.log = file.log.unwrap_or(policy.log);
            policy.ask = file.ask.or(policy.ask);
            asks = asks.or(file.asks);
        }
        if let (Some(place), None) = (asks, &policy.ask) {
            return Err(policy.at(place, Problem::NoProgram));
        }
        policy.lookup = Lookup::build(&policy.rules).map_err(|clash| policy.clash(clash))?;
        policy.check()?;
        Ok(policy)
    }

    fn at(&self, place: Place, problem: Problem) -> PolicyError {
        let file = self.files.get(usize::from(place.file));
        PolicyError::At {
            file: file.cloned().unwrap_or_default(),
            line: place.line,
            column: place.column,
            problem,
        }
    }

    fn clash(&self, clash: lookup::Clash) -> PolicyError {
        let place = |id: usize| self.rules.get(id).map(|rule| rule.place);
        let msr = super::describe(clash.index);
        match (place(clash.first), place(clash.second)) {
            (Some(first), Some(second)) => {
                let other = first.line;
                self.at(second, Problem::Clash { msr, other })
            }
            _ => self.at(
                Place {
                    file: 0,
                    line: 1,
                    column: 1,
                },
                Problem::Clash { msr, other: 1 },
            ),
        }
    }

    /// The rules that may decide about an access, in order of rank, each with its number.
    #[inline]
    pub fn rules_for(
        &self,
        index: u32,
        direction: Direction,
    ) -> impl Iterator<Item = (u32, &Rule)> {
        self.lookup
            .rules(index, direction)
            .iter()
            .filter_map(|&id| Some((id, self.rule(id)?)))
    }

    /// A rule by its number.
    #[must_use]
    pub fn rule(&self, id: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(id).ok()?)
    }

    /// All rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What is done to an access that no rule is for.
    #[must_use]
    pub const fn otherwise(&self, reason: Reason) -> Action {
        match reason {
            Reason::Unknown => self.unknown,
            Reason::Inval => self.inval,
            Reason::Filter => self.filter,
        }
    }

    /// Whether accesses that no rule is for are logged when they come out.
    #[must_use]
    pub const fn logs_rest(&self) -> bool {
        self.log
    }

    /// The program that answers.
    #[must_use]
    pub const fn ask(&self) -> Option<&Ask> {
        self.ask.as_ref()
    }

    /// What a filter must trap.
    #[must_use]
    pub const fn traps(&self) -> &Traps {
        &self.traps
    }

    /// Whether it is more than no policy.
    #[must_use]
    pub fn says_anything(&self) -> bool {
        !self.files.is_empty()
    }

    /// What works otherwise than it may seem.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// A place for humans: `file:line`.
    #[must_use]
    pub fn locate(&self, place: Place) -> String {
        let file = self.files.get(usize::from(place.file));
        format!("{}:{}", file.map_or("", String::as_str), place.line)
    }
}

#[cfg(test)]
mod tests;
