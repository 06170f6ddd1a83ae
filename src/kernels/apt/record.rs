//! What apt knows about a package, and which packages make up a kernel.

/// The fields of a package's stanza that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) package: String,
    pub(crate) version: String,
    /// First alternative of each dependency.
    pub(crate) depends: Vec<String>,
}

/// The stanzas of `apt-cache show`.
pub(super) fn parse(text: &str) -> Vec<Record> {
    let stanza = |text: &str| {
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
            line.map(str::to_owned)
        };
        let depends = [field("Pre-Depends"), field("Depends")];
        Some(Record {
            package: field("Package")?,
            version: field("Version")?,
            depends: depends
                .into_iter()
                .flatten()
                .flat_map(|list| names(&list))
                .collect(),
        })
    };
    text.split("\n\n").filter_map(stanza).collect()
}

/// `a (= 1), b | c` gives a and b.
fn names(list: &str) -> Vec<String> {
    list.split(',')
        .filter_map(|one| one.split('|').next()?.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_give_name_version_and_first_alternatives() {
        let text = "Package: linux-headers-6.1.0-56-amd64\nVersion: 6.1.192-2\nDescription: x\n more\n\
                    Depends: linux-headers-6.1.0-56-common (= 6.1.192-2), linux-image-a | linux-image-b, gcc:any\n\
                    \nPackage: next\nVersion: 1\n\n";
        let records = parse(text);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].version, "6.1.192-2");
        assert_eq!(
            records[0].depends,
            ["linux-headers-6.1.0-56-common", "linux-image-a", "gcc"]
        );
        assert!(records[1].depends.is_empty());
        assert_eq!(parse(""), []);
    }
}
