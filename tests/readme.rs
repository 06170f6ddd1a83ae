//! The README against the code: its table of flags, its table of statuses, its examples, and the two
//! lines that start everything.
//!
//! `TRAPLINE_BLESS=1 cargo test --test readme` writes the table of flags anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::{Arg, ArgAction, Command};

use trapline::cli::Status;
use trapline::machine::{End, Hang, Hex, OnOops, OnReboot, Outcome};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const RUNNER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run");
const LAYOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/machine/layout.rs");
const BEGIN: &str = "<!-- flags: written by TRAPLINE_BLESS=1 cargo test --test readme -->\n";
const END: &str = "<!-- end of flags -->\n";

fn readme() -> String {
    fs::read_to_string(README).unwrap()
}

/// `-c, --cpus N`, as `--help` spells it; for a positional argument its name.
fn spelling(arg: &Arg) -> String {
    let mut text = String::new();
    if let Some(short) = arg.get_short() {
        let _ = write!(text, "-{short}");
    }
    if let Some(long) = arg.get_long() {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}--{long}");
    }
    let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    if takes_value || text.is_empty() {
        let names = arg.get_value_names().unwrap_or_default();
        for name in names {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{name}");
        }
    }
    if matches!(arg.get_action(), ArgAction::Append | ArgAction::Count) {
        text.push_str("...");
    }
    text
}

fn rows(name: &str, command: &Command, globals: bool, table: &mut String) {
    for arg in command.get_arguments() {
        let own = !matches!(arg.get_id().as_str(), "help" | "version");
        if arg.is_hide_set() || !own || arg.is_global_set() != globals {
            continue;
        }
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let takes_value = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let list = |intro: &str, values: Vec<String>, end: &str| {
            if takes_value && !values.is_empty() {
                format!("{intro}{}{end}", values.join(", "))
            } else {
                String::new()
            }
        };
        let values = arg.get_possible_values();
        let values = values.iter().filter(|value| !value.is_hide_set());
        let values = list(
            ": ",
            values.map(|v| format!("`{}`", v.get_name())).collect(),
            "",
        );
        let defaults = arg.get_default_values().iter();
        let defaults = list(
            " [default: ",
            defaults.map(|v| v.to_string_lossy().into()).collect(),
            "]",
        );
        let cells = format!("`{}` | {help}{values}{defaults}", spelling(arg));
        // Everything but the bar between the cells.
        let cells = cells.replace('|', "\\|").replacen("` \\| ", "` | ", 1);
        let _ = writeln!(table, "| `{name}` | {cells} |");
    }
    for sub in command.get_subcommands() {
        if sub.get_name() != "help" && !globals {
            rows(&format!("{name} {}", sub.get_name()), sub, false, table);
        }
    }
}

fn table_of_flags() -> String {
    let mut all = trapline::cli::command();
    all.build();
    let mut table = String::from("| command | flag | what it does |\n|---|---|---|\n");
    let mut globals = String::new();
    rows("any", &all, true, &mut globals);
    table.push_str(&globals);
    rows("trapline", &all, false, &mut table);
    table
        .replace("| `trapline ", "| `")
        .replace("| `any` |", "| any |")
}

