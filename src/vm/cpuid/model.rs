//! CPUs that have a name.

use super::features::{self, Feature, Kind};

/// A named CPU: which features it keeps of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// One line on it.
    pub about: &'static str,
    /// The level of the psABI whose instructions it has, and no others.
    level: Option<usize>,
    /// Whether it says that it is virtual, and by whom.
    pub(super) virtual_: bool,
}

/// The instructions of each level and what it adds to the one below (x86-64 psABI 1.0, table 3.1; OSFXSR and
/// OSXSAVE are the kernel's to set).
const LEVELS: [&[&str]; 4] = [
    &[
        "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2",
    ],
    &[
        "cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3",
    ],
    &[
        "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave",
    ],
    &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
];

const fn level(name: &'static str, about: &'static str, level: usize) -> Model {
    Model {
        name,
        about,
        level: Some(level),
        virtual_: true,
    }
}

/// All of them; the first is the default.
pub const MODELS: [Model; 6] = [
    Model {
        name: "host",
        about: "everything that this host's KVM offers",
        level: None,
        virtual_: true,
    },
    Model {
        name: "bare",
        about: "the same, and nothing that says it is virtual: no hypervisor bit, none of KVM's leaves and MSRs",
        level: None,
        virtual_: false,
    },
    level(
        "x86-64",
        "the instructions that every x86-64 processor has, and no others",
        1,
    ),
    level("x86-64-v2", "level 2 of the psABI: up to SSE4.2", 2),
    level("x86-64-v3", "level 3: AVX2, FMA, BMI", 3),
    level("x86-64-v4", "level 4: AVX-512", 4),
];

impl Model {
    /// What this host must have for it.
    pub(super) fn required(&self) -> impl Iterator<Item = &'static str> {
        let levels = LEVELS.iter().take(self.level.unwrap_or(0));
        levels.flat_map(|level| level.iter().copied())
    }

    /// Whether it has a feature that the host has. XSAVE's ways of saving come with XSAVE.
    pub(super) fn keeps(&self, feature: &Feature) -> bool {
        let saves = ["xsaveopt", "xsavec", "xgetbv1"].contains(&feature.name);
        let level = self.level.is_none()
            || feature.kind != Kind::User
            || saves
            || self.required().any(|name| name == feature.name);
        let hidden = feature.kind == Kind::Pv || feature.name == "hypervisor";
        level && (self.virtual_ || !hidden)
    }
}

/// Finds one.
pub(super) fn find(name: &str) -> Option<&'static Model> {
    let wanted = features::bare(name);
    MODELS
        .iter()
        .find(|model| features::bare(model.name) == wanted)
}

/// The nearest to a name that no model has.
pub(super) fn nearest(name: &str) -> &'static str {
    let score = |model: &Model| strsim::jaro_winkler(model.name, name);
    let best = MODELS.iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    best.map_or("host", |model| model.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_name_features_of_the_table_that_programs_use() {
        for name in LEVELS.iter().flat_map(|level| level.iter()) {
            assert!(features::bits(name).all(|f| f.kind == Kind::User), "{name}");
            assert!(features::bits(name).next().is_some(), "{name}");
        }
    }

    #[test]
    fn a_level_has_what_it_needs() {
        for model in &MODELS {
            let has: Vec<_> = model.required().collect();
            for need in has.iter().flat_map(|name| features::needs(name)) {
                assert!(has.contains(need), "{} lacks {need}", model.name);
            }
        }
    }
}
