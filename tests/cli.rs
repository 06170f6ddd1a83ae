//! The command line from outside: bad ones, streams that are closed, full or left by their reader.

use std::io;
use std::process::{Command, Output, Stdio};

const TRAPLINE: &str = env!("CARGO_BIN_EXE_trapline");

fn trapline(line: &str) -> Command {
    let mut command = Command::new(TRAPLINE);
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs a bad command line: status 64, nothing on standard output, the words on standard error.
#[track_caller]
fn refused(line: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = trapline(line).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(stdout.is_empty());
    said
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    assert!(refused("doctor --jsno").contains("'--json'"));
    assert!(refused("doctor --vrebose").contains("'--verbose'"));
    assert!(refused("boot --cpuss 2").contains("'--cpus'"));
    assert!(refused("boot --apend quiet").contains("'--append'"));
}

#[test]
fn an_unknown_subcommand_names_the_nearest() {
    assert!(refused("docter").contains("'doctor'"));
    assert!(refused("man docter").contains("no subcommand \"docter\""));
}

#[test]
fn an_unknown_value_names_those_there_are() {
    let said = refused("--in space doctor");
    assert!(
        said.contains("auto") && said.contains("here") && said.contains("lab"),
        "{said}"
    );
}

#[test]
fn no_subcommand_is_a_bad_command_line() {
    assert!(refused("").contains("doctor"));
}

#[test]
fn qemus_spellings_are_recognised() {
    for (line, here) in [
        ("boot -smp 2 bzImage", "QEMU's -smp is --cpus here"),
        ("boot -append quiet", "QEMU's -append is --append here"),
        (
            "boot -kernel bzImage",
            "QEMU's -kernel is a plain argument here: trapline boot KERNEL",
        ),
        ("boot -initrd i.gz", "QEMU's -initrd is --initrd here"),
        ("boot -nographic", "QEMU's -nographic is not needed"),
        (
            "boot -monitor stdio",
            "QEMU's -monitor is trapline ctl NAME VERB here",
        ),
        (
            "-smp 2 -kernel bzImage",
            "QEMU's -kernel is a plain argument",
        ),
    ] {
        let said = refused(line);
        assert!(said.contains(here), "{line}: {said}");
    }
}

#[test]
fn a_letter_of_qemus_is_recognised_once_clap_has_refused_it() {
    assert!(refused("doctor -S").contains("QEMU's -S has no counterpart"));
}

#[test]
fn help_and_version_are_answers() {
    for line in ["--help", "--version", "doctor --help", "help doctor"] {
        let out = trapline(line).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{line}");
        assert!(!out.stdout.is_empty() && out.stderr.is_empty(), "{line}");
    }
}

#[test]
fn a_reader_that_has_left_ends_output_quietly() {
    for line in ["completions bash", "man", "--help", "doctor --json"] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let out = trapline(line).stdout(writer).output().unwrap();
        assert!(
            matches!(out.status.code(), Some(0 | 65)),
            "{line}: {}",
            out.status
        );
        assert!(
            out.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let status = trapline("doctor -smp").stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(64), "a lost message changes no status");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let out = trapline("completions bash").stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(74));
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("cannot write to standard output"), "{said}");
    assert!(said.contains("No space left"), "{said}");
}

#[test]
fn closed_streams_are_tolerated() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let line = format!("exec \"$0\" completions bash {closed}");
        let status = Command::new("sh")
            .args(["-c", &line, TRAPLINE])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{closed}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_subcommand() {
    let all = trapline::cli::command();
    let script = trapline("completions bash").output().unwrap().stdout;
    let script = String::from_utf8(script).unwrap();
    for subcommand in all.get_subcommands() {
        let name = subcommand.get_name();
        assert!(script.contains(&format!("trapline,{name})")), "{name}");
        if name != "help" {
            let page = trapline(&format!("man {name}")).output().unwrap();
            let page = String::from_utf8(page.stdout).unwrap();
            assert!(
                page.contains(&format!("trapline\\-{name}")),
                "{name}: {page}"
            );
        }
    }
}

#[test]
fn the_doctors_json_is_one_object_with_its_schema() {
    let out = trapline("doctor --json").output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(document["schema"], "trapline/doctor/1");
    let items = document["items"].as_array().unwrap();
    assert!(
        items
            .iter()
            .any(|item| item["topic"] == "kvm" && item["name"] == "device")
    );
    for item in items {
        assert!(
            ["ok", "warn", "no"].contains(&item["mark"].as_str().unwrap()),
            "{item}"
        );
    }
}

#[test]
fn the_doctors_screen_has_no_colours_in_a_pipe() {
    let out = trapline("doctor").env("TERM", "xterm").output().unwrap();
    assert!(!out.stdout.contains(&0x1b));
    assert!(String::from_utf8(out.stdout).unwrap().lines().count() <= 30);
}

#[test]
fn the_board_is_listed_without_kvm_and_without_a_kernel() {
    let text = |line: &str| {
        let output = trapline(line).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = text("boot --print-board --device edu -m 64");
    assert!(table.contains("00:02.0     1234:11e8"), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&text("boot --print-board --json -")).unwrap();
    assert_eq!(json["schema"], "trapline/board/1");
    let items = json["items"].as_array().unwrap();
    let of = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
    // More come with the chipset's further functions.
    assert!(of("function").count() >= 3);
    assert!(of("line").any(|line| line["gsi"] == 9));

    assert!(refused("boot --print-board --device ahci").contains("there are: edu"));
    assert!(refused("boot --device edu,dma-mask=70").contains("12 to 64"));
}
