//! Parameters of a test as its shell would split them.

use std::time::{SystemTime, UNIX_EPOCH};

/// The one command that kvm-unit-tests' parameters run.
const NOW: &str = "date +%s";

/// Splits a line into words, with quotes and backslashes taken as sh(1) takes them.
///
/// # Errors
/// What would need a shell.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let line = with_time(line)?;
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("its parameters have an open {open}")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// Puts the time where its command is.
fn with_time(line: &str) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs()).to_string();
    let line = line
        .replace(&format!("`{NOW}`"), &now)
        .replace(&format!("$({NOW})"), &now);
    // In single quotes a shell would leave them alone; no test has them there.
    match line.contains(['`', '$']) {
        true => Err(format!("its parameters need a shell: {line}")),
        false => Ok(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  -m 2048\t-cpu max ", &["-m", "2048", "-cpu", "max"]),
            ("-append 'a  b' c", &["-append", "a  b", "c"]),
            (r#"-append "say \"x\" '" "#, &["-append", "say \"x\" '"]),
            (r"a\ b 'c\d'", &["a b", r"c\d"]),
            ("'' x''y", &["", "xy"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn the_time_is_the_only_command() {
        let words = split("--append \"10000000 `date +%s`\"").unwrap();
        let time = words[1].strip_prefix("10000000 ").unwrap();
        assert!(time.parse::<u64>().unwrap() > 1_600_000_000, "{words:?}");
        for line in ["$(nproc)", "`reboot`", "$MAX", "'open", "\"open\\\""] {
            assert!(split(line).is_err(), "{line}");
        }
    }
}
