//! The file systems of a lab.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Failed, Fallible, failed, sys, wire};

/// Where the host's root is put together before it becomes the root.
const NEW_ROOT: &str = "/newroot";

/// The largest message 9p over virtio takes: 128 descriptors of a page, less what its transport keeps.
const MESSAGE: u32 = 500 * 1024;

/// Whether shared memory may have transparent huge pages (Documentation/admin-guide/mm/transhuge.rst).
const SHARED_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// /proc, /sys and /dev, for the modules and the ports.
pub(crate) fn kernel_file_systems() -> Result<(), Failed> {
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount(kind, at, kind, 0, "")?;
    }
    Ok(())
}

/// Puts the host's root together and moves into it.
pub(crate) fn host_root(job: &wire::Job) -> Fallible<()> {
    // Nothing outside changes while a command runs, or the command was told of it through a share:
    // the root may be cached without asking again.
    let options = format!("trans=virtio,version=9p2000.L,msize={MESSAGE},cache=loose");
    mount(wire::ROOT_TAG, NEW_ROOT, "9p", sys::READ_ONLY, &options)?;

    let hidden = Hidden::open(job);

    // What the host has in /tmp can be read; what is written there ends with the lab.
    mount("tmpfs", "/overlay", "tmpfs", 0, "mode=0755")?;
    make_dir("/overlay/upper", 0o1777)?;
    make_dir("/overlay/work", 0o755)?;
    mount(
        "overlay",
        "/newroot/tmp",
        "overlay",
        0,
        "lowerdir=/newroot/tmp,upperdir=/overlay/upper,workdir=/overlay/work",
    )?;

    for at in ["/proc", "/sys", "/dev"] {
        mount(at, &format!("{NEW_ROOT}{at}"), "", sys::MOVE, "")?;
    }
    std::env::set_current_dir(NEW_ROOT).map_err(failed("cannot enter the host's root"))?;
    mount(".", "/", "", sys::MOVE, "")?;
    std::os::unix::fs::chroot(".").map_err(failed("cannot make the host's root the root"))?;
    std::env::set_current_dir("/").map_err(failed("cannot enter the root"))?;

    mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")?;
    make_dir("/run/lock", 0o1777)?;
    make_dir("/dev/shm", 0o1777)?;
    mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777")?;
    hidden.uncover()?;
    make_dir("/dev/pts", 0o755)?;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        0,
        "mode=0620,ptmxmode=0666,gid=5",
    )?;
    for (name, number) in [
        ("fd", ""),
        ("stdin", "/0"),
        ("stdout", "/1"),
        ("stderr", "/2"),
    ] {
        // devtmpfs of some kernels has them already.
        let _ = symlink(format!("/proc/self/fd{number}"), format!("/dev/{name}"));
    }
    optional();
    Ok(())
}

/// The working directory, when what is mounted over the root hides it.
struct Hidden(Option<(File, PathBuf)>);

impl Hidden {
    /// Takes hold of it while it can be seen.
    fn open(job: &wire::Job) -> Self {
        const O_PATH: i32 = 0o10_000_000;
        let path = Path::new(OsStr::from_bytes(&job.cwd));
        let covered = ["/run", "/dev/shm"]
            .iter()
            .any(|over| path.starts_with(over));
        let seen = path
            .strip_prefix("/")
            .map(|below| Path::new(NEW_ROOT).join(below));
        // What is not there is missed, by name, when the command is to start in it.
        let held = seen.ok().filter(|_| covered).and_then(|seen| {
            let mut open = File::options();
            open.read(true).custom_flags(O_PATH).open(seen).ok()
        });
        Self(held.map(|file| (file, path.into())))
    }

    /// Mounts it at its place again, to be read as the rest of the root is.
    fn uncover(self) -> Result<(), Failed> {
        let Some((file, path)) = self.0 else {
            return Ok(());
        };
        let what = || failed(format!("cannot show {}", path.display()));
        fs::create_dir_all(&path).map_err(what())?;
        let held = format!("/proc/self/fd/{}", file.as_raw_fd());
        let at = path.as_os_str().as_bytes();
        sys::mount_at(held.as_bytes(), at, "", sys::BIND, "").map_err(what())
    }
}

