//! A guest in a lab is reached like any other.

use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::common::{Case, TRAPLINE};
use super::in_labs;

pub(crate) const CASES: &[Case] = &[in_labs(
    "a_guest_in_a_lab_answers_ps_and_ctl_out_here",
    control,
)];

fn control() {
    let runtime = tempfile::tempdir().unwrap();
    let trapline = |line: &str| {
        let mut command = Command::new(TRAPLINE);
        command
            .args(line.split_whitespace())
            .env("XDG_RUNTIME_DIR", runtime.path())
            .stdin(Stdio::null());
        command
    };
    let mut guest = trapline("--in lab boot :hang --hang 0s --name afar")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let Output { status, stdout, .. } = trapline("ctl afar status --json").output().unwrap();
        if status.success() {
            break serde_json::from_slice::<serde_json::Value>(&stdout).unwrap();
        }
        if Instant::now() > deadline || guest.try_wait().unwrap().is_some() {
            let _ = guest.kill();
            let said = guest.wait_with_output().unwrap().stderr;
            panic!("no answer: {}", String::from_utf8_lossy(&said));
        }
        thread::sleep(Duration::from_millis(50));
    };
    assert!(status.to_string().contains("running"), "{status}");

    let list = trapline("ps").output().unwrap();
    assert!(
        String::from_utf8_lossy(&list.stdout).contains("afar"),
        "{list:?}"
    );
    let taken = trapline("--in here boot :hello --name afar")
        .output()
        .unwrap();
    assert_eq!(taken.status.code(), Some(64), "{taken:?}");

    assert!(trapline("ctl afar stop").status().unwrap().success());
    assert_eq!(guest.wait().unwrap().code(), Some(76));
    assert!(!runtime.path().join("trapline/afar.sock").exists());
}
