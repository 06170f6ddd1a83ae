//! From an index to what is known of it, and from a name to an index.

use std::fmt;

use super::Row;
use super::banks::{RANGES, STRIDES, Stride};
use super::table::{TABLE, number_in};

/// One MSR of the table.
#[derive(Debug, Clone, Copy)]
pub struct Msr {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: Name,
    /// What is known of it. The row's own index is that of the first register of a stride.
    pub row: &'static Row,
}

/// The name of an MSR; those of strides carry a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pattern: &'static str,
    number: Option<u32>,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number, self.pattern.split_once('#')) {
            (Some(number), Some((before, after))) => f.pad(&format!("{before}{number}{after}")),
            _ => f.pad(self.pattern),
        }
    }
}

/// A name that no row has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no MSR is called {name:?}{}; an index such as 0x10 works for any", nearest.as_ref().map(|n| format!("; the nearest name is {n}")).unwrap_or_default())]
pub struct UnknownMsr {
    /// What was asked for.
    pub name: String,
    /// The nearest name there is.
    pub nearest: Option<String>,
}

/// A bank that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no bank {name:?}; the nearest is bank:{nearest}")]
pub struct UnknownBank {
    /// What was asked for.
    pub name: String,
    /// The nearest there is.
    pub nearest: String,
}

/// What is known of `index`.
#[must_use]
pub fn of(index: u32) -> Option<Msr> {
    if let Ok(at) = TABLE.binary_search_by_key(&index, |row| row.index) {
        let row = TABLE.get(at)?;
        let (pattern, number) = (row.name, None);
        let name = Name { pattern, number };
        return Some(Msr { index, name, row });
    }
    STRIDES.iter().find_map(|stride| {
        let number = number_in(stride, index)?;
        Some(member(stride, number))
    })
}

fn member(stride: &'static Stride, number: u32) -> Msr {
    Msr {
        index: stride
            .row
            .index
            .saturating_add(number.saturating_mul(stride.step)),
        name: Name {
            pattern: stride.row.name,
            number: Some(number),
        },
        row: &stride.row,
    }
}

/// Every MSR with a name, lowest index first.
pub fn all() -> impl Iterator<Item = Msr> {
    let strides = STRIDES
        .iter()
        .flat_map(|stride| (0..stride.count).map(move |number| member(stride, number)));
    let singles = TABLE.iter().filter_map(|row| of(row.index));
    let mut all: Vec<_> = singles.chain(strides).collect();
    all.sort_by_key(|msr| msr.index);
    all.into_iter()
}

/// A name without what people leave out: case, and the prefixes IA32_ and MSR_.
fn bare(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase().replace('-', "_");
    let mut rest = upper.as_str();
    while let Some(shorter) = rest
        .strip_prefix("IA32_")
        .or_else(|| rest.strip_prefix("MSR_"))
    {
        rest = shorter;
    }
    rest.to_owned()
}

/// The number that `name` has where the pattern has its `#`.
fn number_of(pattern: &str, name: &str) -> Option<u32> {
    let pattern = bare(pattern);
    let (before, after) = pattern.split_once('#')?;
    let digits = name.strip_prefix(before)?.strip_suffix(after)?;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok() } else { None }
}

/// Finds an MSR by any of its names; case and the prefixes `IA32_` and `MSR_` do not matter.
///
/// # Errors
/// [`UnknownMsr`] with the nearest name.
pub fn by_name(name: &str) -> Result<Msr, UnknownMsr> {
    let wanted = bare(name);
    let named = |known: &str| !known.is_empty() && bare(known) == wanted;
    if let Some(row) = TABLE.iter().find(|row| named(row.name) || named(row.aka))
        && let Some(msr) = of(row.index)
    {
        return Ok(msr);
    }
    for stride in STRIDES {
        let number = [stride.row.name, stride.row.aka]
            .into_iter()
            .find_map(|pattern| number_of(pattern, &wanted));
        if let Some(number) = number
            && number < stride.count
        {
            return Ok(member(stride, number));
        }
    }
    let names = all().map(|msr| msr.name.to_string());
    let aliases = TABLE.iter().map(|row| row.aka.to_owned());
    let nearest = names
        .chain(aliases)
        .filter(|known| !known.is_empty())
        .map(|known| (strsim::jaro_winkler(&bare(&known), &wanted), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(alike, _)| *alike > 0.7)
        .map(|(_, known)| known);
    Err(UnknownMsr {
        name: name.into(),
        nearest,
    })
}

/// The names of all banks.
pub fn banks() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<_> = STRIDES
        .iter()
        .map(|stride| stride.bank)
        .chain(RANGES.iter().map(|range| range.0))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

/// The bank whose name is nearest to `name`.
#[must_use]
pub fn nearest_bank(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase();
    banks()
        .max_by(|a, b| strsim::jaro_winkler(a, &name).total_cmp(&strsim::jaro_winkler(b, &name)))
        .unwrap_or("MC")
}

/// The indices of a bank as inclusive ranges, sorted and apart.
///
/// # Errors
/// [`UnknownBank`].
pub fn bank(name: &str) -> Result<Vec<(u32, u32)>, UnknownBank> {
    let wanted = name.trim().to_ascii_uppercase();
    let members = STRIDES
        .iter()
        .filter(|stride| stride.bank == wanted)
        .flat_map(|stride| (0..stride.count).map(move |number| member(stride, number).index))
        .map(|index| (index, index));
    let ranges = RANGES
        .iter()
        .filter(|range| range.0 == wanted)
        .map(|range| (range.1, range.2));
    let mut parts: Vec<(u32, u32)> = members.chain(ranges).collect();
    if parts.is_empty() {
        return Err(UnknownBank {
            nearest: nearest_bank(&wanted).into(),
            name: name.into(),
        });
    }
    parts.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in parts {
        match joined.last_mut() {
            Some(before) if before.1.saturating_add(1) >= first => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests;
