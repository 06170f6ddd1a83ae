//! The house rules that no compiler checks: which room may import which, where `unsafe` may stand,
//! how long a file may be, and what lies at the top of the repository.
//!
//! Every rule is a pure function over (name, text) pairs, run once on this repository and once on
//! made-up text that breaks it.

#[path = "layering/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tokens::{paths, tokens};

/// Design section 2, innermost first. A room imports only from rows before its own.
const ORDER: [&[&str]; 8] = [
    &["trace"],
    &["mem"],
    &["bus", "dma"],
    &["pci", "iommu", "msr"],
    &["boot", "vm", "chipset", "devices", "vfio"],
    &["machine"],
    &["check", "probe", "lab", "kernels", "host"],
    &["cli"],
];

/// The only arrows between siblings.
const EXCEPTIONS: [(&str, &str); 2] = [("lab", "kernels"), ("lab", "host")];

/// The files that hold `unsafe`, each with the system call or page that leaves no other way.
const UNSAFE_FILES: &[&str] = &[
    "guest/init/ports.rs",    // in and out: the postbox and the debug exit
    "guest/init/run.rs",      // pre_exec of the job
    "guest/init/sys.rs",      // system calls of an init that has no crates
    "guest/lab-init/sys.rs",  // the same in the lab
    "tests/benches/exits.rs", // the bare loop sets its own memory slot
    "src/lab/child.rs",       // pre_exec: the parent-death signal and the descriptors of QEMU
    "src/mem/zap.rs",         // madvise of a page of guest RAM
    "src/machine/thrift.rs",  // madvise of our own code
    "src/mem/advise.rs",      // madvise of guest RAM
    "src/vm/collected.rs",    // the ring of collected writes is shared with the kernel
    "src/vm/create.rs",       // KVM_SET_USER_MEMORY_REGION takes host addresses
    "src/vm/run_page.rs",     // unions and a shared byte of the kvm_run page
    "src/vm/state.rs",        // KVM_SET_XSAVE trusts the size of its area
];

/// Rooms that act on numbers a guest chose, and so may neither unwrap, panic nor index.
const GUEST_REACHES: [&str; 11] = [
    "bus", "dma", "mem", "pci", "iommu", "msr", "boot", "vm", "chipset", "devices", "vfio",
];
const GUEST_LINTS: [&str; 4] = ["unwrap_used", "expect_used", "panic", "indexing_slicing"];

/// What design section 2 lets lie at the top of the repository.
const TOP_LEVEL: [&str; 15] = [
    ".ci",
    ".gitattributes",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "build.rs",
    "clippy.toml",
    "guest",
    "resources",
    "rustfmt.toml",
    "src",
    "tests",
];
const MAX_LINES: usize = 700;

/// A file's name, relative to the repository, and its text.
type Source = (String, String);

fn rank(room: &str) -> Option<usize> {
    ORDER.iter().position(|row| row.contains(&room))
}

/// The module path of a file under `src/`: `src/bus/line.rs` is `["bus", "line"]`.
fn module_of(name: &str) -> Vec<String> {
    let stem = name.strip_prefix("src/").unwrap_or(name);
    let stem = stem.strip_suffix(".rs").unwrap_or(stem);
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if matches!(
        module.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        module.pop();
    }
    module
}

fn imports_against_the_order(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, text) in sources {
        let module = module_of(name);
        let Some(room) = module.first() else { continue };
        for path in paths(text, &module) {
            let Some(target) = path.segments.first() else {
                continue;
            };
            let why = match (rank(room), rank(target)) {
                _ if room == target => continue,
                (None, _) => format!("room `{room}` has no place in the order"),
                _ if ["*", "as"].contains(&target.as_str()) => {
                    "imports the whole crate, which hides its arrows".into()
                }
                // Macros and items of the crate root.
                (_, None) => continue,
                (Some(from), Some(to)) if to < from => continue,
                _ if EXCEPTIONS.contains(&(room, target)) => continue,
                _ => format!("`{room}` may not import `{target}`"),
            };
            broken.push(format!("{name}:{}: {why}", path.line));
        }
    }
    broken
}

