//! Where a bench runs that boots Linux.

use std::path::Path;
use std::process::Command;

use trapline::host::{Root, linux_guests};
use trapline::lab;

/// The program under measurement.
pub(crate) const TRAPLINE: &str = env!("CARGO_BIN_EXE_trapline");

/// Runs the bench with a scratch folder: here where Linux guests boot, else all of it in one lab, by
/// starting this program again there.
pub(crate) fn where_linux_boots(bench: impl FnOnce(&Path)) {
    if lab::inside() || linux_guests(&Root::system()).is_ok() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        return bench(folder.path());
    }
    let here = std::env::current_exe().expect("a path");
    let status = Command::new(TRAPLINE)
        .args(["lab", "--no-devices", "--lab-mem", "3G", "--"])
        .arg(here)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the lab failed"
    );
}
