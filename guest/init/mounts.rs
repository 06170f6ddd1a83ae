//! The file systems a test expects. A kernel may be built without any of them: that is said, and
//! left to whoever needs it.

use std::ffi::CStr;
use std::fs;
use std::io;

use crate::{say, sys};

const ALL: [(&CStr, &CStr); 5] = [
    (c"proc", c"/proc"),
    (c"sysfs", c"/sys"),
    (c"devtmpfs", c"/dev"),
    (c"devpts", c"/dev/pts"),
    (c"tmpfs", c"/tmp"),
];

/// Mounts them all.
pub(crate) fn make() {
    for (kind, target) in ALL {
        if let Err(e) = mount(kind, target) {
            let (kind, target) = (kind.to_string_lossy(), target.to_string_lossy());
            say!("cannot mount {kind} on {target}: {e}");
        }
    }
}

/// A folder that is already there, or already mounted on by the kernel, is as good.
fn mount(kind: &CStr, target: &CStr) -> io::Result<()> {
    const EBUSY: i32 = 16;
    let path = target.to_str().map_err(io::Error::other)?;
    if let Err(e) = fs::create_dir(path)
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(e);
    }
    match sys::mount_virtual(kind, target) {
        Err(e) if e.raw_os_error() == Some(EBUSY) => Ok(()),
        other => other,
    }
}