fn unsafe_outside_the_list(sources: &[Source], listed: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, text) in sources {
        let lines: Vec<&str> = text.lines().collect();
        let mut uses = false;
        let tokens = tokens(text);
        for (i, token) in tokens.iter().enumerate() {
            if token.text != "unsafe" {
                continue;
            }
            uses = true;
            if !listed.contains(&name.as_str()) {
                broken.push(format!("{name}:{}: `unsafe` outside the list", token.line));
            }
            let noted = lines[..token.line - 1]
                .iter()
                .rev()
                .map(|line| line.trim_start())
                .take_while(|line| line.starts_with("//") || line.starts_with('#'))
                .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
            // A list of foreign functions does nothing; its callers have the notes.
            let declares = tokens.get(i + 1).is_some_and(|next| next.text == "extern");
            if !noted && !declares {
                broken.push(format!("{name}:{}: no SAFETY note above", token.line));
            }
        }
        if !uses && listed.contains(&name.as_str()) {
            broken.push(format!("{name}: listed, but holds no `unsafe`"));
        }
    }
    for name in listed {
        if !sources.iter().any(|(source, _)| source == name) {
            broken.push(format!("{name}: listed, but there is no such file"));
        }
    }
    broken
}

fn files_too_long(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines, at most {MAX_LINES}"))
        .collect()
}

/// A room that is only a doc comment yet has nothing to guard.
fn rooms_without_guest_lints(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for room in GUEST_REACHES {
        let name = format!("src/{room}/mod.rs");
        let Some((_, text)) = sources.iter().find(|(source, _)| *source == name) else {
            continue;
        };
        let words: Vec<String> = tokens(text).into_iter().map(|token| token.text).collect();
        if words.is_empty() {
            continue;
        }
        let deny = words.iter().position(|word| word == "deny");
        let first_item = words.iter().position(|w| ["mod", "use"].contains(&&**w));
        let header = match (deny, first_item) {
            (Some(deny), Some(item)) if deny < item => &words[deny..item],
            (Some(deny), None) => &words[deny..],
            _ => &[],
        };
        for lint in GUEST_LINTS {
            if !header.iter().any(|word| word == lint) {
                broken.push(format!("{name}: `#![deny(clippy::{lint})]` is missing"));
            }
        }
    }
    broken
}

/// The table of rooms in `src/lib.rs`, its `pub mod` lines and the folders under `src/` agree, and
/// the table's rows run outermost first with siblings side by side.
fn map_differs_from_the_house(lib: &str, folders: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<Vec<&str>> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .filter_map(|row| row.split(" | ").next())
        .map(|cell| {
            let cell = cell.split("], [").map(|name| name.trim_matches(['`', ']']));
            cell.collect()
        })
        .collect();
    let mut broken = Vec::new();
    let mapped: BTreeSet<String> = rows.iter().flatten().map(|r| (*r).to_owned()).collect();
    let declared: BTreeSet<String> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    let known: BTreeSet<&String> = mapped.iter().chain(folders).chain(&declared).collect();
    for room in known {
        for (set, place) in [
            (&mapped, "the table of src/lib.rs"),
            (folders, "src/"),
            (&declared, "the `pub mod` lines of src/lib.rs"),
        ] {
            if !set.contains(room) {
                broken.push(format!("room `{room}` is missing in {place}"));
            }
        }
    }
    let mut outer = ORDER.len();
    for row in &rows {
        let ranks: BTreeSet<_> = row.iter().filter_map(|room| rank(room)).collect();
        match ranks.iter().copied().collect::<Vec<_>>()[..] {
            [one] if one <= outer => outer = one,
            [_] => broken.push(format!("row {row:?} stands below rooms it may import")),
            _ => broken.push(format!("row {row:?} mixes tiers")),
        }
    }
    broken
}