/// What a kernel may have been built without, and most commands do not miss.
fn optional() {
    let _ = make_dir("/dev/hugepages", 0o755);
    for (kind, at) in [
        ("debugfs", "/sys/kernel/debug"),
        ("tracefs", "/sys/kernel/tracing"),
        ("hugetlbfs", "/dev/hugepages"),
        ("cgroup2", "/sys/fs/cgroup"),
    ] {
        let _ = mount(kind, at, kind, 0, "");
    }
    // Guest RAM asks for them; under TCG a fault per 4 KiB is a quarter of a guest's boot.
    let _ = fs::write(SHARED_HUGE_PAGES, "advise");
}

/// Mounts each writable share over its own path, and makes the private directory of the user.
pub(crate) fn shares(job: &wire::Job) -> Fallible<()> {
    for variable in &job.env {
        if let Some(dir) = variable.strip_prefix(b"XDG_RUNTIME_DIR=/run/") {
            let dir = Path::new("/run").join(OsStr::from_bytes(dir));
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(failed(format!("cannot create {}", dir.display())))?;
        }
    }
    for (n, share) in job.shares.iter().enumerate() {
        let dir = String::from_utf8_lossy(&share.dir);
        // Never cached: the host sees each write when it returns, and a failed lab loses none.
        let options = format!("trans=virtio,version=9p2000.L,msize={MESSAGE},cache=none");
        let tag = String::from_utf8_lossy(&share.tag);
        if share.file.is_empty() {
            let path = Path::new(OsStr::from_bytes(&share.dir));
            // Below /run and /dev/shm nothing of the host shines through.
            let _ = fs::create_dir_all(path);
            mount_raw(tag.as_bytes(), &share.dir, "9p", sys::NO_DEVICES, &options)
                .map_err(failed(format!("cannot mount the writable share {dir}")))?;
            continue;
        }
        let aside = format!("/run/trapline-share/{n}");
        fs::create_dir_all(&aside).map_err(failed(format!("cannot create {aside}")))?;
        mount(&tag, &aside, "9p", sys::NO_DEVICES, &options)?;
        let from = [aside.as_bytes(), b"/", &share.file].concat();
        let to = [share.dir.as_slice(), b"/", &share.file].concat();
        mount_raw(&from, &to, "", sys::BIND, "").map_err(failed(format!(
            "cannot make {} writable",
            String::from_utf8_lossy(&to)
        )))?;
    }
    Ok(())
}

/// Unmounts the shares, innermost first.
pub(crate) fn let_go(job: &wire::Job) {
    for share in job.shares.iter().rev().filter(|s| s.file.is_empty()) {
        // Nothing is cached, so a share that is still in use loses nothing.
        let _ = sys::unmount(&share.dir);
    }
}

fn make_dir(at: &str, mode: u32) -> Result<(), Failed> {
    let made = DirBuilder::new().recursive(true).create(at);
    // mkdir's mode passes through the umask; chmod's does not.
    made.and_then(|()| fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(mode)))
        .map_err(failed(format!("cannot create {at}")))
}

fn mount(from: &str, at: &str, kind: &str, flags: u64, options: &str) -> Result<(), Failed> {
    mount_raw(from.as_bytes(), at.as_bytes(), kind, flags, options).map_err(|source| {
        let object = if kind.is_empty() { from } else { kind };
        let hint = match source.raw_os_error() {
            // ENODEV: no such file system in this kernel.
            Some(19) => "; this kernel is built without it, or its module was not found",
            _ => "",
        };
        failed(format!("cannot mount {object} on {at}{hint}"))(source)
    })
}

fn mount_raw(from: &[u8], at: &[u8], kind: &str, flags: u64, options: &str) -> io::Result<()> {
    sys::mount_at(from, at, kind, flags, options)
}
