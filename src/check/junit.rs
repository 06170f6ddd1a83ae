//! JUnit's XML, as CI systems read it.

use std::fmt::Write;

use super::judge::Verdict;
use super::told::Told;

/// The whole document.
#[must_use]
pub fn junit(suite: &str, rows: &[impl Told]) -> String {
    let verdicts: Vec<Verdict> = rows.iter().map(Told::verdict).collect();
    let count = |of: fn(&&Verdict) -> bool| verdicts.iter().filter(of).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Fail { .. }));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skip { .. }));
    let tests = verdicts.len();
    let seconds: f64 = rows.iter().map(|row| row.took().as_secs_f64()).sum();
    let suite = escape(suite);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{suite}\" \
         tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n"
    );
    for (row, verdict) in rows.iter().zip(&verdicts) {
        let _ = write!(
            text,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">",
            escape(row.class()),
            escape(row.name()),
            row.took().as_secs_f64()
        );
        let _ = match verdict {
            Verdict::Pass { proof } => {
                write!(
                    text,
                    "<system-out>{}</system-out>",
                    escape(&proof.join("\n"))
                )
            }
            Verdict::Skip { why } => write!(text, "<skipped message=\"{}\"/>", escape(why)),
            Verdict::Fail { why, lines } => {
                let (why, lines) = (escape(why), escape(&lines.join("\n")));
                write!(text, "<failure message=\"{why}\">{lines}</failure>")
            }
        };
        text.push_str("</testcase>\n");
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

/// Characters that XML 1.0 cannot hold in any way (2.2) are replaced, markup is escaped, and so is what an
/// attribute's reader would change.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    /// Tags in order, and the text between them: enough of XML to see what a reader would see.
    fn tags(xml: &str) -> Vec<&str> {
        let pieces = xml.split('<').skip(1);
        pieces
            .filter_map(|piece| piece.split_once('>').map(|(tag, _)| tag))
            .collect()
    }

    #[test]
    fn what_a_guest_says_is_no_markup() {
        let hostile = "</failure>]]>&\"'<testcase name=\"x\"/>\u{1b}[2J\u{0}\u{ffff}\n";
        let rows = [
            sample(Verdict::Fail {
                why: hostile.into(),
                lines: vec![hostile.into()],
            }),
            sample(Verdict::Pass {
                proof: vec![hostile.into()],
            }),
            sample(Verdict::Skip {
                why: hostile.into(),
            }),
        ];
        let text = junit("trapline test", &rows);
        let names: Vec<_> = tags(&text)
            .into_iter()
            .map(|tag| tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap())
            .collect();
        let case = |inner: &[&'static str]| [&["testcase"][..], inner, &["testcase"]].concat();
        let expected = [
            &["?xml", "testsuites", "testsuite"][..],
            &case(&["failure", "failure"]),
            &case(&["system-out", "system-out"]),
            &case(&["skipped"]),
            &["testsuite", "testsuites"],
        ]
        .concat();
        assert_eq!(names, expected);
        assert!(
            text.chars()
                .all(|c| c == '\n' || (' '..'\u{fffe}').contains(&c))
        );
        assert!(text.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\""));
        assert!(text.contains("classname=\"debian-6.12\" name=\"stack-overflow\" time=\"9.440\""));
    }

    #[test]
    fn line_ends_survive_in_attributes() {
        assert_eq!(escape("a\n\tb\u{7}"), "a&#10;&#9;b\u{fffd}");
    }
}
