//! A small ISO 9660 image, made by hand (ECMA-119): a volume descriptor, its terminator, two path
//! tables, a root directory with one file.

/// What the file says.
pub(crate) const DISC_FILE: &str = "hello from a disc";

const SECTOR: usize = 2048;
/// Where things lie, in sectors.
const PATHS_LITTLE: u32 = 18;
const PATHS_BIG: u32 = 19;
const ROOT: u32 = 20;
const FILE: u32 = 21;
const SECTORS: u32 = 64;

/// A number of both byte orders.
fn both(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn both_short(value: u16) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

/// A directory record (9.1).
fn record(at: u32, len: usize, folder: bool, name: &[u8]) -> Vec<u8> {
    let len = u32::try_from(len).expect("small");
    // 2026-01-02 03:04:05, UTC.
    let date = [126, 1, 2, 3, 4, 5, 0];
    let name_len = u8::try_from(name.len()).expect("short");
    let mut bytes = vec![0, 0];
    bytes.extend([both(at), both(len), date.to_vec()].concat());
    bytes.extend([if folder { 2 } else { 0 }, 0, 0]);
    bytes.extend(both_short(1));
    bytes.push(name_len);
    bytes.extend(name);
    if name_len % 2 == 0 {
        bytes.push(0);
    }
    bytes[0] = u8::try_from(bytes.len()).expect("short");
    bytes
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The image.
pub(crate) fn disc_image() -> Vec<u8> {
    let sector = |n: u32| usize::try_from(n).expect("small") * SECTOR;
    let mut image = vec![0; sector(SECTORS)];
    let text = format!("{DISC_FILE}\n");

    let volume = 16 * SECTOR;
    put(&mut image, volume, b"\x01CD001\x01");
    put(&mut image, volume + 8, &[b' '; 64]);
    put(&mut image, volume + 40, b"TRAPLINE");
    put(&mut image, volume + 80, &both(SECTORS));
    for at in [120, 124] {
        put(&mut image, volume + at, &both_short(1));
    }
    put(&mut image, volume + 128, &both_short(2048));
    put(&mut image, volume + 132, &both(10));
    put(&mut image, volume + 140, &PATHS_LITTLE.to_le_bytes());
    put(&mut image, volume + 148, &PATHS_BIG.to_be_bytes());
    put(&mut image, volume + 156, &record(ROOT, SECTOR, true, &[0]));
    put(&mut image, volume + 190, &[b' '; 623]);
    put(&mut image, volume + 881, &[1]);
    put(&mut image, 17 * SECTOR, b"\xffCD001\x01");

    let path = |at: [u8; 4], parent: [u8; 2]| [&[1, 0], &at[..], &parent[..], &[0, 0]].concat();
    put(
        &mut image,
        sector(PATHS_LITTLE),
        &path(ROOT.to_le_bytes(), [1, 0]),
    );
    put(
        &mut image,
        sector(PATHS_BIG),
        &path(ROOT.to_be_bytes(), [0, 1]),
    );

    let folder = [
        record(ROOT, SECTOR, true, &[0]),
        record(ROOT, SECTOR, true, &[1]),
        record(FILE, text.len(), false, b"HELLO.TXT;1"),
    ];
    put(&mut image, sector(ROOT), &folder.concat());
    put(&mut image, sector(FILE), text.as_bytes());
    image
}