#[test]
fn the_table_of_flags_is_the_command_lines() {
    let readme = readme();
    let (before, rest) = readme.split_once(BEGIN).expect("the table's first mark");
    let (table, after) = rest.split_once(END).expect("the table's last mark");
    let expected = table_of_flags();
    if std::env::var_os("TRAPLINE_BLESS").is_some() {
        fs::write(README, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (here, there) = (lines(table), lines(&expected));
    let missing: Vec<_> = there.difference(&here).collect();
    let stale: Vec<_> = here.difference(&there).collect();
    assert!(
        table == expected,
        "README.md and the command line differ; TRAPLINE_BLESS=1 cargo test --test readme mends it\n\
         missing: {missing:#?}\nstale: {stale:#?}"
    );
}

/// Every status that the code can end with.
fn statuses() -> BTreeSet<u8> {
    let ends = [
        End::PoweredOff,
        End::Panicked {
            line: String::new(),
        },
        End::Oopsed {
            line: String::new(),
        },
        End::TripleFault { vcpu: 0 },
        End::TimedOut {
            after: Duration::ZERO,
        },
        End::Hung {
            hang: Hang::default(),
        },
        End::InternalError {
            suberror: 1,
            data: Vec::new(),
        },
        End::FailedEntry {
            reason: Hex(0),
            cpu: 0,
        },
        End::Vmm {
            error: String::new(),
        },
        End::Policy {
            rule: String::new(),
        },
        End::Ctl,
        End::Signal { number: 2 },
        End::Signal { number: 15 },
    ];
    let of_end = |end: End| {
        let mut outcome = Outcome::new(OnOops::Stop, OnReboot::Exit);
        outcome.note(end);
        outcome.status()
    };
    let own = [
        Status::Ok,
        Status::Usage,
        Status::Host,
        Status::Internal,
        Status::Findings,
    ];
    ends.into_iter()
        .map(of_end)
        .chain(own.map(|status| status as u8))
        .collect()
}

#[test]
fn the_table_of_statuses_is_the_codes() {
    let readme = readme();
    let section = readme
        .split("\n## ")
        .find(|s| s.starts_with("Exit status"))
        .expect("a section");
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let mut listed = BTreeSet::new();
    for cell in cells {
        match cell.split_once('-') {
            // What a guest reports passes through.
            Some(("1", "63")) => {}
            _ => listed.extend(cell.parse::<u8>()),
        }
    }
    assert_eq!(listed, statuses());
}

/// The words of a shell line up to a pipe, redirection or list operator.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | '<' | ';' | '&' | '#') => break,
            (None, ' ') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn every_example_is_a_command_line_that_parses() {
    let readme = readme();
    let mut count = 0;
    for line in readme.lines().filter(|line| line.starts_with("$ ")) {
        let Some(at) = line.find("trapline ") else {
            continue;
        };
        let words = words(&line[at..]);
        if let Err(error) = trapline::cli::command().try_get_matches_from(&words) {
            assert!(!error.use_stderr(), "{line}\n{error}");
        }
        count += 1;
    }
    assert!(count >= 5, "only {count} examples found");
}

#[test]
fn examples_are_split_as_a_shell_would() {
    assert_eq!(
        words("trapline boot --exec 'uname -a; id' -- \"a b\" c | head"),
        [
            "trapline",
            "boot",
            "--exec",
            "uname -a; id",
            "--",
            "a b",
            "c"
        ]
    );
}

#[test]
fn the_runner_runs_the_readmes_test_command() {
    let readme = readme();
    let starts: Vec<_> = readme
        .lines()
        .filter(|line| line.starts_with("resources/setup.sh --yes && "))
        .collect();
    let [boot, test] = starts[..] else {
        panic!("two lines that start everything, not {starts:?}")
    };
    assert!(boot.ends_with("boot"), "{boot}");
    assert!(test.ends_with("&& cargo test"), "{test}");
    let runner = fs::read_to_string(RUNNER).unwrap();
    assert!(runner.contains("\nresources/setup.sh --yes\n"));
    let tests = runner.lines().find(|line| line.starts_with("cargo test "));
    let quiet = ["--locked", "--no-fail-fast", "2>&1"];
    let extra: Vec<_> = tests
        .expect("the runner's tests")
        .split(" | ")
        .next()
        .into_iter()
        .flat_map(|command| command.split(' ').skip(2))
        .filter(|word| !quiet.contains(word))
        .collect();
    assert!(extra.is_empty(), "the runner leaves tests out: {extra:?}");
}

/// Every file below `src/` that says NOT MODELLED, as `room/file`.
fn deviating(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            deviating(&path, found);
        } else if fs::read_to_string(&path).unwrap().contains("NOT MODELLED") {
            let name = path.with_extension("");
            let name = name.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
            found.insert(name.unwrap().to_str().unwrap().to_owned());
        }
    }
}

#[test]
fn every_deviation_noted_in_the_source_is_listed() {
    let mut noted = BTreeSet::new();
    deviating(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut noted,
    );
    let readme = readme();
    let section = readme
        .split("\n### ")
        .find(|s| s.starts_with("Not modelled"));
    let section = section
        .and_then(|s| s.split("\n## ").next())
        .expect("a section");
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(listed, noted);
}

#[test]
fn the_board_map_is_that_of_the_layout() {
    let layout = fs::read_to_string(LAYOUT).unwrap();
    let rows: Vec<String> = layout
        .lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .map(|row| match (row.find(" ([`"), row.find("`])")) {
            // A link into the source means nothing here.
            (Some(from), Some(to)) => format!("|{}{}", &row[..from], &row[to + 3..]),
            _ => format!("|{row}"),
        })
        .collect();
    assert!(rows.len() > 20, "the layout has its two tables");
    let readme = readme();
    let here: BTreeSet<&str> = readme.lines().collect();
    let missing: Vec<_> = rows
        .iter()
        .filter(|row| !here.contains(row.as_str()))
        .collect();
    assert!(missing.is_empty(), "missing in README.md: {missing:#?}");
}
