//! The symbol tables that a kernel carries for its own messages (scripts/kallsyms.c).
//!
//! A distribution's image is stripped, but not of these. Nothing points at them, so they are found
//! by their shape. Each name is a string of token numbers; the tables lie in this order, each on 8
//! bytes:
//!
//! | table | content |
//! |---|---|
//! | up to Linux 6.3: offsets, base | a 32-bit number per symbol, an address |
//! | count | 32 bits |
//! | names | per symbol: length (one byte, or two from 128 on), then token numbers |
//! | markers | 32 bits per 256 symbols: where the first of them is in names |
//! | tokens, token index | 256 strings, and 16 bits each: where it is in tokens |
//! | since Linux 6.4: offsets, base | as above |

use std::ops::Range;

const TOKENS: usize = 256;
const MARKER_STEP: usize = 256;
const ALIGN: usize = 8;
/// No token is longer; scripts/kallsyms.c merges pairs, so they stay short.
const LONGEST_TOKEN: usize = 64;
/// Names and markers lie at most this far before the tokens: 20 bytes for each of a million symbols.
const NAMES_REACH: usize = 20 << 20;
const FEWEST_SYMBOLS: usize = 64;
const MOST_SYMBOLS: usize = 1 << 20;
/// Where a 64-bit kernel is linked: the last 2 GiB.
const KERNEL_START: u64 = 0xffff_ffff_8000_0000;

/// Calls `each` with the address, type and name of every symbol; none when there are no tables.
pub(super) fn find(data: &[u8], each: &mut dyn FnMut(u64, u8, &str)) -> Option<()> {
    let tables = (0..data.len())
        .step_by(ALIGN)
        .find_map(|at| Tables::around(data, at))?;
    tables.read(each)
}

/// The tables, found.
struct Tables<'a> {
    tokens: Vec<&'a [u8]>,
    /// Where each symbol's token numbers are.
    names: Vec<&'a [u8]>,
    offsets: &'a [u8],
    base: u64,
}

impl<'a> Tables<'a> {
    /// The tables whose token index lies at `at`.
    fn around(data: &'a [u8], at: usize) -> Option<Self> {
        let (tokens, tokens_at) = tokens(data, at)?;
        let index_end = at.checked_add(TOKENS.checked_mul(2)?)?;
        let lowest = tokens_at
            .saturating_sub(NAMES_REACH)
            .next_multiple_of(ALIGN);
        (lowest..tokens_at)
            .rev()
            .filter(|at| at.is_multiple_of(ALIGN))
            .find_map(|names_at| {
                let names = names(data, names_at..tokens_at)?;
                let len = names.len().checked_mul(4)?;
                let padded = len.checked_next_multiple_of(ALIGN)?;
                // Base, then count, then names: 8 bytes each.
                let before = names_at
                    .checked_sub(16)
                    .zip(names_at.checked_sub(padded.checked_add(16)?));
                let after = (index_end.checked_add(padded)?, index_end);
                [before, Some(after)]
                    .into_iter()
                    .flatten()
                    .find_map(|(base_at, offsets_at)| {
                        let base = number::<8>(data, base_at)?;
                        let offsets = data.get(offsets_at..offsets_at.checked_add(len)?)?;
                        (base >= KERNEL_START).then(|| Self {
                            tokens: tokens.clone(),
                            names: names.clone(),
                            offsets,
                            base,
                        })
                    })
            })
    }

    fn read(&self, each: &mut dyn FnMut(u64, u8, &str)) -> Option<()> {
        let offset = |bytes: &[u8]| bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
        // CONFIG_KALLSYMS_ABSOLUTE_PERCPU: negative ones count down from base - 1, the others are
        // absolute. Without it none has its top bit set, as a kernel has less than 2 GiB.
        let percpu = self
            .offsets
            .chunks(4)
            .filter_map(offset)
            .any(|o| o.cast_signed() < 0);
        for (tokens, bytes) in self.names.iter().zip(self.offsets.chunks(4)) {
            let raw = offset(bytes)?;
            let address = match (percpu, raw.cast_signed()) {
                (false, _) => self.base.checked_add(u64::from(raw))?,
                (true, 0..) => u64::from(raw),
                (true, down) => self
                    .base
                    .checked_sub(1)?
                    .checked_add(u64::from(down.unsigned_abs()))?,
            };
            let text: Vec<u8> = tokens
                .iter()
                .filter_map(|&token| self.tokens.get(usize::from(token)))
                .flat_map(|token| token.iter().copied())
                .collect();
            if let Some((kind, name)) = text.split_first()
                && let Ok(name) = std::str::from_utf8(name)
            {
                each(address, *kind, name);
            }
        }
        Some(())
    }
}

