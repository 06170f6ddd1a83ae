//! The guest's own page tables, walked as its processor would (SDM 3A, chapter 5).
//!
//! Tables are the guest's and may hold anything: a walk reads at most five entries and never
//! panics.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::fmt;

use kvm_bindings::kvm_sregs;
use serde::Serialize;

use super::hex::Hex;

pub(super) const CR0_PE: u64 = 1;
pub(super) const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
pub(super) const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51:12 of an entry. Bits above MAXPHYADDR are reserved; a walk for humans shows what they
/// lead to.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Reads guest physical memory, all or nothing.
pub type Physical<'a> = &'a dyn Fn(u64, &mut [u8]) -> bool;

/// One level of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    name: &'static str,
    shift: u32,
    index_bits: u32,
    /// An entry may map a page of `1 << shift` bytes by itself.
    large: bool,
    /// An entry of the level restricts writing and user mode. PAE's directory pointers do not.
    rights: bool,
}

const fn level(name: &'static str, shift: u32, large: bool) -> Level {
    Level {
        name,
        shift,
        index_bits: 9,
        large,
        rights: true,
    }
}

const LONG: [Level; 5] = [
    level("PML5", 48, false),
    level("PML4", 39, false),
    level("PDPT", 30, true),
    level("PD", 21, true),
    level("PT", 12, true),
];
const PAE: [Level; 3] = [
    Level {
        index_bits: 2,
        rights: false,
        ..level("PDPT", 30, false)
    },
    level("PD", 21, true),
    level("PT", 12, true),
];
const TWO_LEVEL: [Level; 2] = [
    Level {
        index_bits: 10,
        ..level("PD", 22, true)
    },
    Level {
        index_bits: 10,
        ..level("PT", 12, true)
    },
];

/// How a vCPU translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    levels: &'static [Level],
    root: u64,
    entry_bytes: u8,
    /// Virtual addresses have this many bits, sign-extended in long mode.
    bits: u32,
    long: bool,
    /// 4 MiB pages in two-level tables.
    pse: bool,
    nxe: bool,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The address that was walked.
    pub virtual_address: Hex,
    /// The entries on the way.
    pub steps: Vec<WalkStep>,
    /// Where they led.
    #[serde(flatten)]
    pub found: Found,
}

/// One entry on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WalkStep {
    /// Its table's name.
    pub level: &'static str,
    /// Where it lies, guest physical.
    pub at: Hex,
    /// Its value.
    pub entry: Hex,
}

/// Where a walk led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Found {
    /// To a page.
    Page {
        /// The address walked, guest physical.
        physical: Hex,
        /// Bytes in the page; zero where paging is off.
        page: u64,
        /// Writable.
        writable: bool,
        /// Open to CPL 3.
        user: bool,
        /// Executable.
        executable: bool,
    },
    /// To an entry that is not present.
    NotPresent {
        /// In this table.
        level: &'static str,
    },
    /// To a table that is not in RAM.
    TableNotRam {
        /// This one.
        level: &'static str,
    },
    /// Nowhere: bits 63:48 (or 63:57) differ from the bit below them.
    NotCanonical,
}

impl Paging {
    /// As the system registers say.
    #[must_use]
    pub const fn of(sregs: &kvm_sregs) -> Self {
        let long = sregs.efer & EFER_LMA != 0;
        let base = Self {
            levels: &[],
            root: sregs.cr3 & ADDRESS,
            entry_bytes: 8,
            bits: 32,
            long: false,
            pse: sregs.cr4 & CR4_PSE != 0,
            nxe: sregs.efer & EFER_NXE != 0,
        };
        if sregs.cr0 & CR0_PG == 0 {
            return base;
        }
        let [_, four @ ..] = &LONG;
        if long && sregs.cr4 & CR4_LA57 != 0 {
            Self {
                levels: &LONG,
                bits: 57,
                long,
                ..base
            }
        } else if long {
            Self {
                levels: four,
                bits: 48,
                long,
                ..base
            }
        } else if sregs.cr4 & CR4_PAE != 0 {
            Self {
                levels: &PAE,
                root: sregs.cr3 & 0xffff_ffe0,
                ..base
            }
        } else {
            Self {
                levels: &TWO_LEVEL,
                root: sregs.cr3 & 0xffff_f000,
                entry_bytes: 4,
                ..base
            }
        }
    }

    fn canonical(&self, address: u64) -> bool {
        let above = 64_u32.saturating_sub(self.bits);
        // Arithmetic shifts copy the sign bit.
        address
            .cast_signed()
            .wrapping_shl(above)
            .wrapping_shr(above)
            == address.cast_signed()
    }

