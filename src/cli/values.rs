//! Values of options: sizes, durations, pairs of paths.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::devices::DEFAULT_DMA_BITS;
pub use crate::machine::Size;
use crate::machine::{DriveSpec, DriveUse, Extra};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A duration with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Text that is not a duration.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a duration; write it with its unit: 500ms, 90s, 2m, 1h")]
pub struct BadSpan(String);

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let bad = || BadSpan(text.into());
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        millis.map(Duration::from_millis).map(Self).ok_or_else(bad)
    }
}

/// Two paths, one on each side of the machine's wall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair(pub PathBuf, pub PathBuf);

/// Text that is not two paths.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a pair of paths; write FROM:TO")]
pub struct BadPair(String);

impl FromStr for Pair {
    type Err = BadPair;

    fn from_str(text: &str) -> Result<Self, BadPair> {
        match text.rsplit_once(':') {
            Some((from, to)) if !from.is_empty() && !to.is_empty() => {
                Ok(Self(from.into(), to.into()))
            }
            _ => Err(BadPair(text.into())),
        }
    }
}

/// A device for the board: its name, and what is to be said of it after commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(pub Extra);

/// Text that is not a device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDevice {
    /// No device of that name.
    #[error("there is no device {0:?}; there are: edu, balloon, pci-testdev, testdev")]
    Name(String),
    /// Nothing that can be said of it.
    #[error("{device} has no option {option:?}; it has: {options}")]
    Option {
        /// The device.
        device: &'static str,
        /// What was said.
        option: String,
        /// What can be said.
        options: &'static str,
    },
    /// A value out of range.
    #[error("dma-mask is a number of address bits from 12 to 64, not {0:?}")]
    Bits(String),
}

impl FromStr for Device {
    type Err = BadDevice;

    fn from_str(text: &str) -> Result<Self, BadDevice> {
        let mut words = text.split(',');
        let without_options =
            |device, extra, mut words: std::str::Split<'_, char>| match words.next() {
                None => Ok(Self(extra)),
                Some(option) => Err(BadDevice::Option {
                    device,
                    option: option.into(),
                    options: "none",
                }),
            };
        match words.next() {
            Some("edu") => {}
            Some("balloon") => return without_options("balloon", Extra::Balloon, words),
            Some("testdev") => return without_options("testdev", Extra::TestDevice, words),
            Some("pci-testdev") => {
                return without_options("pci-testdev", Extra::PciTestDevice, words);
            }
            name => return Err(BadDevice::Name(name.unwrap_or_default().into())),
        }
        let mut dma_bits = DEFAULT_DMA_BITS;
        for option in words {
            let Some(bits) = option.strip_prefix("dma-mask=") else {
                return Err(BadDevice::Option {
                    device: "edu",
                    option: option.into(),
                    options: "dma-mask=BITS",
                });
            };
            let number = bits.parse().ok().filter(|bits| (12..=64).contains(bits));
            dma_bits = number.ok_or_else(|| BadDevice::Bits(bits.into()))?;
        }
        Ok(Self(Extra::Edu { dma_bits }))
    }
}

/// A disk image, and what is to be said of it after commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk(pub DriveSpec);

/// Text that is not a disk image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDisk {
    /// No file.
    #[error("a disk is FILE[,ro][,overlay]: the file is missing")]
    NoFile,
    /// Nothing that can be said of it.
    #[error(
        "a disk has no option {0:?}; it has: ro, overlay (a file with a comma in its name needs a link \
         without one)"
    )]
    Option(String),
}

impl FromStr for Disk {
    type Err = BadDisk;

    fn from_str(text: &str) -> Result<Self, BadDisk> {
        let mut words = text.split(',');
        let path = words.next().filter(|path| !path.is_empty());
        let path = path.ok_or(BadDisk::NoFile)?.into();
        let (mut read_only, mut overlay) = (false, false);
        for option in words {
            match option {
                "ro" => read_only = true,
                "overlay" => overlay = true,
                _ => return Err(BadDisk::Option(option.into())),
            }
        }
        let kind = DriveUse::Disk { read_only, overlay };
        Ok(Self(DriveSpec { path, kind }))
    }
}

/// A module for a multiboot kernel: a file, and the words that follow its name in the module's string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootModule {
    /// The file.
    pub file: PathBuf,
    /// The words.
    pub string: Option<String>,
}

/// Text that is not a module.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a module is FILE[,WORDS]: the file is missing")]
pub struct BadBootModule;

impl FromStr for BootModule {
    type Err = BadBootModule;

    fn from_str(text: &str) -> Result<Self, BadBootModule> {
        let (file, string) = match text.split_once(',') {
            Some((file, words)) => (file, Some(words.to_owned())),
            None => (text, None),
        };
        if file.is_empty() {
            return Err(BadBootModule);
        }
        let file = file.into();
        Ok(Self { file, string })
    }
}

/// A TOML value that is text, or a number where the text may be one.
struct Text<T>(std::marker::PhantomData<T>);

impl<T> Visitor<'_> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same text as on the command line")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text(std::marker::PhantomData))
            }
        }
    )*};
}

as_text!(Size, Span, Pair, Device, Disk, BootModule);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!("90s".parse::<Span>().unwrap().0, Duration::from_secs(90));
        assert_eq!("2m".parse::<Span>().unwrap().0, Duration::from_secs(120));
        for bad in ["", "90", "s", "1.5s", "5d", "99999999999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_disk_is_a_file_with_options() {
        let disk = |read_only, overlay| {
            Ok(Disk(DriveSpec {
                path: "/a/disk.img".into(),
                kind: DriveUse::Disk { read_only, overlay },
            }))
        };
        assert_eq!("/a/disk.img".parse(), disk(false, false));
        assert_eq!("/a/disk.img,overlay,ro".parse(), disk(true, true));
        let option = "/a/disk.img,rw".parse::<Disk>();
        assert_eq!(option, Err(BadDisk::Option("rw".into())));
        assert_eq!(",ro".parse::<Disk>(), Err(BadDisk::NoFile));
    }

    #[test]
    fn a_boot_module_is_a_file_with_words() {
        let module = |file: &str, string: Option<&str>| {
            Ok(BootModule {
                file: file.into(),
                string: string.map(str::to_owned),
            })
        };
        assert_eq!("a/env".parse(), module("a/env", None));
        assert_eq!("a,b c,d".parse(), module("a", Some("b c,d")));
        assert_eq!(",b".parse::<BootModule>(), Err(BadBootModule));
    }

    #[test]
    fn a_device_is_a_name_with_options() {
        let edu = |dma_bits| Ok(Device(Extra::Edu { dma_bits }));
        assert_eq!("edu".parse(), edu(28));
        assert_eq!("edu,dma-mask=40".parse(), edu(40));
        assert_eq!("testdev".parse(), Ok(Device(Extra::TestDevice)));
        assert_eq!("pci-testdev".parse(), Ok(Device(Extra::PciTestDevice)));
        assert_eq!("balloon".parse(), Ok(Device(Extra::Balloon)));
        for (text, says) in [
            ("testdev,x", "it has: none"),
            ("ahci", "there are: edu"),
            ("", "there are: edu"),
            ("balloon,64M", "it has: none"),
            ("edu,mask=3", "dma-mask=BITS"),
            ("edu,dma-mask=0xfff", "12 to 64"),
            ("edu,dma-mask=65", "12 to 64"),
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