/// The 256 strings before the token index at `at`, and where the first is.
fn tokens(data: &[u8], at: usize) -> Option<(Vec<&[u8]>, usize)> {
    let index = data.get(at..at.checked_add(TOKENS.checked_mul(2)?)?)?;
    let numbers = || index.chunks(2).filter_map(|pair| number::<2>(pair, 0));
    let mut from = 0;
    // Most places fail at the first numbers, before anything is collected.
    let rising = numbers().enumerate().all(|(i, start)| {
        let step = start.wrapping_sub(std::mem::replace(&mut from, start));
        if i == 0 {
            start == 0
        } else {
            (1..=LONGEST_TOKEN as u64).contains(&step)
        }
    });
    if !rising {
        return None;
    }
    let starts: Vec<usize> = numbers()
        .filter_map(|start| usize::try_from(start).ok())
        .collect();
    let last = *starts.last()?;
    // How long the last string is, is not in the index.
    (1..=LONGEST_TOKEN).find_map(|len| {
        let table = last.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
        let table_at = at.checked_sub(table)?;
        let ends = starts
            .iter()
            .skip(1)
            .copied()
            .chain([last.checked_add(len)?]);
        let strings: Option<Vec<&[u8]>> = starts
            .iter()
            .zip(ends)
            .map(|(&start, end)| {
                let bytes = data.get(table_at.checked_add(start)?..table_at.checked_add(end)?)?;
                let (nul, string) = bytes.split_last()?;
                (*nul == 0 && !string.contains(&0)).then_some(string)
            })
            .collect();
        let padding = data.get(table_at.checked_add(last)?.checked_add(len)?..at)?;
        let strings = strings.filter(|_| padding.iter().all(|byte| *byte == 0))?;
        Some((strings, table_at))
    })
}

