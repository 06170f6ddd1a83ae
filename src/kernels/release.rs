//! Kernel releases (`uname -r`) and package versions in order.

use std::cmp::Ordering;

/// Orders releases and package versions as people read them: runs of digits as numbers, a `~` before
/// the end of the text (Debian policy 5.6.12).
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let text = |s: &[u8]| s.iter().position(u8::is_ascii_digit).unwrap_or(s.len());
        let ((at, ar), (bt, br)) = (a.split_at(text(a)), b.split_at(text(b)));
        let order = compare_text(at, bt);
        if order != Ordering::Equal {
            return order;
        }
        if ar.is_empty() || br.is_empty() {
            return ar.len().cmp(&br.len());
        }
        let digits = |s: &[u8]| {
            s.iter()
                .position(|c| !c.is_ascii_digit())
                .unwrap_or(s.len())
        };
        let ((an, ar), (bn, br)) = (ar.split_at(digits(ar)), br.split_at(digits(br)));
        let order = compare_number(an, bn);
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (ar, br);
    }
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |text: &[u8], at: usize| match text.get(at) {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    (0..a.len().max(b.len()))
        .map(|at| weight(a, at).cmp(&weight(b, at)))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

fn compare_number(a: &[u8], b: &[u8]) -> Ordering {
    let trim = |n: &[u8]| n.iter().position(|c| *c != b'0').unwrap_or(n.len());
    let (a, b) = (a.split_at(trim(a)).1, b.split_at(trim(b)).1);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_order_as_numbers_not_as_text() {
        let sorted = [
            "5.10.0-9",
            "6.1.0-9-amd64",
            "6.1.0-56-amd64",
            "6.12~rc1",
            "6.12",
            "6.12.9",
            "6.12.117",
            "6.12.117+deb12-amd64",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            assert_eq!(compare(pair[0], pair[0]), Ordering::Equal);
        }
    }
}
