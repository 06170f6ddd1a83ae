//! Files of all kinds, good and bad.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::chipset::{Medium, MediumFault};

const DISK: DriveUse = DriveUse::Disk {
    read_only: false,
    overlay: false,
};
const READ_ONLY: DriveUse = DriveUse::Disk {
    read_only: true,
    overlay: false,
};
const OVERLAY: DriveUse = DriveUse::Disk {
    read_only: false,
    overlay: true,
};

fn spec(path: &Path, kind: DriveUse) -> DriveSpec {
    DriveSpec {
        path: path.into(),
        kind,
    }
}

fn open(path: &Path, kind: DriveUse) -> Result<Box<dyn Medium>, String> {
    let tell: Tell = Arc::new(drop);
    let opened = spec(path, kind).open(&tell);
    opened
        .map(|(_, medium)| medium)
        .map_err(|error| error.to_string())
}

/// A scratch folder with an image of `len` bytes.
fn image(len: u64) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    File::create(&path).unwrap().set_len(len).unwrap();
    (dir, path)
}

#[test]
fn what_is_written_is_read_and_is_in_the_file() {
    let (_dir, path) = image(1 << 20);
    let mut disk = open(&path, DISK).unwrap();
    assert_eq!(disk.len(), 1 << 20);
    disk.write(512, b"written").unwrap();
    let mut bytes = [0; 7];
    disk.read(512, &mut bytes).unwrap();
    assert_eq!(&bytes, b"written");
    disk.flush().unwrap();
    assert_eq!(&fs::read(&path).unwrap()[512..519], b"written");
}

#[test]
fn bad_files_are_refused_by_name_and_with_the_mend() {
    let (dir, path) = image(1000);
    let refused = |path: &Path, kind, words: &str| {
        let error = open(path, kind).unwrap_err();
        let named = error.contains(path.to_str().unwrap());
        assert!(named && error.contains(words), "{error}");
    };
    refused(&path, DISK, "1000 bytes, which is not a multiple of 512");
    refused(dir.path(), DISK, "neither a file nor a block device");
    refused(Path::new("/dev/null"), DISK, "neither a file nor a block");
    refused(&dir.path().join("none"), DISK, "cannot open the disk image");
    refused(&path, DriveUse::CdRom, "goes with --disk");
    File::create(&path).unwrap();
    refused(&path, OVERLAY, "is empty");
}

#[test]
fn a_file_that_cannot_be_written_needs_ro_or_overlay() {
    let (_dir, path) = image(4096);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // Root may write all the same.
    match open(&path, DISK) {
        Ok(_) => assert!(rustix::process::geteuid().is_root()),
        Err(error) => assert!(error.contains(",ro"), "{error}"),
    }
    let mut disk = open(&path, READ_ONLY).unwrap();
    assert_eq!(disk.write(0, &[1]), Err(MediumFault::Unwritable));
    assert_eq!(disk.read(0, &mut [0; 512]), Ok(()));
    drop(disk);
    open(&path, OVERLAY).unwrap().write(0, &[1]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0; 4096]);
}

#[test]
fn one_writer_or_many_readers() {
    let (_dir, path) = image(4096);
    let reader = open(&path, OVERLAY).unwrap();
    let other = open(&path, READ_ONLY).unwrap();
    let error = open(&path, DISK).unwrap_err();
    assert!(error.contains("in use by another Trapline"), "{error}");
    drop((reader, other));
    let writer = open(&path, DISK).unwrap();
    for kind in [DISK, READ_ONLY, OVERLAY] {
        let error = open(&path, kind).unwrap_err();
        assert!(error.contains("in use by another Trapline"), "{error}");
    }
    drop(writer);
    open(&path, DISK).unwrap();
}

#[test]
fn a_file_that_is_cut_while_it_is_used_gives_faults_and_does_not_grow_again() {
    let (_dir, path) = image(1 << 20);
    let said = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&said);
    let tell: Tell = Arc::new(move |line| log.lock().unwrap().push(line));
    let mut disk = spec(&path, DISK).open(&tell).unwrap().1;
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4096)
        .unwrap();
    let mut bytes = [0; 512];
    assert_eq!(disk.read(8192, &mut bytes), Err(MediumFault::Unreadable));
    assert_eq!(disk.write(8192, &bytes), Err(MediumFault::Unwritable));
    assert_eq!(disk.read(0, &mut bytes), Ok(()));
    assert_eq!(disk.write(0, &bytes), Ok(()));
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    let lines = said.lock().unwrap().clone();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("cannot read 512 bytes at 8192"),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("the file has shrunk"), "{lines:?}");
}

#[test]
fn an_iso_image_is_told_by_its_volume_descriptor() {
    let (_dir, path) = image(64 << 10);
    let mut bytes = fs::read(&path).unwrap();
    bytes[32769..32774].copy_from_slice(b"CD001");
    fs::write(&path, bytes).unwrap();
    assert_eq!(open(&path, DriveUse::CdRom).unwrap().len(), 64 << 10);
}

#[test]
fn disks_fill_the_drives_in_order_and_discs_go_to_the_second_channel() {
    let seated = |kinds: &[DriveUse]| {
        let name = |(n, kind): (usize, &DriveUse)| spec(Path::new(&n.to_string()), *kind);
        let specs: Vec<_> = kinds.iter().enumerate().map(name).collect();
        let seats = seats(&specs).map_err(|e| e.to_string())?;
        let names = seats.map(|seat| seat.map_or("-".into(), |s| s.path.display().to_string()));
        Ok::<_, String>(names.join(" "))
    };
    assert_eq!(seated(&[DISK, DISK]).unwrap(), "0 1 - -");
    assert_eq!(seated(&[DriveUse::CdRom, DISK]).unwrap(), "1 - 0 -");
    let three = [DISK, DISK, DISK, DriveUse::CdRom];
    assert_eq!(seated(&three).unwrap(), "0 1 2 3");
    let discs = [DriveUse::CdRom, DriveUse::CdRom, DISK];
    assert_eq!(seated(&discs).unwrap(), "2 - 0 1");
    let error = seated(&[DISK; 5]).unwrap_err();
    assert!(error.contains('5') && error.contains('4'), "{error}");
}

proptest! {
    /// An overlay behaves as the file would, and leaves it as it was.
    #[test]
    fn an_overlay_is_a_copy(
        writes in prop::collection::vec((0_u64..40, 1_usize..30, any::<u8>()), 0..12),
        reads in prop::collection::vec((0_u64..40, 1_usize..30), 1..12),
    ) {
        let (_dir, path) = image(20_480 + 512);
        let before: Vec<u8> = (0..20_992_u32).map(|n| n.to_le_bytes()[1]).collect();
        fs::write(&path, &before).unwrap();
        let mut overlay = open(&path, OVERLAY).unwrap();
        let mut copy = before.clone();
        for (sector, count, fill) in writes {
            let at = usize::try_from(sector).unwrap() * 512;
            let bytes = vec![fill; count * 512];
            let fits = at + bytes.len() <= copy.len();
            prop_assert_eq!(overlay.write(at as u64, &bytes).is_ok(), fits);
            if fits {
                copy[at..at + bytes.len()].copy_from_slice(&bytes);
            }
        }
        for (sector, count) in reads {
            let at = usize::try_from(sector).unwrap() * 512;
            let mut bytes = vec![0; count * 512];
            if at + bytes.len() <= copy.len() {
                overlay.read(at as u64, &mut bytes).unwrap();
                prop_assert_eq!(&bytes, &copy[at..at + bytes.len()]);
            }
        }
        prop_assert_eq!(fs::read(&path).unwrap(), before);
    }
}
