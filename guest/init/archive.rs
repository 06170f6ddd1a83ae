//! A tar stream: what `--get` sends to the host. POSIX ustar headers, with GNU's `L` and `K` records
//! for names that do not fit.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const BLOCK: usize = 512;
const NAME_MAX: usize = 100;
/// Files up to here are read before their header is written, because /proc and /sys give sizes that
/// are not the number of bytes they then deliver.
const SMALL: u64 = 64 << 10;
/// Eleven octal digits.
const SIZE_MAX: u64 = (8 << 30) - 1;

/// Appends `path`, and what is below it, under `name`. A link at `path` itself is followed; below
/// it links stay links, and what is neither file, folder nor link is left out.
pub(crate) fn append(out: &mut impl Write, name: &[u8], path: &Path) -> io::Result<()> {
    append_entry(out, name, path, &fs::metadata(path)?)
}

/// Two empty blocks end an archive.
pub(crate) fn finish(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

fn append_entry(out: &mut impl Write, name: &[u8], path: &Path, meta: &Metadata) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_dir() {
        header(out, name, b'5', meta, 0, b"")?;
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let member = [name, b"/", entry.file_name().as_bytes()].concat();
            append_entry(out, &member, &entry.path(), &entry.metadata()?)?;
        }
        Ok(())
    } else if kind.is_symlink() {
        let target = fs::read_link(path)?;
        header(out, name, b'2', meta, 0, target.as_os_str().as_bytes())
    } else if kind.is_file() {
        append_file(out, name, path, meta)
    } else {
        Ok(())
    }
}

fn append_file(out: &mut impl Write, name: &[u8], path: &Path, meta: &Metadata) -> io::Result<()> {
    let mut file = File::open(path)?;
    if meta.len() <= SMALL {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let size = bytes.len() as u64;
        header(out, name, b'0', meta, size, b"")?;
        out.write_all(&bytes)?;
        return pad(out, size);
    }
    let size = meta.len();
    header(out, name, b'0', meta, size, b"")?;
    let copied = io::copy(&mut file.take(size), out)?;
    io::copy(&mut io::repeat(0).take(size - copied), out)?;
    pad(out, size)
}

fn header(
    out: &mut impl Write,
    name: &[u8],
    kind: u8,
    meta: &Metadata,
    size: u64,
    link: &[u8],
) -> io::Result<()> {
    for (record, text) in [(b'L', name), (b'K', link)] {
        if text.len() > NAME_MAX {
            let length = text.len() as u64;
            out.write_all(&block(b"././@LongLink", record, 0, 0, length, b"")?)?;
            out.write_all(text)?;
            pad(out, length)?;
        }
    }
    let mtime = u64::try_from(meta.mtime()).unwrap_or(0);
    out.write_all(&block(name, kind, meta.mode(), mtime, size, link)?)
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let tail = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    out.write_all(&[0; BLOCK][..(BLOCK - tail) % BLOCK])
}

/// One header block (POSIX.1-1988 ustar; owner root).
fn block(
    name: &[u8],
    kind: u8,
    mode: u32,
    mtime: u64,
    size: u64,
    link: &[u8],
) -> io::Result<[u8; BLOCK]> {
    if size > SIZE_MAX {
        let limit = "a file of 8 GiB or more cannot be sent back";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, limit));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &name[..name.len().min(NAME_MAX)]);
    put(100, format!("{:07o}", mode & 0o7777).as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", mtime.min(SIZE_MAX)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(NAME_MAX)]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn packed(name: &[u8], path: &Path) -> Vec<u8> {
        let mut out = Vec::new();
        append(&mut out, name, path).unwrap();
        finish(&mut out).unwrap();
        out
    }

    #[test]
    fn a_tar_reader_finds_files_folders_links_and_long_names() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(180);
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d").join(&long), b"long").unwrap();
        fs::write(dir.path().join("big"), vec![7; 100_000]).unwrap();
        symlink("x".repeat(150), dir.path().join("l")).unwrap();

        let bytes = packed(b"0", dir.path());
        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in reader.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let link = entry.link_name().unwrap().map(|l| l.as_os_str().len());
            seen.push((path, content.len(), link));
        }
        assert_eq!(
            seen,
            [
                ("0".into(), 0, None),
                ("0/big".into(), 100_000, None),
                ("0/d".into(), 0, None),
                (format!("0/d/{long}"), 4, None),
                ("0/l".into(), 0, Some(150)),
            ]
        );
    }

    #[test]
    fn a_proc_file_is_as_long_as_what_it_delivers() {
        let bytes = packed(b"3", Path::new("/proc/version"));
        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut entry = reader.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        assert_eq!(text, fs::read_to_string("/proc/version").unwrap());
    }
}
