//! The `.modinfo` section of a module: `key=value` texts, NUL-terminated.

use object::{Object, ObjectSection};

/// What a module says about its place among the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// What it asks for at run time and wants loaded before: names of modules or aliases.
    pub(super) before: Vec<String>,
    /// Names it answers to, patterns among them.
    pub(super) aliases: Vec<String>,
}

/// Reads an uncompressed module; none when it is not an ELF with that section.
pub(super) fn read(module: &[u8]) -> Option<Info> {
    let file = object::File::parse(module).ok()?;
    let section = file.section_by_name(".modinfo")?;
    let mut info = Info::default();
    for text in section.data().ok()?.split(|b| *b == 0) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        match text.split_once('=') {
            Some(("depends", list)) => {
                let names = list.split(',').filter(|name| !name.is_empty());
                info.depends.extend(names.map(str::to_owned));
            }
            Some(("softdep", text)) => info.before.extend(before(text)),
            Some(("alias", name)) => info.aliases.push(name.to_owned()),
            _ => {}
        }
    }
    Some(info)
}

/// `pre: a b post: c` gives a and b.
pub(super) fn before(softdep: &str) -> Vec<String> {
    let mut pre = false;
    let mut names = Vec::new();
    for word in softdep.split_whitespace() {
        match word {
            "pre:" => pre = true,
            "post:" => pre = false,
            name if pre => names.push(name.to_owned()),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A relocatable ELF that holds one section, `.modinfo`, and the section names.
    pub(crate) fn module(modinfo: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let info_at = 64_u64;
        let names_at = info_at + modinfo.len() as u64;
        let headers_at = names_at + names.len() as u64;
        let mut elf = vec![0; 64];
        elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0");
        elf[20] = 1;
        elf[40..48].copy_from_slice(&headers_at.to_le_bytes());
        elf[52] = 64;
        elf[58] = 64;
        elf[60] = 3;
        elf[62] = 2;
        elf.extend_from_slice(modinfo.as_bytes());
        elf.extend_from_slice(names);
        elf.extend_from_slice(&[0; 64]);
        for (name, kind, at, len) in [
            (1_u32, 1_u32, info_at, modinfo.len()),
            (10, 3, names_at, names.len()),
        ] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&at.to_le_bytes());
            header[32..40].copy_from_slice(&(len as u64).to_le_bytes());
            header[48] = 1;
            elf.extend_from_slice(&header);
        }
        elf
    }

    #[test]
    fn a_module_tells_what_it_needs_what_it_wants_and_its_names() {
        let text = "license=GPL\0alias=fs-x\0depends=irqbypass,vfio\0softdep=pre: a b post: c\0alias=pci:v*\0";
        let info = read(&module(text)).unwrap();
        assert_eq!(info.depends, ["irqbypass", "vfio"]);
        assert_eq!(info.before, ["a", "b"]);
        assert_eq!(info.aliases, ["fs-x", "pci:v*"]);
        assert_eq!(
            read(&module("license=GPL\0depends=\0")),
            Some(Info::default())
        );
    }

    #[test]
    fn what_is_no_module_gives_none_and_a_cut_one_does_no_harm() {
        let whole = module("depends=a\0");
        for len in 0..whole.len() {
            let _ = read(&whole[..len]);
        }
        assert_eq!(read(&whole[..60]), None);
        assert_eq!(read(b"text"), None);
    }
}