    /// Walks `address`.
    #[must_use]
    pub fn walk(&self, address: u64, physical: Physical<'_>) -> Walk {
        let mut walk = Walk {
            virtual_address: Hex(address),
            steps: Vec::new(),
            found: Found::NotCanonical,
        };
        let address = if self.long {
            if !self.canonical(address) {
                return walk;
            }
            address
        } else {
            address & 0xffff_ffff
        };
        let (mut writable, mut user, mut executable) = (true, true, true);
        let mut table = self.root;
        if self.levels.is_empty() {
            walk.found = Found::Page {
                physical: Hex(address),
                page: 0,
                writable,
                user,
                executable,
            };
            return walk;
        }
        for level in self.levels {
            let mask = 1_u64.wrapping_shl(level.index_bits).wrapping_sub(1);
            let index = address.wrapping_shr(level.shift) & mask;
            let at = table.wrapping_add(index.wrapping_mul(u64::from(self.entry_bytes)));
            let Some(entry) = self.entry(at, physical) else {
                walk.found = Found::TableNotRam { level: level.name };
                return walk;
            };
            walk.steps.push(WalkStep {
                level: level.name,
                at: Hex(at),
                entry: Hex(entry),
            });
            if entry & PRESENT == 0 {
                walk.found = Found::NotPresent { level: level.name };
                return walk;
            }
            if level.rights {
                writable &= entry & WRITABLE != 0;
                user &= entry & USER != 0;
                executable &= !(self.nxe && self.entry_bytes == 8 && entry & NO_EXECUTE != 0);
            }
            let last = level.shift == 12;
            if last || (level.large && entry & LARGE != 0 && (self.entry_bytes == 8 || self.pse)) {
                let page = 1_u64.wrapping_shl(level.shift);
                let offset = address & page.wrapping_sub(1);
                walk.found = Found::Page {
                    physical: Hex(self.frame(entry, level) | offset),
                    page,
                    writable,
                    user,
                    executable,
                };
                return walk;
            }
            table = entry & ADDRESS;
        }
        // Unreachable by construction (the last level has shift 12), and harmless.
        walk
    }

    fn entry(&self, at: u64, physical: Physical<'_>) -> Option<u64> {
        if self.entry_bytes == 8 {
            let mut bytes = [0; 8];
            physical(at, &mut bytes).then(|| u64::from_le_bytes(bytes))
        } else {
            let mut bytes = [0; 4];
            physical(at, &mut bytes).then(|| u64::from(u32::from_le_bytes(bytes)))
        }
    }

    /// The page an entry maps.
    fn frame(&self, entry: u64, level: &Level) -> u64 {
        let below = 1_u64.wrapping_shl(level.shift).wrapping_sub(1);
        let frame = entry & ADDRESS & !below;
        if self.entry_bytes == 4 && level.shift == 22 {
            // PSE-36: bits 20:13 of the entry are bits 39:32 of the address.
            return frame | (entry.wrapping_shr(13) & 0xff).wrapping_shl(32);
        }
        frame
    }

    /// Reads virtual memory, up to the first byte that is not mapped or not RAM. Returns how many
    /// bytes were read.
    pub fn read(&self, address: u64, bytes: &mut [u8], physical: Physical<'_>) -> usize {
        let mut done = 0_usize;
        while let Some(rest) = bytes.get_mut(done..).filter(|r| !r.is_empty()) {
            let Some(at) = u64::try_from(done)
                .ok()
                .and_then(|d| address.checked_add(d))
            else {
                break;
            };
            let in_page = 4096_u64.saturating_sub(at & 4095);
            let chunk = usize::try_from(in_page).unwrap_or(0).min(rest.len());
            let Found::Page { physical: to, .. } = self.walk(at, physical).found else {
                break;
            };
            let Some(rest) = rest.get_mut(..chunk) else {
                break;
            };
            if !physical(to.0, rest) {
                break;
            }
            done = done.saturating_add(chunk);
        }
        done
    }
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.virtual_address)?;
        for step in &self.steps {
            write!(f, " {} {}", step.level, step.entry)?;
        }
        match self.found {
            Found::Page {
                physical,
                page,
                writable,
                user,
                executable,
            } => {
                write!(f, " -> {physical}")?;
                if page != 0 {
                    let size = match page {
                        4096 => "4K",
                        0x20_0000 => "2M",
                        0x40_0000 => "4M",
                        _ => "1G",
                    };
                    let flag = |on, letter| if on { letter } else { '-' };
                    let (w, x) = (flag(writable, 'w'), flag(executable, 'x'));
                    write!(f, " {size} r{w}{x}{}", if user { " user" } else { "" })?;
                }
                Ok(())
            }
            Found::NotPresent { level } => write!(f, " -> not present in the {level}"),
            Found::TableNotRam { level } => write!(f, " -> the {level} is not in RAM"),
            Found::NotCanonical => f.write_str(" is not canonical"),
        }
    }
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
