//! `unittests.cfg`, the table of tests of kvm-unit-tests.

/// One test of the table, as it is written there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The guest, beside the table.
    pub file: String,
    /// vCPUs: a number, or `$MAX_SMP`.
    pub smp: Option<String>,
    /// Parameters of QEMU, `-append` with the words for the guest among them.
    pub parameters: String,
    /// Words for the guest that newer tables keep apart.
    pub arguments: Option<String>,
    /// `i386` or `x86_64`, when it is for one.
    pub arch: Option<String>,
    /// `kvm` or `tcg`, when it is for one.
    pub accel: Option<String>,
    /// Groups it is in.
    pub groups: Vec<String>,
    /// Its time limit, as timeout(1) takes it.
    pub timeout: Option<String>,
    /// What files of the host must hold, PATH=VALUE.
    pub checks: Vec<String>,
}

impl Entry {
    /// A guest that no table speaks of.
    #[must_use]
    pub fn of_file(file: &str) -> Self {
        let name = file.rsplit('/').next().unwrap_or(file);
        Self {
            name: name.strip_suffix(".flat").unwrap_or(name).to_owned(),
            file: file.to_owned(),
            ..Self::default()
        }
    }
}

/// A table that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Neither a name in brackets, nor a key and a value, nor a comment.
    #[error("line {line}: {text:?} is neither [NAME] nor KEY = VALUE")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A key before the first name.
    #[error("line {line}: {key} belongs to no test; a [NAME] has to come first")]
    Nameless {
        /// Which, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A name that is there already.
    #[error("line {line}: there is a test [{name}] already")]
    Twice {
        /// Which, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A test without a guest.
    #[error("the test [{name}] has no file")]
    NoFile {
        /// Which.
        name: String,
    },
    /// A value over several lines that does not end.
    #[error("line {line}: the value of {key} begins with \"\"\" and does not end")]
    Open {
        /// Where it begins, from 1.
        line: usize,
        /// Its key.
        key: String,
    },
}

/// Reads a table.
///
/// # Errors
/// [`ConfigError`]. Keys that this does not know are other architectures' and left alone.
pub fn parse(text: &str) -> Result<Vec<Entry>, ConfigError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((line, said)) = lines.next() {
        let said = said.trim();
        if said.is_empty() || said.starts_with('#') {
            continue;
        }
        if let Some(name) = said.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
            let name = name.trim().to_owned();
            if entries.iter().any(|entry| entry.name == name) {
                return Err(ConfigError::Twice { line, name });
            }
            entries.push(Entry {
                name,
                ..Entry::default()
            });
            continue;
        }
        let Some((key, value)) = said.split_once('=') else {
            let text = said.to_owned();
            return Err(ConfigError::Line { line, text });
        };
        let (key, mut value) = (key.trim(), value.trim().to_owned());
        let Some(entry) = entries.last_mut() else {
            let key = key.to_owned();
            return Err(ConfigError::Nameless { line, key });
        };
        if let Some(first) = value.strip_prefix("\"\"\"") {
            let mut whole = first.to_owned();
            while !whole.contains("\"\"\"") {
                let Some((_, more)) = lines.next() else {
                    let key = key.to_owned();
                    return Err(ConfigError::Open { line, key });
                };
                whole.push('\n');
                whole.push_str(more);
            }
            value = whole.split("\"\"\"").next().unwrap_or_default().to_owned();
        }
        set(entry, key, value);
    }
    match entries.iter().find(|entry| entry.file.is_empty()) {
        Some(entry) => Err(ConfigError::NoFile {
            name: entry.name.clone(),
        }),
        None => Ok(entries),
    }
}

fn set(entry: &mut Entry, key: &str, value: String) {
    let words = |value: &str| {
        value
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match key {
        "file" => entry.file = value,
        "smp" => entry.smp = Some(value),
        // Older and newer name of the same.
        "extra_params" | "qemu_params" => entry.parameters = value,
        "test_args" => entry.arguments = Some(value),
        "arch" => entry.arch = Some(value),
        "accel" => entry.accel = Some(value),
        "groups" => entry.groups = words(&value),
        "timeout" => entry.timeout = Some(value),
        "check" => entry.checks.extend(words(&value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_a_name_with_keys() {
        let text = "# comment\n\n[one]\nfile = a.flat\nsmp=2\nextra_params = -append 'x = y' -m 4g\n\
                    groups = vmexit slow\ncheck = /a=1 /b=2\ncheck = /c=3\ntimeout = 30\n#[two]\n\
                    [three]\nfile = b.flat\nqemu_params = \"\"\"-cpu max\n  -m 64\"\"\"\n\
                    test_args = 'z'\narch = i386\naccel = tcg\nmachine = x\n";
        let entries = parse(text).unwrap();
        assert_eq!(entries.len(), 2);
        let one = &entries[0];
        assert_eq!((one.name.as_str(), one.file.as_str()), ("one", "a.flat"));
        assert_eq!(one.smp.as_deref(), Some("2"));
        assert_eq!(one.parameters, "-append 'x = y' -m 4g");
        assert_eq!(one.groups, ["vmexit", "slow"]);
        assert_eq!(one.checks, ["/a=1", "/b=2", "/c=3"]);
        assert_eq!(one.timeout.as_deref(), Some("30"));
        let three = &entries[1];
        assert_eq!(three.parameters, "-cpu max\n  -m 64");
        assert_eq!(three.arguments.as_deref(), Some("'z'"));
        assert_eq!(
            (three.arch.as_deref(), three.accel.as_deref()),
            (Some("i386"), Some("tcg"))
        );
    }

    #[test]
    fn a_broken_table_is_told_with_its_line() {
        for (text, says) in [
            ("[a]\nfile = x\nwhat\n", "line 3: \"what\" is neither"),
            ("file = x\n", "line 1: file belongs to no test"),
            (
                "[a]\nfile = x\n[a]\n",
                "line 3: there is a test [a] already",
            ),
            ("[a]\nsmp = 1\n", "[a] has no file"),
            (
                "[a]\nextra_params = \"\"\"-m 1\n\n",
                "line 2: the value of extra_params",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[[a-c]\\]|[a-z]* ?= ?(\"\"\")?[ -~]{0,9}|.{0,9})(\n.{0,9}){0,6}") {
            let _ = parse(&text);
        }
    }
}
