//! `--cpu` in words: `NAME,+feature,-feature,vendor=...`

use std::fmt;
use std::str::FromStr;

use super::features;
use super::model::{self, MODELS, Model};

/// What a guest's CPU is to be: a named one, and what differs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    text: String,
    pub(super) model: &'static Model,
    /// Features by Linux's name, each once.
    pub(super) features: Vec<(&'static str, bool)>,
    /// Whether KVM's leaves are shown; none when the model decides.
    pub(super) kvm: Option<bool>,
    pub(super) vendor: Option<[u8; 12]>,
    pub(super) family: Option<u32>,
    pub(super) model_number: Option<u32>,
    pub(super) stepping: Option<u32>,
}

impl Default for Profile {
    /// Everything that KVM offers.
    fn default() -> Self {
        let [host, ..] = &MODELS;
        Self {
            text: host.name.into(),
            model: host,
            features: Vec::new(),
            kvm: None,
            vendor: None,
            family: None,
            model_number: None,
            stepping: None,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Words that describe no CPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProfile {
    /// No CPU of that name.
    #[error(
        "there is no CPU {name:?}; {}, and there are: {}",
        if name.parse::<u32>().is_ok() { format!("how many there are is --cpus {name}") }
        else { format!("the nearest is {nearest}") },
        MODELS.map(|m| m.name).join(", ")
    )]
    Model {
        /// What was asked.
        name: String,
        /// The nearest there is.
        nearest: &'static str,
    },
    /// No feature of that name.
    #[error(
        "no CPU feature is called {name:?}{}; names are those of /proc/cpuinfo or QEMU",
        nearest.map(|n| format!("; the nearest is {n}")).unwrap_or_default()
    )]
    Feature {
        /// What was asked.
        name: String,
        /// The nearest there is.
        nearest: Option<&'static str>,
    },
    /// A feature that follows from something else.
    #[error("{name} is no choice of its own: it follows {of}")]
    Follows {
        /// The feature.
        name: String,
        /// What it follows.
        of: &'static str,
    },
    /// A feature without what it needs.
    #[error(
        "+{feature} needs {need}, which the rest takes away: add +{need} or leave {feature} out"
    )]
    Needs {
        /// The feature.
        feature: &'static str,
        /// What it needs.
        need: &'static str,
    },
    /// No such option.
    #[error("--cpu has no option {0:?}; it has vendor=, family=, model= and stepping=")]
    Key(String),
    /// A vendor that cannot be written.
    #[error(
        "{0:?} is no vendor: intel, amd, hygon, centaur, zhaoxin, or twelve characters as CPUID gives them"
    )]
    Vendor(String),
    /// A number out of range.
    #[error("{key}={value:?} is no number from 0 to {last}")]
    Number {
        /// The option.
        key: &'static str,
        /// What was given.
        value: String,
        /// The highest there is.
        last: u32,
    },
}

/// Leaf 0's EBX, EDX and ECX of processors that were sold.
const VENDORS: [(&str, &[u8; 12]); 5] = [
    ("intel", b"GenuineIntel"),
    ("amd", b"AuthenticAMD"),
    ("hygon", b"HygonGenuine"),
    ("centaur", b"CentaurHauls"),
    ("zhaoxin", b"  Shanghai  "),
];

/// Bits that Linux or QEMU name and that are not the user's to choose.
const FOLLOWS: [(&str, &str); 4] = [
    ("ht", "--cpus"),
    ("cmp_legacy", "--cpus"),
    ("osxsave", "what the guest's kernel writes to CR4"),
    ("ospke", "what the guest's kernel writes to CR4"),
];

impl FromStr for Profile {
    type Err = BadProfile;

    fn from_str(text: &str) -> Result<Self, BadProfile> {
        let mut profile = Self {
            text: text.trim().into(),
            ..Self::default()
        };
        for (at, word) in text.split(',').map(str::trim).enumerate() {
            let signed = [('+', true), ('-', false)]
                .into_iter()
                .find_map(|(sign, on)| Some((word.strip_prefix(sign)?, on)));
            if let Some((name, on)) = signed {
                profile.choose(name, on)?;
            } else if let Some((key, value)) = word.split_once('=') {
                profile.set(key.trim(), value.trim())?;
            } else if at == 0 {
                profile.model = model::find(word).ok_or_else(|| BadProfile::Model {
                    name: word.into(),
                    nearest: model::nearest(word),
                })?;
            } else {
                // A feature without its sign is nearly what was meant, and which way is not known.
                return Err(BadProfile::Key(word.into()));
            }
        }
        profile.check()?;
        Ok(profile)
    }
}

