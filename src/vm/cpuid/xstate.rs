//! Leaf 0xd, which says what XSAVE saves: no more than the features that are left.

use kvm_bindings::kvm_cpuid_entry2;

use super::features;

const LEAF: u32 = 0xd;
/// The legacy region and the header of an XSAVE area (SDM 1, 13.4).
const FIXED: u32 = 512 + 64;

/// State components by the feature they come with (SDM 1, 13.1); x87 and SSE are always there, and
/// bits that are not here are supervisor state or unknown, and stay.
const COMPONENTS: [(u8, &str); 10] = [
    (2, "avx"),
    (3, "mpx"),
    (4, "mpx"),
    (5, "avx512f"),
    (6, "avx512f"),
    (7, "avx512f"),
    (9, "pku"),
    (17, "amx_tile"),
    (18, "amx_tile"),
    (62, "lwp"),
];

/// Takes out the state of features that are gone; all of the leaf when XSAVE is.
pub(super) fn fit(entries: &mut Vec<kvm_cpuid_entry2>) {
    let has = |entries: &[kvm_cpuid_entry2], name| features::bits(name).any(|f| f.is_set(entries));
    if !has(entries, "xsave") {
        entries.retain(|entry| entry.function != LEAF);
        return;
    }
    let gone: Vec<u8> = COMPONENTS
        .iter()
        .filter(|(_, feature)| !has(entries, feature))
        .map(|(component, _)| *component)
        .collect();
    let lost = gone.iter().fold(0, |mask: u64, bit| mask | 1 << bit);
    let supervisor = has(entries, "xsaves");
    let is_user = |entry: &kvm_cpuid_entry2| entry.ecx & 1 == 0;
    entries.retain(|entry| {
        entry.function != LEAF
            || entry.index < 2
            || !gone.iter().any(|bit| u32::from(*bit) == entry.index)
                && (supervisor || is_user(entry))
    });
    let ends = entries
        .iter()
        .filter(|entry| entry.function == LEAF && entry.index >= 2 && is_user(entry))
        .map(|entry| entry.ebx.saturating_add(entry.eax));
    let size = ends.max().unwrap_or(0).max(FIXED);
    let halves = lost.to_le_bytes();
    let [a, b, c, d, e, f, g, h] = halves;
    let (low, high) = (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    );
    for entry in entries.iter_mut().filter(|entry| entry.function == LEAF) {
        match entry.index {
            // EBX, the size of what is enabled now, is kept by KVM.
            0 => (entry.eax, entry.edx, entry.ecx) = (entry.eax & !low, entry.edx & !high, size),
            1 if !supervisor => (entry.ecx, entry.edx) = (0, 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(index: u32, eax: u32, ebx: u32, ecx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function: LEAF,
            index,
            eax,
            ebx,
            ecx,
            ..Default::default()
        }
    }

    fn cpu(features_on: &[&str]) -> Vec<kvm_cpuid_entry2> {
        let one = |function| kvm_cpuid_entry2 {
            function,
            ..Default::default()
        };
        let mut entries = vec![
            one(1),
            one(7),
            leaf(0, 0xe7, 2440, 2696),
            leaf(1, 0, 0, 0x1800),
            leaf(2, 256, 576, 0),
            leaf(5, 64, 832, 0),
            leaf(6, 512, 896, 0),
            leaf(7, 1024, 1408, 0),
            leaf(9, 8, 2688, 0),
            leaf(11, 16, 0, 1),
        ];
        for name in features_on {
            features::bits(name).for_each(|f| f.put(&mut entries, true));
        }
        entries
    }

    fn of(entries: &[kvm_cpuid_entry2]) -> Vec<u32> {
        let leaf = entries.iter().filter(|e| e.function == LEAF);
        leaf.map(|e| e.index).collect()
    }

    #[test]
    fn the_area_ends_with_the_last_state_that_is_left() {
        let mut all = cpu(&["xsave", "avx", "avx512f", "pku", "xsaves"]);
        fit(&mut all);
        assert_eq!((all[2].eax, all[2].ecx), (0xe7, 2696));
        let mut avx = cpu(&["xsave", "avx"]);
        fit(&mut avx);
        assert_eq!((avx[2].eax, avx[2].ecx), (7, 832));
        assert_eq!(of(&avx), [0, 1, 2], "supervisor state goes with xsaves");
        let mut none = cpu(&["xsave"]);
        fit(&mut none);
        assert_eq!((none[2].eax, none[2].ecx), (3, FIXED));
    }

    #[test]
    fn without_xsave_there_is_no_leaf() {
        let mut none = cpu(&[]);
        fit(&mut none);
        assert_eq!(of(&none), [0_u32; 0]);
    }
}
