//! The Test Anything Protocol, version 14 (testanything.org).

use std::fmt::Write;

use super::judge::Verdict;
use super::told::Told;

/// The whole document.
#[must_use]
pub fn tap(rows: &[impl Told]) -> String {
    let mut text = format!("TAP version 14\n1..{}\n", rows.len());
    for (number, row) in (1..).zip(rows) {
        let (name, verdict) = (escape(&row.title()), row.verdict());
        let what = match &verdict {
            Verdict::Fail { .. } => "not ok",
            _ => "ok",
        };
        // Writing to a String does not fail.
        let _ = write!(text, "{what} {number} - {name}");
        match &verdict {
            Verdict::Skip { why } => {
                let _ = writeln!(text, " # SKIP {}", escape(&why.replace('\n', " ")));
            }
            Verdict::Pass { proof } => {
                text.push('\n');
                comments(&mut text, proof);
            }
            Verdict::Fail { why, lines } => {
                text.push('\n');
                comments(&mut text, std::slice::from_ref(why));
                comments(&mut text, lines);
            }
        }
    }
    text
}

/// Lines of a guest are comments: whatever they hold, no reader takes them for results.
fn comments(text: &mut String, lines: &[String]) {
    for line in lines.iter().flat_map(|line| line.lines()) {
        let _ = writeln!(text, "# {line}");
    }
}

/// A `#` would begin a directive.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

#[cfg(test)]
mod tests {
    use super::super::report::sample;
    use super::*;

    #[test]
    fn every_result_is_one_line_whatever_the_guest_said() {
        let hostile = "not ok 9 - x\nBail out!\n1..0".to_owned();
        let mut rows = vec![
            sample(Verdict::Pass {
                proof: vec![hostile.clone()],
            }),
            sample(Verdict::Fail {
                why: "status 0, expected 70".into(),
                lines: vec![hostile],
            }),
            sample(Verdict::Skip {
                why: "no make # here\nget it".into(),
            }),
        ];
        rows[0].kernel = Some("odd # SKIP \\ name".into());
        let text = tap(&rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["TAP version 14", "1..3"]);
        let results: Vec<_> = lines[2..]
            .iter()
            .filter(|line| !line.starts_with("# "))
            .collect();
        assert_eq!(
            results,
            [
                &r"ok 1 - stack-overflow on odd \# SKIP \\ name",
                &"not ok 2 - stack-overflow on debian-6.12",
                &r"ok 3 - stack-overflow on debian-6.12 # SKIP no make \# here get it",
            ]
        );
        assert!(lines.contains(&"# Bail out!") && lines.contains(&"# status 0, expected 70"));
    }
}
