//! `trapline kernel` from outside, against an apt that is a shell script and serves one package.

#[path = "kernel/apt.rs"]
mod apt;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use apt::FakeApt;

const TRAPLINE: &str = env!("CARGO_BIN_EXE_trapline");

/// A run with a cache of its own and only `path` to find programs in.
fn trapline(cache: &Path, path: &str, line: &str) -> Command {
    let mut command = Command::new(TRAPLINE);
    command
        .args(line.split_whitespace())
        .env("TRAPLINE_CACHE", cache)
        .env("PATH", path)
        .env_remove("TRAPLINE_KERNEL")
        .stdin(Stdio::null());
    command
}

fn ended(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

fn kernels(cache: &Path) -> serde_json::Value {
    let output = trapline(cache, "", "kernel list --json").output().unwrap();
    assert!(output.status.success());
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["schema"], "trapline/kernel-list/1");
    all["items"].clone()
}

#[test]
fn a_kernel_is_got_through_the_machines_apt_and_the_second_time_is_there() {
    let apt = FakeApt::new("linux-image-amd64");
    let cache = apt.dir().join("cache");
    let get = || {
        trapline(&cache, &apt.path(), "kernel get debian")
            .output()
            .unwrap()
    };
    let (status, said) = ended(&get());
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("debian-9.9 (9.9.9-1-amd64) is there now"),
        "{said}"
    );

    let items = kernels(&cache);
    assert_eq!(items[0]["name"], "debian-9.9");
    assert_eq!(items[0]["options"]["VMAP_STACK"], "y");
    let modules = items[0]["modules"].as_str().unwrap();
    assert!(Path::new(modules).join("kernel/a.ko").exists());

    let downloads = apt.downloads();
    let (status, said) = ended(&get());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(apt.downloads(), downloads);
}

#[test]
fn apt_is_kept_out_of_the_systems_state_and_trusts_what_the_machine_trusts() {
    let apt = FakeApt::new("linux-image-amd64");
    let cache = apt.dir().join("cache");
    let output = trapline(&cache, &apt.path(), "kernel get debian")
        .output()
        .unwrap();
    assert!(output.status.success());
    let config = apt.seen_config();
    let root = cache.canonicalize().unwrap();
    for key in [
        "Dir::State ",
        "Dir::Cache ",
        "Dir::Etc::sourceparts ",
        "Dir::Etc::parts ",
    ] {
        let line = config.lines().find(|l| l.starts_with(key)).unwrap();
        assert!(line.contains(root.to_str().unwrap()), "{line}");
    }
    assert!(
        config.contains("Acquire::http::Proxy \"proxy:3142\";"),
        "{config}"
    );
    assert!(!config.contains("Post-Invoke"), "{config}");
    let sources = apt.seen_sources();
    assert!(
        sources.contains("URIs: http://mirror/debian\nSuites: stable\n"),
        "{sources}"
    );
    assert!(sources.contains("Signed-By: /key.gpg"), "{sources}");
    assert!(!sources.contains("third-party"), "{sources}");
}

#[test]
fn a_download_that_is_killed_leaves_nothing_half_made() {
    let apt = FakeApt::new("linux-image-amd64");
    let cache = apt.dir().join("cache");
    apt.stall_downloads(true);
    let mut run = trapline(&cache, &apt.path(), "kernel get debian")
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while apt.downloads() == 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "no download began"
        );
        thread::sleep(Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(kernels(&cache).as_array().unwrap().len(), 0);
    let left = || fs::read_dir(cache.join("tmp")).unwrap().count();
    assert_eq!(left(), 1, "what the killed run was filling");

    apt.stall_downloads(false);
    let output = trapline(&cache, &apt.path(), "kernel get debian")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", ended(&output).1);
    assert_eq!(left(), 0, "swept");
    assert_eq!(kernels(&cache).as_array().unwrap().len(), 1);
}

#[test]
fn a_download_that_fails_says_what_apt_said() {
    let apt = FakeApt::new("linux-image-amd64");
    let cache = apt.dir().join("cache");
    apt.fail_downloads();
    let output = trapline(&cache, &apt.path(), "kernel get debian")
        .output()
        .unwrap();
    let (status, said) = ended(&output);
    assert_eq!(status, Some(74), "{said}");
    assert!(
        said.contains("could not download linux-image-9.9.9-1-amd64=9.9.9-1"),
        "{said}"
    );
    assert!(said.contains("E: Hash Sum mismatch"), "{said}");
    assert_eq!(fs::read_dir(cache.join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_kernel_the_distribution_lacks_is_the_callers_mistake() {
    let apt = FakeApt::new("linux-image-amd64");
    let cache = apt.dir().join("cache");
    let output = trapline(&cache, &apt.path(), "kernel get generic")
        .output()
        .unwrap();
    let (status, said) = ended(&output);
    assert_eq!(status, Some(64), "{said}");
    assert!(
        said.contains("no generic kernel; Debian has debian-cloud and debian"),
        "{said}"
    );
    assert!(
        said.contains("has no package linux-image-generic"),
        "{said}"
    );
}

#[test]
fn without_apt_the_error_says_how_to_pass_a_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let output = trapline(dir.path(), "", "kernel get debian")
        .output()
        .unwrap();
    let (status, said) = ended(&output);
    assert_eq!(status, Some(65), "{said}");
    assert!(
        said.contains("no apt-get") && said.contains("TRAPLINE_KERNEL=PATH"),
        "{said}"
    );
}

#[test]
fn without_a_compiler_the_error_is_the_line_that_installs_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = trapline(dir.path(), "", "kernel build tiny")
        .output()
        .unwrap();
    let (status, said) = ended(&output);
    assert_eq!(status, Some(65), "{said}");
    assert!(
        said.contains("sudo apt-get install build-essential flex bison bc"),
        "{said}"
    );
}

#[test]
fn an_empty_list_says_how_to_fill_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = trapline(dir.path(), "", "kernel list").output().unwrap();
    assert!(output.stdout.is_empty());
    let (status, said) = ended(&output);
    assert_eq!(status, Some(0));
    assert!(said.contains("trapline kernel get debian-cloud"), "{said}");
}
