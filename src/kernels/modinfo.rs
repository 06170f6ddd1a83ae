//! The `.modinfo` section of a module: `key=value` texts, NUL-terminated.

use object::{Object, ObjectSection};

/// The modules that `module` (an uncompressed ELF) says it needs, by name; none when the file is not
/// an ELF with that section.
pub(super) fn depends(module: &[u8]) -> Option<Vec<String>> {
    let file = object::File::parse(module).ok()?;
    let section = file.section_by_name(".modinfo")?;
    let data = section.data().ok()?;
    let texts = data
        .split(|b| *b == 0)
        .filter_map(|text| std::str::from_utf8(text).ok());
    Some(
        texts
            .filter_map(|text| text.strip_prefix("depends="))
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
    )
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
    fn dependencies_are_read_from_the_section() {
        let of = |text| depends(&module(text)).unwrap();
        assert_eq!(
            of("license=GPL\0depends=irqbypass,vfio\0name=x\0"),
            ["irqbypass", "vfio"]
        );
        assert!(of("license=GPL\0depends=\0name=x\0").is_empty());
        assert!(of("license=GPL\0").is_empty());
    }

    #[test]
    fn what_is_no_module_gives_none_wherever_it_is_cut() {
        let whole = module("depends=a\0");
        for len in 0..whole.len() {
            let _ = depends(&whole[..len]);
        }
        assert_eq!(depends(&whole[..60]), None);
        assert_eq!(depends(b"text"), None);
    }
}
