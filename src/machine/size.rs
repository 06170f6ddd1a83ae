//! Sizes as people write them.

use std::str::FromStr;

/// A size in bytes. Without a suffix it is in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that is not a size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a size; write 512 or 512M (MiB), 2G, 64K")]
pub struct BadSize(String);

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.into());
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let shift = match suffix
            .to_ascii_lowercase()
            .trim_end_matches("ib")
            .trim_end_matches('b')
        {
            "k" => 10,
            "" if suffix.is_empty() => 20,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_without_suffix_is_in_mib() {
        for (text, bytes) in [
            ("256", 256 << 20),
            ("1G", 1 << 30),
            ("64k", 64 << 10),
            ("2GiB", 2 << 30),
            ("3MB", 3 << 20),
        ] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "10X",
            "99999999999999T",
            "1 G",
            "ib",
            "5b",
        ] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