fn strangers_at_the_top(names: &BTreeSet<String>) -> Vec<String> {
    names
        .iter()
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .map(|name| format!("{name}: design section 2 has no place for it at the top"))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_tree(folder: &str, kinds: &[&str]) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|e| kinds.iter().any(|k| e == *k))
            {
                let name = path.strip_prefix(root()).unwrap();
                let text = fs::read_to_string(&path).unwrap();
                sources.push((name.to_str().unwrap().to_owned(), text));
            }
        }
    }
    sources.sort();
    sources
}

fn synthetic(files: &[(&str, &str)]) -> Vec<Source> {
    let own = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    files.iter().map(own).collect()
}

#[track_caller]
fn holds(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn rooms_import_one_way() {
    let sources = read_tree("src", &["rs"]);
    assert!(sources.len() > 10, "no sources found");
    holds(&imports_against_the_order(&sources));
}

#[test]
fn an_import_against_the_order_is_named_with_its_line() {
    let broken = |name: &str, text: &str| imports_against_the_order(&synthetic(&[(name, text)]));
    let up = "//! doc\nuse std::fmt;\nuse crate::{mem::Gpa, trace::{Bdf, Event}, vm};\n";
    assert_eq!(
        broken("src/bus/x.rs", up),
        ["src/bus/x.rs:3: `bus` may not import `vm`"]
    );
    for (name, text) in [
        ("src/bus/x.rs", "fn f() { crate::dma::Dma::new() }"),
        ("src/bus/mod.rs", "use super::dma::Dma;"),
        ("src/bus/x.rs", "use super::super::chipset;"),
        (
            "src/bus/x.rs",
            "mod tests { use super::super::super::vm::Vm; }",
        ),
        ("src/host/mod.rs", "use crate::lab::Lab;"),
        ("src/mem/mod.rs", "use crate::*;"),
        ("src/mem/mod.rs", "use crate as root;"),
        ("src/mem/mod.rs", "use crate::{self as root};"),
        ("src/attic/mod.rs", "use crate::mem::Gpa;"),
        (
            "src/mem/x.rs",
            "#[cfg(test)]\nmod tests { use crate::bus::Bus; }",
        ),
    ] {
        assert_eq!(broken(name, text).len(), 1, "{name}: {text}");
    }
    for (name, text) in [
        (
            "src/bus/x.rs",
            "use crate::trace::Bdf; use crate::bus::Line;",
        ),
        (
            "src/bus/x.rs",
            "// crate::vm\n/* crate::vm */ /// [`crate::vm`]\n",
        ),
        (
            "src/bus/x.rs",
            "const S: &str = r#\"crate::vm \" \"#; const C: char = '\"';",
        ),
        (
            "src/bus/x.rs",
            "mod tests { use super::super::line::Line; }",
        ),
        ("src/lab/mod.rs", "use crate::{host, kernels};"),
        ("src/lib.rs", "pub mod vm;"),
    ] {
        assert_eq!(broken(name, text), [""; 0], "{name}: {text}");
    }
}

#[test]
fn unsafe_stands_only_in_listed_files_with_a_note() {
    let mut sources = read_tree("src", &["rs"]);
    sources.extend(read_tree("tests", &["rs"]));
    sources.extend(read_tree("guest", &["rs"]));
    holds(&unsafe_outside_the_list(&sources, UNSAFE_FILES));
}

#[test]
fn unsafe_without_a_place_or_a_note_is_caught() {
    let bare = synthetic(&[("src/a.rs", "fn f() {\n    unsafe { g() }\n}\n")]);
    assert_eq!(
        unsafe_outside_the_list(&bare, &[]),
        [
            "src/a.rs:2: `unsafe` outside the list",
            "src/a.rs:2: no SAFETY note above"
        ]
    );
    let noted = synthetic(&[("src/a.rs", "// SAFETY: held.\nunsafe { g() }\n")]);
    assert!(unsafe_outside_the_list(&noted, &["src/a.rs"]).is_empty());
    let declared = synthetic(&[("src/a.rs", "unsafe extern \"C\" { fn f(); }\n")]);
    assert!(unsafe_outside_the_list(&declared, &["src/a.rs"]).is_empty());
    let calm = synthetic(&[("src/a.rs", "// unsafe\nconst WORD: &str = \"unsafe\";\n")]);
    assert!(unsafe_outside_the_list(&calm, &[]).is_empty());
    assert_eq!(unsafe_outside_the_list(&calm, &["src/a.rs"]).len(), 1);
    assert_eq!(unsafe_outside_the_list(&[], &["src/gone.rs"]).len(), 1);
}

#[test]
fn files_stay_short() {
    let mut sources = read_tree("src", &["rs"]);
    sources.extend(read_tree("tests", &["rs"]));
    sources.extend(read_tree("guest", &["rs", "c", "h", "S", "s"]));
    sources.extend(read_tree("resources", &["sh"]));
    holds(&files_too_long(&sources));
}

#[test]
fn a_file_one_line_too_long_is_caught() {
    let long = "\n".repeat(MAX_LINES + 1);
    assert!(files_too_long(&synthetic(&[("a.rs", &long[1..])])).is_empty());
    assert_eq!(
        files_too_long(&synthetic(&[("a.rs", &long)])),
        ["a.rs: 701 lines, at most 700"]
    );
}

#[test]
fn rooms_a_guest_reaches_deny_panics() {
    holds(&rooms_without_guest_lints(&read_tree("src", &["rs"])));
}

#[test]
fn a_room_without_the_lints_is_caught() {
    let header = "#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, \
                  clippy::panic, clippy::indexing_slicing))]\nmod a;\n";
    let check = |text: &str| rooms_without_guest_lints(&synthetic(&[("src/vm/mod.rs", text)]));
    assert!(check(header).is_empty());
    assert!(check("//! Nothing yet.\n").is_empty());
    assert_eq!(check("mod a;\n").len(), 4);
    assert_eq!(
        check(&header.replace("clippy::panic, ", "")),
        ["src/vm/mod.rs: `#![deny(clippy::panic)]` is missing"]
    );
    assert_eq!(check(&format!("mod b;\n{header}")).len(), 4);
}

#[test]
fn the_map_of_the_rooms_is_the_house() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let folders = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_str().unwrap().to_owned())
        .collect();
    holds(&map_differs_from_the_house(&lib, &folders));
}