/// The names that start at `area.start`, if a count before them and markers after them agree.
fn names(data: &[u8], area: Range<usize>) -> Option<Vec<&[u8]>> {
    // The count has 32 bits on 8 bytes, so zeros follow it.
    let count = usize::try_from(number::<8>(data, area.start.checked_sub(8)?)?).ok()?;
    if !(FEWEST_SYMBOLS..=MOST_SYMBOLS).contains(&count) {
        return None;
    }
    let mut names = Vec::new();
    let mut markers = Vec::new();
    let mut at = area.start;
    for index in 0..count {
        if index.is_multiple_of(MARKER_STEP) {
            markers.push(at.checked_sub(area.start)? as u64);
        }
        let low = usize::from(*data.get(at)?);
        let (len, start) = if low & 0x80 == 0 {
            (low, at.checked_add(1)?)
        } else {
            let high = usize::from(*data.get(at.checked_add(1)?)?);
            (low & 0x7f | high << 7, at.checked_add(2)?)
        };
        at = start.checked_add(len)?;
        if len == 0 || at > area.end {
            return None;
        }
        names.push(data.get(start..at)?);
    }
    let markers_at = at.checked_next_multiple_of(ALIGN)?;
    let agree = markers.iter().enumerate().all(|(i, marker)| {
        let at = i.checked_mul(4).and_then(|i| markers_at.checked_add(i));
        at.and_then(|at| number::<4>(data, at)) == Some(*marker)
    });
    agree.then_some(names)
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(data: &[u8], at: usize) -> Option<u64> {
    let bytes = data.get(at..at.checked_add(N)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_8100_0000;

    #[derive(Clone, Copy, PartialEq)]
    enum Order {
        /// Up to 6.3, with CONFIG_KALLSYMS_ABSOLUTE_PERCPU.
        Old,
        /// 6.2 and 6.3: a table of name order between markers and tokens.
        OldWithSeqs,
        /// From 6.4.
        New,
    }

    fn align(out: &mut Vec<u8>) {
        out.resize(out.len().next_multiple_of(ALIGN), 0);
    }

    /// What scripts/kallsyms.c writes, with two tokens longer than a character.
    fn encode(symbols: &[(u64, u8, String)], order: Order) -> Vec<u8> {
        let token = |i: u8| match i {
            0x80 => "sys_".to_owned(),
            0x81 => "_text".to_owned(),
            0x21..=0x7e => char::from(i).to_string(),
            _ => String::new(),
        };
        let mut names = Vec::new();
        let mut markers = Vec::new();
        for (i, (_, kind, name)) in symbols.iter().enumerate() {
            if i % MARKER_STEP == 0 {
                markers.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            }
            let text = format!("{}{name}", char::from(*kind));
            let text = text.replace("sys_", "\u{1}").replace("_text", "\u{2}");
            let coded: Vec<u8> = text
                .bytes()
                .map(|b| match b {
                    1 => 0x80,
                    2 => 0x81,
                    b => b,
                })
                .collect();
            match u8::try_from(coded.len()).unwrap() {
                short @ 0..0x80 => names.push(short),
                long => names.extend([long & 0x7f | 0x80, long >> 7]),
            }
            names.extend(coded);
        }
        let mut offsets = Vec::new();
        for (address, ..) in symbols {
            let offset = match order {
                Order::New => *address - BASE,
                _ if *address < KERNEL_START => *address,
                _ => (BASE - 1).wrapping_sub(*address),
            };
            offsets.extend(&offset.to_le_bytes()[..4]);
        }
        align(&mut offsets);
        offsets.extend(BASE.to_le_bytes());

        let mut out = b"\xcc".repeat(123);
        align(&mut out);
        if order != Order::New {
            out.extend(&offsets);
        }
        out.extend((symbols.len() as u64).to_le_bytes());
        for table in [names, markers] {
            out.extend(table);
            align(&mut out);
        }
        if order == Order::OldWithSeqs {
            out.extend(b"\x11\x22\x33".repeat(symbols.len()));
            align(&mut out);
        }
        let mut index = Vec::new();
        let start = out.len();
        for i in 0..=u8::MAX {
            index.extend(u16::try_from(out.len() - start).unwrap().to_le_bytes());
            out.extend(token(i).bytes().chain([0]));
        }
        align(&mut out);
        out.extend(index);
        if order == Order::New {
            out.extend(&offsets);
        }
        out.extend(b"\xcc".repeat(600));
        out
    }

    fn kernel(percpu: bool) -> Vec<(u64, u8, String)> {
        let mut symbols = Vec::new();
        if percpu {
            symbols.push((0x1000, b'A', "cpu_info".to_owned()));
        }
        symbols.push((BASE, b'T', "_text".to_owned()));
        for i in 1..700 {
            symbols.push((BASE + i * 0x40, b't', format!("sys_{i}")));
        }
        // Longer than one byte of length can say.
        symbols.push((BASE + 0x10_0000, b'D', "x".repeat(200)));
        symbols
    }

    fn decode(data: &[u8]) -> Option<Vec<(u64, u8, String)>> {
        let mut found = Vec::new();
        find(data, &mut |address, kind, name| {
            found.push((address, kind, name.to_owned()));
        })?;
        Some(found)
    }

    #[test]
    fn the_tables_of_every_order_give_every_symbol_back() {
        for order in [Order::Old, Order::OldWithSeqs, Order::New] {
            let symbols = kernel(order != Order::New);
            assert_eq!(decode(&encode(&symbols, order)).unwrap(), symbols);
        }
    }

    #[test]
    fn a_kernel_without_the_tables_has_none() {
        assert_eq!(decode(&[0; 100_000]), None);
        assert_eq!(
            decode(&(0..=u8::MAX).cycle().take(100_000).collect::<Vec<_>>()),
            None
        );
        assert_eq!(decode(b""), None);
    }

    proptest::proptest! {
        #[test]
        fn damaged_tables_never_panic(
            old in proptest::bool::ANY, damage in proptest::collection::vec((0_usize..20_000, 0_u8..), 1..8),
            cut in 0_usize..12_000,
        ) {
            let order = if old { Order::Old } else { Order::New };
            let mut data = encode(&kernel(old), order);
            for (at, value) in damage {
                let at = at % data.len();
                data[at] = value;
            }
            data.truncate(data.len().saturating_sub(cut));
            let _ = decode(&data);
        }
    }
}