impl Profile {
    /// Later words win.
    fn choose(&mut self, name: &str, on: bool) -> Result<(), BadProfile> {
        if features::bare(name) == "kvm" {
            self.kvm = Some(on);
            return Ok(());
        }
        let Some(known) = features::canonical(name) else {
            let bare = features::bare(name);
            return Err(match FOLLOWS.iter().find(|(known, _)| *known == bare) {
                Some((_, of)) => BadProfile::Follows {
                    name: name.into(),
                    of,
                },
                None => BadProfile::Feature {
                    name: name.into(),
                    nearest: nearest(&bare),
                },
            });
        };
        self.features.retain(|(feature, _)| *feature != known);
        self.features.push((known, on));
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BadProfile> {
        match key {
            "vendor" => {
                let bytes = match VENDORS
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(value))
                {
                    Some((_, bytes)) => Some(**bytes),
                    None => value.as_bytes().try_into().ok(),
                };
                let printable = |bytes: &[u8; 12]| bytes.iter().all(|b| matches!(b, b' '..=b'~'));
                let vendor = bytes.filter(printable);
                self.vendor = Some(vendor.ok_or_else(|| BadProfile::Vendor(value.into()))?);
            }
            // SDM 2A, figure 3-6: four bits and eight more of a family, four and four of a model.
            "family" => self.family = Some(number("family", value, 0xf + 0xff)?),
            "model" => self.model_number = Some(number("model", value, 0xff)?),
            "stepping" => self.stepping = Some(number("stepping", value, 0xf)?),
            _ => return Err(BadProfile::Key(key.into())),
        }
        Ok(())
    }

    /// What was asked for must not be without what was taken away.
    fn check(&self) -> Result<(), BadProfile> {
        let off = |name: &str| self.features.contains(&(canonical_static(name), false));
        for &(feature, on) in &self.features {
            let mut below = features::needs(feature).to_vec();
            while let Some(need) = below.pop() {
                if on && off(need) {
                    return Err(BadProfile::Needs { feature, need });
                }
                below.extend(features::needs(need));
            }
        }
        Ok(())
    }

    /// Whether anything differs from what KVM offers.
    #[must_use]
    pub fn is_host(&self) -> bool {
        Self {
            text: String::new(),
            ..self.clone()
        } == Self {
            text: String::new(),
            ..Self::default()
        }
    }
}

fn canonical_static(name: &str) -> &'static str {
    features::canonical(name).unwrap_or_default()
}

fn number(key: &'static str, text: &str, last: u32) -> Result<u32, BadProfile> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    parsed
        .filter(|n| *n <= last)
        .ok_or_else(|| BadProfile::Number {
            key,
            value: text.into(),
            last,
        })
}

/// The feature whose name is most like one that nobody has.
fn nearest(name: &str) -> Option<&'static str> {
    let known = features::all()
        .iter()
        .flat_map(|f| f.aka.iter().copied().chain([f.name]));
    known
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(alike, _)| *alike > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Profile>().unwrap_err().to_string()
    }

    #[test]
    fn a_name_and_what_differs_from_it() {
        let profile: Profile =
            "x86-64-v2,+AES,-sse4.2,+x2apic,-x2apic,vendor=intel,family=6,model=0x8f"
                .parse()
                .unwrap();
        assert_eq!(profile.model.name, "x86-64-v2");
        let expected = [("aes", true), ("sse4_2", false), ("x2apic", false)];
        assert_eq!(profile.features, expected, "the later word wins");
        assert_eq!(profile.vendor.as_ref(), Some(b"GenuineIntel"));
        assert_eq!(
            (profile.family, profile.model_number),
            (Some(6), Some(0x8f))
        );
        assert_eq!("-avx".parse::<Profile>().unwrap().model.name, "host");
        assert!("host".parse::<Profile>().unwrap().is_host());
        assert!(!"host,-kvm".parse::<Profile>().unwrap().is_host());
    }

    #[test]
    fn a_mistake_names_the_nearest() {
        assert!(
            error("+avx512vlx").contains("nearest is avx512vl"),
            "{}",
            error("+avx512vlx")
        );
        assert!(error("x86-64-v9").contains("nearest is x86-64-v"));
        assert!(error("host,+ht").contains("follows --cpus"));
        assert!(error("host,avx").contains("no option \"avx\""));
        assert!(error("host,vendor=Via").contains("intel, amd"));
        assert!(error("host,stepping=16").contains("0 to 15"));
        assert!(error("").contains("no CPU \"\""));
    }

    #[test]
    fn what_is_asked_for_may_not_be_without_what_it_needs() {
        assert!(error("-xsave,+avx2").contains("+avx2 needs xsave"));
        assert!("-avx2,-xsave".parse::<Profile>().is_ok());
    }
}
