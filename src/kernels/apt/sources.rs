//! Package sources: the two formats of sources.list(5), and which entries a suite is read from.

use std::fmt;

use super::error::AptError;

/// One entry: archives, suites, components, and options such as `Signed-By`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) uris: Vec<String>,
    pub(super) suites: Vec<String>,
    pub(super) components: Vec<String>,
    /// Key and value; a value may have lines of its own (a key in place).
    pub(super) options: Vec<(String, String)>,
}

/// The options that are kept: who may sign, and how the archive is reached. `Trusted` is not: an
/// unsigned archive is no source for a kernel.
const KEPT: [&str; 4] = ["Signed-By", "Check-Valid-Until", "Check-Date", "By-Hash"];

impl fmt::Display for Source {
    /// As a deb822 stanza.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Types: deb")?;
        writeln!(f, "URIs: {}", self.uris.join(" "))?;
        writeln!(f, "Suites: {}", self.suites.join(" "))?;
        writeln!(f, "Components: {}", self.components.join(" "))?;
        for (key, value) in &self.options {
            writeln!(f, "{key}: {value}")?;
        }
        Ok(())
    }
}

/// `deb [option=value ...] URI SUITE COMPONENT...`, one a line.
pub(super) fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    rest = rest
        .starts_with(char::is_whitespace)
        .then(|| rest.trim_start())?;
    let mut options = Vec::new();
    if let Some(bracket) = rest.strip_prefix('[') {
        let (inside, after) = bracket.split_once(']')?;
        rest = after;
        for (key, value) in inside.split_whitespace().filter_map(|o| o.split_once('=')) {
            keep(&mut options, key, value.replace(',', " "));
        }
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        options,
    })
}

fn keep(options: &mut Vec<(String, String)>, key: &str, value: String) {
    if let Some(name) = KEPT.iter().find(|kept| kept.eq_ignore_ascii_case(key)) {
        options.push(((*name).to_owned(), value));
    }
}

/// Stanzas of `Key: value`, with continuation lines that begin with a space.
pub(super) fn parse_deb822(text: &str) -> Vec<Source> {
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines
        .split(|line| line.trim().is_empty())
        .filter_map(parse_stanza)
        .collect()
}

