//! Bad input gets a clear error before anything runs.

use std::fs;
use std::path::Path;

use super::boot;
use super::common::{Case, Need};

pub(crate) const CASES: &[Case] = &[
    plain(
        "a_file_that_is_no_kernel_is_named_for_what_it_is",
        no_kernels,
    ),
    plain("an_unknown_payload_names_the_nearest", payloads),
    plain(
        "a_configuration_with_an_unknown_key_names_the_nearest",
        configuration,
    ),
    plain("values_that_cannot_be_are_refused", values),
    plain("options_for_linux_are_refused_for_payloads", options),
    kvm("memory_that_cannot_be_is_refused", memory),
];

const fn plain(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[],
        run,
    }
}

const fn kvm(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

fn no_kernels() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    let mut elf32 = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0];
    elf32.resize(64, 0);
    (elf32[16], elf32[18], elf32[20]) = (2, 3, 1);
    let mut aarch64 = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    aarch64.resize(64, 0);
    (aarch64[16], aarch64[18], aarch64[20]) = (2, 183, 1);
    for (path, words) in [
        (dir.path().join("missing"), "no such file"),
        (file("empty", b""), "empty"),
        (file("text", b"this is a text file\n"), "text"),
        (file("elf32", &elf32), "32-bit"),
        (file("aarch64", &aarch64), "64"),
        (file("short", &[0x7f, b'E', b'L', b'F', 2]), "short"),
        (file("cpio", b"070701000000000000000000"), "initramfs"),
    ] {
        let run = boot([path.as_os_str()]);
        run.ends(64);
        let text = run.stderr.to_lowercase();
        assert!(
            text.contains(words),
            "{}: no {words:?} in {text}",
            path.display()
        );
    }
}

fn payloads() {
    boot([":helo"]).ends(64).says("did you mean :hello?");
    boot([":"]).ends(0).prints(":hello");
}

fn configuration() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = dir.path().join("run.toml");
    let with = |text: &str| {
        fs::write(&path, text).expect("a file");
        boot([":hello".as_ref(), "--config".as_ref(), path.as_os_str()])
    };
    with("cpuss = 2\n").ends(64).says("did you mean \"cpus\"?");
    with("cpus = 'many'\n").ends(64).says("line 1");
    with("cpus = \n").ends(64).says("run.toml");
    boot([":hello", "--config", "/nowhere.toml"])
        .ends(64)
        .says("/nowhere.toml");
}

fn values() {
    boot([":hello", "--mem", "lots"])
        .ends(64)
        .says("not a size");
    boot([":hello", "--timeout", "90"])
        .ends(64)
        .says("with its unit");
    boot([":hello", "--name", "a/b"])
        .ends(64)
        .says("cannot name a run");
    boot([":hello", "--cpu", "2"]).ends(64).says("--cpus 2");
    boot(["-smp", "2"]).ends(64).says("--cpus");
}

fn options() {
    boot([":hello", "--shell"]).ends(64).says("payload");
    boot([":hello", "--module", "loop"])
        .ends(64)
        .says("payload");
}

fn memory() {
    boot([":hello", "--mem", "0"]).ends(64).says("0 bytes");
    boot([":hello", "--mem", "900T"])
        .ends(64)
        .says("more than this host has");
    assert!(Path::new("/dev/kvm").exists());
}