#[test]
fn a_room_missing_from_the_map_is_caught() {
    let lib = "//! | [`vm`] | x |\n//! | [`mem`] | x |\npub mod mem;\npub mod vm;\n";
    let house = |rooms: &[&str]| rooms.iter().map(|r| (*r).to_owned()).collect();
    assert!(map_differs_from_the_house(lib, &house(&["mem", "vm"])).is_empty());
    assert_eq!(
        map_differs_from_the_house(lib, &house(&["bus", "mem", "vm"])).len(),
        2
    );
    assert_eq!(map_differs_from_the_house(lib, &house(&["vm"])).len(), 1);
    let upside_down = "//! | [`mem`] | x |\n//! | [`vm`] | x |\npub mod mem;\npub mod vm;\n";
    assert_eq!(
        map_differs_from_the_house(upside_down, &house(&["mem", "vm"])).len(),
        1
    );
    let mixed = "//! | [`vm`], [`mem`] | x |\npub mod mem;\npub mod vm;\n";
    assert_eq!(
        map_differs_from_the_house(mixed, &house(&["mem", "vm"])).len(),
        1
    );
}

#[test]
fn nothing_strange_lies_at_the_top() {
    // What git tracks; a package without git holds nothing else.
    let listing = Command::new("git")
        .arg("ls-files")
        .current_dir(root())
        .output();
    let names: BTreeSet<String> = match listing {
        Ok(out) if out.status.success() && root().join(".git").exists() => {
            let text = String::from_utf8(out.stdout).unwrap();
            let first = |line: &str| line.split('/').next().map(str::to_owned);
            text.lines().filter_map(first).collect()
        }
        _ => return,
    };
    assert!(names.contains("src"));
    holds(&strangers_at_the_top(&names));
    for stranger in ["Makefile", "docs", "scripts"] {
        assert_eq!(strangers_at_the_top(&[stranger.into()].into()).len(), 1);
    }
}
