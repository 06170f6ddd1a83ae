//! The data that packet commands bring (MMC-3, chapters 5 and 6; SPC-2, 7.3).

/// A disc with more sectors than an 80-minute CD is a DVD.
const CD_SECTORS: u64 = 80 * 60 * 75;
/// Profiles.
const CD_ROM: u16 = 0x08;
const DVD_ROM: u16 = 0x10;
/// The track that follows the last one.
const LEAD_OUT: u8 = 0xaa;
/// A data track that may be copied: ADR 1, control 4.
const DATA_TRACK: u8 = 0x14;
/// The two seconds before sector 0, in frames of a 75th of a second.
const PREGAP: u64 = 150;
/// GET EVENT STATUS NOTIFICATION: the class of media events.
const MEDIA: u8 = 4;

fn dword(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

fn word(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes()
}

/// INQUIRY: a removable CD-ROM drive behind ATAPI.
pub(super) fn inquiry() -> Vec<u8> {
    let mut bytes = vec![0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    bytes.extend(b"TRAPLINE");
    bytes.extend(b"CD-ROM          ");
    bytes.extend(env!("CARGO_PKG_VERSION").bytes().chain([b' '; 4]).take(4));
    bytes
}

/// READ CAPACITY: the last sector, and the length of each.
pub(super) fn capacity(sectors: u64) -> Vec<u8> {
    let mut bytes = dword(sectors.saturating_sub(1)).to_vec();
    bytes.extend(dword(2048));
    bytes
}

/// An address in a table of contents: a sector, or minutes, seconds and frames.
fn address(sector: u64, msf: bool) -> [u8; 4] {
    if !msf {
        return dword(sector);
    }
    let frames = sector.saturating_add(PREGAP);
    let byte = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
    [
        0,
        byte(frames / (60 * 75)),
        byte(frames / 75 % 60),
        byte(frames % 75),
    ]
}

/// READ TOC: the tracks from `first` on, or the first session; none for formats that no data disc
/// needs.
pub(super) fn contents(format: u8, msf: bool, first: u8, sectors: u64) -> Option<Vec<u8>> {
    let track = |number: u8, sector| {
        let [a, b, c, d] = address(sector, msf);
        [0, DATA_TRACK, number, 0, a, b, c, d]
    };
    let mut rows = Vec::new();
    match format {
        0 => {
            if first > 1 && first != LEAD_OUT {
                return None;
            }
            if first <= 1 {
                rows.push(track(1, 0));
            }
            rows.push(track(LEAD_OUT, sectors));
        }
        1 => rows.push(track(1, 0)),
        _ => return None,
    }
    let rows = rows.concat();
    let [high, low] = word(rows.len().saturating_add(2));
    Some([vec![high, low, 1, 1], rows].concat())
}

/// GET CONFIGURATION: features from `first` on; `kind` 2 asks for that one alone.
pub(super) fn configuration(kind: u8, first: u32, sectors: u64) -> Option<Vec<u8>> {
    if kind == 3 {
        return None;
    }
    let profile = if sectors > CD_SECTORS {
        DVD_ROM
    } else {
        CD_ROM
    };
    let row = |of: u16| {
        let [high, low] = of.to_be_bytes();
        [high, low, u8::from(of == profile), 0]
    };
    // Feature code, flags (version, persistent, current), length, data.
    let profiles = [[0, 0, 0x03, 8], row(DVD_ROM), row(CD_ROM)].concat();
    let core = vec![0, 1, 0x03, 4, 0, 0, 0, 2];
    let removable = vec![0, 3, 0x03, 4, 0x39, 0, 0, 0];
    let all = [(0_u32, profiles), (1, core), (3, removable)];
    let wanted = all.into_iter().filter(|(code, _)| match kind {
        2 => *code == first,
        _ => *code >= first,
    });
    let features: Vec<u8> = wanted.flat_map(|(_, bytes)| bytes).collect();
    let mut bytes = dword(features.len().saturating_add(4) as u64).to_vec();
    bytes.extend([0, 0]);
    bytes.extend(profile.to_be_bytes());
    bytes.extend(features);
    Some(bytes)
}

/// GET EVENT STATUS NOTIFICATION for the classes in `wanted`: a disc is in, and nothing happened.
pub(super) fn events(wanted: u8) -> Vec<u8> {
    if wanted & 1 << MEDIA == 0 {
        return vec![0, 2, 0x80, 1 << MEDIA];
    }
    vec![0, 6, MEDIA, 1 << MEDIA, 0, 0x02, 0, 0]
}

/// MODE SENSE of a page, or of all; none for pages that are not there. `control` 1 asks for what can
/// be changed: nothing.
pub(super) fn mode(page: u8, control: u8) -> Option<Vec<u8>> {
    const RECOVERY: [u8; 8] = [0x01, 6, 0, 5, 0, 0, 0, 0];
    // Reads no audio; takes the disc in a tray, which can be locked; 706 kB/s.
    const CAPABILITIES: [u8; 20] = [
        0x2a, 18, 0x3b, 0, 0x70, 0x60, 0x29, 0, 0x02, 0xc2, 0, 2, 2, 0, 0x02, 0xc2, 0, 0, 0, 0,
    ];
    let pages: &[&[u8]] = match page {
        0x01 => &[&RECOVERY],
        0x2a => &[&CAPABILITIES],
        0x3f => &[&RECOVERY, &CAPABILITIES],
        _ => return None,
    };
    let mut body = Vec::new();
    for page in pages {
        let bytes = page.iter().enumerate();
        body.extend(bytes.map(|(at, byte)| if control == 1 && at > 1 { 0 } else { *byte }));
    }
    let [high, low] = word(body.len().saturating_add(6));
    // Medium type: a data disc of 120 mm.
    let header = vec![high, low, 0x01, 0, 0, 0, 0, 0];
    Some([header, body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_out_follows_the_last_sector() {
        let toc = contents(0, false, 0, 1000).unwrap();
        assert_eq!(toc.len(), 20);
        assert_eq!(toc[..4], [0, 18, 1, 1]);
        assert_eq!(toc[14], LEAD_OUT);
        assert_eq!(toc[16..], 1000_u32.to_be_bytes());
        let toc = contents(0, true, LEAD_OUT, 4500).unwrap();
        assert_eq!(toc[8..], [0, 1, 2, 0], "a minute, and the pregap");
        assert!(contents(0, false, 2, 1000).is_none());
        assert!(contents(5, false, 0, 1000).is_none());
    }

    #[test]
    fn every_length_field_tells_the_length() {
        for page in [1, 0x2a, 0x3f] {
            let bytes = mode(page, 0).unwrap();
            let told = u16::from_be_bytes([bytes[0], bytes[1]]);
            assert_eq!(usize::from(told) + 2, bytes.len());
        }
        for (kind, first) in [(0, 0), (1, 1), (2, 3), (2, 9)] {
            let bytes = configuration(kind, first, 1000).unwrap();
            let told = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            assert_eq!(told as usize + 4, bytes.len());
        }
        assert_eq!(inquiry().len(), 36);
        assert_eq!(usize::from(inquiry()[4]) + 5, 36);
    }

    #[test]
    fn a_disc_too_large_for_a_cd_is_a_dvd() {
        let profile = |sectors| configuration(0, 0, sectors).unwrap()[7];
        assert_eq!([profile(1000), profile(2_000_000)], [0x08, 0x10]);
    }
}
