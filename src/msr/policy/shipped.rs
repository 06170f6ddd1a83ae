//! The policies that come with Trapline.

use super::error::PolicyError;

const SHIPPED: &[(&str, &str)] = &[
    (
        "bare-amd",
        include_str!("../../../resources/msr/bare-amd.toml"),
    ),
    (
        "bare-intel",
        include_str!("../../../resources/msr/bare-intel.toml"),
    ),
    (
        "count-all",
        include_str!("../../../resources/msr/count-all.toml"),
    ),
    (
        "like-ignore-msrs",
        include_str!("../../../resources/msr/like-ignore-msrs.toml"),
    ),
    ("strict", include_str!("../../../resources/msr/strict.toml")),
    (
        "trace-all",
        include_str!("../../../resources/msr/trace-all.toml"),
    ),
];

/// Their names.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The text of one.
#[must_use]
pub fn shipped(name: &str) -> Option<&'static str> {
    SHIPPED
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

pub(super) fn find(name: &str) -> Result<&'static str, PolicyError> {
    shipped(name).ok_or_else(|| PolicyError::NoSuch {
        name: name.into(),
        known: shipped_names().map(|known| format!(":{known}")).collect(),
    })
}
