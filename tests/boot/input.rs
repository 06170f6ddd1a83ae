//! Standard input of a command in a Linux guest, when it is a file or a pipe.

use std::fs::File;
use std::io::{self, Write};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use trapline::kernels::Cache;

use super::common::{Case, Need};
use super::linux::{kernel, lines, sum_of};
use super::{Run, command, finish, unspoiled};

pub(crate) const CASES: &[Case] = &[
    linux("standard_input_of_4_mib_arrives_whole_and_ends", file),
    linux("standard_input_waits_for_a_slow_reader", slow_reader),
    linux("standard_input_of_a_slow_sender_is_waited_for", slow_sender),
    linux("standard_input_comes_back_byte_for_byte", round_trip),
    linux(
        "standard_input_without_an_end_does_not_outlive_the_command",
        endless,
    ),
    linux("standard_input_that_is_empty_ends_at_once", nothing),
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

/// Boots and runs `script` on what `input` gives; again when QEMU spoiled the run.
fn fed(script: &str, more: &[&str], input: impl Fn() -> Stdio) -> Run {
    let tiny = Cache::from_env().and_then(|cache| cache.find("tiny"));
    let tiny = tiny.ok().flatten();
    let name = tiny.map_or_else(|| kernel().name, |tiny| tiny.name);
    unspoiled(|| {
        let mut trapline = command([&name, "--timeout", "240s", "--exec", script]);
        trapline.args(more).stdin(input());
        finish(trapline)
    })
}

/// A pipe that `send` writes to, for as long as somebody reads.
fn pipe(send: impl FnOnce(&mut io::PipeWriter) -> io::Result<()> + Send + 'static) -> Stdio {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    thread::spawn(move || send(&mut writer));
    reader.into()
}

/// Every byte, and every byte after every other: nothing on the way may take one for a sign.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn file() {
    let bytes = noise((4 << 20) + 3);
    let mut sent = tempfile::NamedTempFile::new().expect("a file");
    sent.write_all(&bytes).expect("written");
    let run = fed("sha256sum; echo and then", &[], || {
        File::open(sent.path()).expect("opens").into()
    });
    run.ends(0).prints(&sum_of(&bytes)).prints("and then");
}

fn slow_reader() {
    let text = lines(4096);
    let sum = sum_of(&text);
    let run = fed("read first; sleep 3; sha256sum; echo $first", &[], || {
        let text = format!("one line\n{text}");
        pipe(move |to| to.write_all(text.as_bytes()))
    });
    run.ends(0).prints(&sum).prints("one line");
}

fn slow_sender() {
    let run = fed("wc -c", &[], || {
        pipe(|to| {
            for _ in 0..40 {
                to.write_all(b"0123456789")?;
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        })
    });
    let counted = run.ends(0).stdout.lines().any(|l| l.trim() == "400");
    assert!(counted, "{}", run.stdout);
}

fn round_trip() {
    let bytes = noise(100_000);
    let dir = tempfile::tempdir().expect("a scratch folder");
    let back = dir.path().join("back");
    let get = format!("/tmp/back:{}", back.display());
    let run = fed("cat > /tmp/back", &["--get", &get], || {
        let bytes = bytes.clone();
        pipe(move |to| to.write_all(&bytes))
    });
    run.ends(0);
    let came = std::fs::read(back).expect("it came back");
    assert!(came == bytes, "{} bytes", came.len());
}

fn endless() {
    let run = fed("head -c 100000 | wc -c; exit 5", &[], || {
        pipe(|to| {
            loop {
                to.write_all(&[0; 4096])?;
            }
        })
    });
    run.ends(5).prints("100000");
}

fn nothing() {
    fed("cat; exit 4", &[], Stdio::null).ends(4);
}
