//! A static busybox and the names it answers to.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::host_files::read_error;
use super::{Initramfs, InitramfsError};

/// Packs busybox as `/bin/busybox` with a link for every applet, where nothing else lies yet.
pub(super) fn add(initramfs: &mut Initramfs, path: &Path) -> Result<(), InitramfsError> {
    let bytes = fs::read(path).map_err(|e| read_error(path, e))?;
    initramfs.file("/bin/busybox", 0o755, &bytes)?;
    let applets = applets(path).map_err(|source| InitramfsError::Busybox {
        path: path.to_owned(),
        source,
    })?;
    for applet in applets.lines() {
        let link = Path::new("/bin").join(applet);
        if initramfs.kind(&link)?.is_none() {
            initramfs.symlink(link, "busybox")?;
        }
    }
    Ok(())
}

/// What it says itself, the only list that is right for every build of it.
fn applets(path: &Path) -> io::Result<String> {
    let output = Command::new(path)
        .arg("--list")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("it ended with {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
