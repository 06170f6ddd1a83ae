//! Kernel configurations: what is set in one, and which options matter to Trapline's users.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::error::KernelError;

/// What a reader of `trapline kernel list` wants to know: whether stacks are guarded, which ways
/// in there are, what a lab needs, what a test kernel watches.
pub const NOTABLE: [&str; 21] = [
    "VMAP_STACK",
    "PVH",
    "KVM_GUEST",
    "KVM_AMD",
    "KVM_INTEL",
    "INTEL_IOMMU",
    "IRQ_REMAP",
    "VFIO_PCI",
    "VFIO_DEVICE_CDEV",
    "IOMMUFD",
    "NET_9P_VIRTIO",
    "DMA_API_DEBUG",
    "DEBUG_SG",
    "DEBUG_VIRTUAL",
    "INTEL_IOMMU_DEBUGFS",
    "LKDTM",
    "SOFTLOCKUP_DETECTOR",
    "HARDLOCKUP_DETECTOR",
    "KASAN",
    "KCOV",
    "X86_MSR",
];

/// The options of a configuration that are not off, without `CONFIG_`: `y`, `m`, numbers, texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads a `.config`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, KernelError> {
        let text = fs::read_to_string(path).map_err(KernelError::io("read", path))?;
        Ok(Self::parse(&text))
    }

    /// Parses a `.config`. `n` and `is not set` are the same: not there.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut set = BTreeMap::new();
        for line in text.lines().map(str::trim) {
            let off = line
                .strip_prefix("# CONFIG_")
                .and_then(|l| l.strip_suffix(" is not set"));
            if let Some(name) = off {
                set.remove(name);
            } else if let Some((name, value)) =
                line.strip_prefix("CONFIG_").and_then(|l| l.split_once('='))
            {
                // The last line counts, as in Kconfig.
                set.remove(name);
                if value != "n" {
                    set.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        Self(set)
    }

    /// The value of an option that is not off.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether an option is on, built in or as a module.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some("y" | "m"))
    }

    /// The notable ones that are on.
    #[must_use]
    pub fn notable(&self) -> BTreeMap<&'static str, String> {
        let value = |name: &&'static str| Some((*name, self.get(name)?.to_owned()));
        NOTABLE.iter().filter_map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_off_however_it_is_written() {
        let options = Options::parse(
            "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=n\nCONFIG_E=\"t=x\"\n#CONFIG_F=y\n",
        );
        assert!(options.is_on("A") && options.is_on("B"));
        for off in ["C", "D", "F", "G"] {
            assert_eq!(options.get(off), None, "{off}");
        }
        assert_eq!(options.get("E"), Some("\"t=x\""));
        assert!(!Options::parse("CONFIG_A=y\n# CONFIG_A is not set\n").is_on("A"));
        assert!(Options::parse("# CONFIG_A is not set\nCONFIG_A=y\n").is_on("A"));
    }
}
