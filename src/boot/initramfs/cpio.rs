//! The archive format of an initramfs: cpio "newc" (Documentation/driver-api/early-userspace/
//! buffer-format.rst). Every entry is a header of 8-digit hexadecimal fields, a name and data, each
//! padded to four bytes. Times and inode numbers are zero, so equal input gives equal bytes.

const MAGIC: &[u8] = b"070701";
const TRAILER: &[u8] = b"TRAILER!!!";

/// Type bits of a mode (`stat.h`).
pub(super) const S_IFREG: u32 = 0o100_000;
pub(super) const S_IFDIR: u32 = 0o040_000;
pub(super) const S_IFLNK: u32 = 0o120_000;
pub(super) const S_IFCHR: u32 = 0o020_000;

/// Longest name or link target the kernel takes, with its NUL (init/initramfs.c, `PATH_MAX`).
pub(super) const PATH_MAX: usize = 4096;

/// Everything of an entry but its data.
pub(super) struct Entry<'a> {
    /// Path without a leading slash.
    pub(super) name: &'a [u8],
    /// Type and permissions.
    pub(super) mode: u32,
    /// Device number, for device nodes.
    pub(super) device: (u32, u32),
}

/// Appends one entry.
pub(super) fn append(out: &mut Vec<u8>, entry: &Entry<'_>, data: &[u8], size: u32) {
    let name_size = u32::try_from(entry.name.len().saturating_add(1)).unwrap_or(u32::MAX);
    let (major, minor) = entry.device;
    out.extend_from_slice(MAGIC);
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
    // namesize, check. One link: the kernel looks for hard links only where there are more.
    for field in [
        0, entry.mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
    ] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(entry.name);
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
}

/// Appends the entry that ends an archive.
pub(super) fn finish(out: &mut Vec<u8>) {
    let trailer = Entry {
        name: TRAILER,
        mode: 0,
        device: (0, 0),
    };
    append(out, &trailer, &[], 0);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