fn parse_stanza(lines: &[&str]) -> Option<Source> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push('\n');
            value.push_str(line);
        } else {
            let (key, value) = line.split_once(':')?;
            fields.push((key.to_owned(), value.trim().to_owned()));
        }
    }
    let value = |name: &str| {
        fields
            .iter()
            .find(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|f| &f.1)
    };
    let words = |name: &str| -> Vec<String> {
        value(name)
            .map(|v| v.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    if !words("Types").iter().any(|t| t == "deb") || value("Enabled").is_some_and(|v| is_no(v)) {
        return None;
    }
    let mut options = Vec::new();
    for (key, value) in &fields {
        keep(&mut options, key, value.clone());
    }
    Some(Source {
        uris: words("URIs"),
        suites: words("Suites"),
        components: words("Components"),
        options,
    })
}

fn is_no(value: &str) -> bool {
    ["no", "false", "off", "without", "disable", "0"].contains(&value.to_ascii_lowercase().as_str())
}

/// Suites of one release beside the release itself.
const POCKETS: [&str; 4] = ["", "-updates", "-security", "-backports"];
/// Names by which Debian's releases go as well.
const ALIASES: [&str; 6] = [
    "stable",
    "oldstable",
    "testing",
    "unstable",
    "sid",
    "experimental",
];

/// The entries to read for `suite` (or for the machine's release), and the name that goes by.
///
/// Other archives of the machine are left out: they hold no kernels of the distribution's, and one
/// that cannot be reached would stop the rest.
pub(super) fn choose(
    machine: &[Source],
    codename: &str,
    suite: Option<&str>,
) -> Result<(String, Vec<Source>), AptError> {
    let main = |entry: &&Source| entry.components.iter().any(|c| c == "main") && !is_disc(entry);
    let archives: Vec<&Source> = machine.iter().filter(main).collect();
    // "stable main" is also how browsers and tools call their one suite: the aliases count only
    // where no entry says the code name.
    let any = |names: &[&str]| {
        archives
            .iter()
            .any(|e| e.suites.iter().any(|s| is_of(s, names)))
    };
    let names = if any(&[codename]) {
        vec![codename]
    } else {
        ALIASES.to_vec()
    };
    let own = archives
        .iter()
        .filter(|e| e.suites.iter().any(|s| is_of(s, &names)));
    let own: Vec<&Source> = own.copied().collect();
    let pocket = |which: &str| {
        let named = |s: &String| names.iter().any(|name| s.strip_prefix(name) == Some(which));
        own.iter().copied().find(|e| e.suites.iter().any(named))
    };
    let none = || AptError::NoSource {
        codename: codename.into(),
    };
    let archive = pocket("").ok_or_else(none)?;
    let with = |entry: &Source, suites: Vec<String>| Source {
        suites,
        components: vec!["main".into()],
        ..entry.clone()
    };
    let Some(wanted) = suite.filter(|s| *s != codename) else {
        let ours = |e: &&Source| {
            let of = e.suites.iter().filter(|s| is_of(s, &names));
            with(e, of.cloned().collect())
        };
        return Ok((codename.into(), own.iter().map(ours).collect()));
    };
    if !is_suite(wanted) {
        return Err(AptError::BadSuite {
            suite: wanted.into(),
        });
    }
    // Debian keeps security in an archive of its own; Ubuntu and plain mirrors beside the rest.
    let security = pocket("-security").unwrap_or(archive);
    let mut chosen = Vec::new();
    if wanted.ends_with("-security") {
        chosen.push(with(security, vec![wanted.into()]));
    } else if wanted.contains('-') || ALIASES.contains(&wanted) {
        chosen.push(with(archive, vec![wanted.into()]));
    } else {
        chosen.push(with(
            archive,
            vec![wanted.into(), format!("{wanted}-updates")],
        ));
        chosen.push(with(security, vec![format!("{wanted}-security")]));
    }
    Ok((wanted.into(), chosen))
}

/// Whether a suite is one of these releases or a pocket of one.
fn is_of(suite: &str, names: &[&str]) -> bool {
    let pocket = |name: &&str| suite.strip_prefix(*name);
    names
        .iter()
        .filter_map(pocket)
        .any(|pocket| POCKETS.contains(&pocket))
}

fn is_disc(entry: &Source) -> bool {
    entry.uris.iter().any(|uri| uri.starts_with("cdrom:"))
}

/// What goes into a stanza and a directory name must be one plain word.
fn is_suite(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "Types: deb deb-src\n# a comment\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\n\
        Components: main contrib\nSigned-By: /k.gpg\nTrusted: yes\n\nTypes: deb\nURIs: http://m/debian-security\n\
        Suites: bookworm-security\nComponents: main\nSigned-By:\n -----BEGIN-----\n .\n abc\n\n\
        Types: deb\nURIs: http://other/apt\nSuites: bookworm-pgdg\nComponents: main\n\n\
        Types: deb\nEnabled: no\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\n";

    fn suites(of: &[Source]) -> Vec<(String, String)> {
        of.iter()
            .map(|s| (s.uris.join(" "), s.suites.join(" ")))
            .collect()
    }

    fn pair(uri: &str, suites: &str) -> (String, String) {
        (uri.into(), suites.into())
    }

    #[test]
    fn the_machines_release_is_read_from_its_own_archives_alone() {
        let (name, chosen) = choose(&parse_deb822(DEBIAN), "bookworm", None).unwrap();
        assert_eq!(name, "bookworm");
        assert_eq!(
            suites(&chosen),
            [
                pair("http://m/debian", "bookworm bookworm-updates"),
                pair("http://m/debian-security", "bookworm-security"),
            ]
        );
    }

    #[test]
    fn another_suite_is_derived_from_the_same_mirror_and_key() {
        let machine = parse_deb822(DEBIAN);
        let of = |suite| suites(&choose(&machine, "bookworm", Some(suite)).unwrap().1);
        assert_eq!(
            of("bookworm-backports"),
            [pair("http://m/debian", "bookworm-backports")]
        );
        assert_eq!(of("sid"), [pair("http://m/debian", "sid")]);
        assert_eq!(
            of("trixie-security"),
            [pair("http://m/debian-security", "trixie-security")]
        );
        assert_eq!(
            of("trixie"),
            [
                pair("http://m/debian", "trixie trixie-updates"),
                pair("http://m/debian-security", "trixie-security"),
            ]
        );
        let text = choose(&machine, "bookworm", Some("sid")).unwrap().1[0].to_string();
        assert!(text.contains("\nSigned-By: /k.gpg\n"), "{text}");
    }

    #[test]
    fn trust_without_a_signature_is_not_taken_over_and_a_key_in_place_is() {
        let sources = parse_deb822(DEBIAN);
        assert!(!sources[0].to_string().contains("Trusted"));
        assert!(
            sources[1]
                .to_string()
                .ends_with("Signed-By: \n -----BEGIN-----\n .\n abc\n")
        );
    }

    #[test]
    fn the_one_line_format_means_the_same() {
        let text = "# x\ndeb [arch=amd64 signed-by=/k.gpg trusted=yes] http://m/ubuntu noble main universe # y\n\
                    deb-src http://m/ubuntu noble main\ndeb cdrom:[disc]/ noble main\n\
                    deb http://m/ubuntu noble-security main\n";
        let machine = parse_list(text);
        let (_, chosen) = choose(&machine, "noble", None).unwrap();
        assert_eq!(
            suites(&chosen),
            [
                pair("http://m/ubuntu", "noble"),
                pair("http://m/ubuntu", "noble-security")
            ]
        );
        assert_eq!(chosen[0].options, [("Signed-By".into(), "/k.gpg".into())]);
        assert_eq!(chosen[0].components, ["main"]);
    }

    #[test]
    fn a_machine_without_an_archive_and_a_suite_that_is_none_are_refused() {
        let third = parse_list("deb http://x/ bookworm-pgdg main\n");
        assert!(matches!(
            choose(&third, "bookworm", None),
            Err(AptError::NoSource { .. })
        ));
        let browser = parse_list("deb http://b/ stable main\ndeb http://m/debian bookworm main\n");
        let (_, chosen) = choose(&browser, "bookworm", None).unwrap();
        assert_eq!(suites(&chosen), [pair("http://m/debian", "bookworm")]);
        let (_, chosen) = choose(&browser[..1], "bookworm", None).unwrap();
        assert_eq!(suites(&chosen), [pair("http://b/", "stable")]);
        let machine = parse_deb822(DEBIAN);
        for bad in ["../x", "a b", "", "-x", "a\nTrusted: yes"] {
            let got = choose(&machine, "bookworm", Some(bad));
            assert!(matches!(got, Err(AptError::BadSuite { .. })), "{bad:?}");
        }
    }
}
