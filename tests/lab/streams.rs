//! Standard input, output and error.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use super::common::{Case, TRAPLINE};
use super::{ends, in_labs, lab, script};

pub(crate) const CASES: &[Case] = &[
    in_labs("a_mebibyte_of_any_bytes_arrives_whole_both_ways", binary),
    in_labs("an_output_that_nobody_reads_ends_the_command", unread),
    in_labs("closed_streams_are_an_end_of_input_and_no_failure", closed),
    in_labs("output_waits_for_a_slow_reader_and_loses_nothing", slow),
];

/// Bytes without a pattern (a xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn binary() {
    let sent = noise((1 << 20) + 13);
    let mut child = script("tee /dev/stderr")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = sent.clone();
    let writer = thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout == sent,
        "{} bytes of stdout",
        output.stdout.len()
    );
    assert!(
        output.stderr == sent,
        "{} bytes of stderr",
        output.stderr.len()
    );
}

fn unread() {
    let mut child = lab(["yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    // 141: as a shell reports a command that SIGPIPE ended.
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

fn closed() {
    let line = format!("exec '{TRAPLINE}' lab --no-devices --lab-mem 1G -- cat <&- >&- 2>&-");
    let status = Command::new("/bin/sh")
        .args(["-c", &line])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

fn slow() {
    const LINES: usize = 60_000;
    let mut child = script(&format!("seq {LINES}; exit 3"))
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).unwrap();
    // Much longer than the command takes: it has ended, and most of what it wrote is on its way.
    thread::sleep(std::time::Duration::from_secs(12));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.lines().count(), LINES);
    assert!(rest.ends_with(&format!("\n{LINES}\n")));
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(ends(script("exit 63"), 63), "");
}
