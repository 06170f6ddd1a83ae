//! Who made the processor, and which one it is.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

use super::features;
use super::words::Profile;

/// Bits of leaf 1 EDX that AMD repeats in leaf 0x80000001 EDX and Intel reserves (APM 3, E.4.2).
const REPEATED: u32 = 0x0183_f3ff;
const INTEL_CACHES: u32 = 4;
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
const EXTENDED_TOPOLOGY: u32 = 0xb;

/// Vendor, family, model and stepping as the profile has them.
pub(super) fn write(entries: &mut Vec<kvm_cpuid_entry2>, profile: &Profile) {
    if let Some(vendor) = profile.vendor {
        let amd = is_amd(entries);
        rename(entries, vendor);
        if amd != is_amd(entries) {
            let unasked = |name: &&&str| !profile.features.contains(&(**name, true));
            let bits = HYPERCALLS
                .iter()
                .filter(unasked)
                .flat_map(|name| features::bits(name));
            bits.for_each(|bit| bit.put(entries, false));
        }
    }
    number(entries, profile);
    repeat(entries);
}

fn of(entries: &mut [kvm_cpuid_entry2], function: u32) -> Option<&mut kvm_cpuid_entry2> {
    entries.iter_mut().find(|entry| entry.function == function)
}

/// EBX, EDX and ECX spell the name.
fn words(vendor: [u8; 12]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(vendor.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

fn is(entries: &[kvm_cpuid_entry2], vendors: &[&[u8; 12]]) -> bool {
    let leaf = entries.iter().find(|entry| entry.function == 0);
    leaf.is_some_and(|e| vendors.iter().any(|v| words(**v) == [e.ebx, e.edx, e.ecx]))
}

fn is_amd(entries: &[kvm_cpuid_entry2]) -> bool {
    is(entries, &[b"AuthenticAMD", b"HygonGenuine"])
}

/// Features that come with hypercalls. Intel's guests make them by VMCALL and AMD's by VMMCALL; on the other's
/// processor KVM rewrites the instruction where it stands (api.rst 7.34, KVM_X86_QUIRK_FIX_HYPERCALL_INSN), in code
/// that Linux has made read-only.
const HYPERCALLS: [&str; 4] = [
    "kvm_pv_unhalt",
    "kvm_pv_tlb_flush",
    "kvm_pv_ipi",
    "kvm_pv_sched_yield",
];

/// Another vendor's guests look for caches and cores in leaves of their own: what the host says of its caches
/// is said there, in the same form.
fn rename(entries: &mut Vec<kvm_cpuid_entry2>, vendor: [u8; 12]) {
    for function in [0, 0x8000_0000] {
        if let Some(leaf) = of(entries, function) {
            [leaf.ebx, leaf.edx, leaf.ecx] = words(vendor);
        }
    }
    if is_amd(entries) {
        copy(entries, INTEL_CACHES, AMD_CACHES);
        add(entries, AMD_TOPOLOGY, 0);
        features::bits("topoext").for_each(|f| f.put(entries, true));
    } else {
        copy(entries, AMD_CACHES, INTEL_CACHES);
        add(entries, EXTENDED_TOPOLOGY, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    }
    entries.sort_by_key(|entry| (entry.function, entry.index));
    for base in [0, 0x8000_0000_u32] {
        let last = entries
            .iter()
            .map(|entry| entry.function)
            .filter(|function| (base..base | 0xffff).contains(function))
            .max();
        if let (Some(leaf), Some(last)) = (of(entries, base), last) {
            leaf.eax = leaf.eax.max(last);
        }
    }
}

fn copy(entries: &mut Vec<kvm_cpuid_entry2>, from: u32, to: u32) {
    let has = |entry: &&kvm_cpuid_entry2| entry.function == to && entry.eax & 0x1f != 0;
    if entries.iter().any(|entry| has(&entry)) {
        return;
    }
    let caches = entries.iter().filter(|entry| entry.function == from);
    let caches: Vec<_> = caches
        .map(|entry| kvm_cpuid_entry2 {
            function: to,
            ..*entry
        })
        .collect();
    entries.retain(|entry| entry.function != to);
    entries.extend(caches);
}

fn add(entries: &mut Vec<kvm_cpuid_entry2>, function: u32, flags: u32) {
    if of(entries, function).is_none() {
        entries.push(kvm_cpuid_entry2 {
            function,
            flags,
            ..Default::default()
        });
    }
}

/// SDM 2A, figure 3-6: the extended family is added when the family is 15; AMD says the same in leaf
/// 0x80000001.
fn number(entries: &mut [kvm_cpuid_entry2], profile: &Profile) {
    let amd = is_amd(entries);
    let Some(leaf) = of(entries, 1) else { return };
    let mut eax = leaf.eax;
    if let Some(family) = profile.family {
        let (low, extended) = (family.min(0xf), family.saturating_sub(0xf));
        eax = eax & !(0xf << 8 | 0xff << 20) | low << 8 | extended << 20;
    }
    if let Some(model) = profile.model_number {
        eax = eax & !(0xf << 4 | 0xf << 16) | (model & 0xf) << 4 | (model >> 4 & 0xf) << 16;
    }
    if let Some(stepping) = profile.stepping {
        eax = eax & !0xf | stepping;
    }
    leaf.eax = eax;
    if amd && let Some(leaf) = of(entries, 0x8000_0001) {
        leaf.eax = eax;
    }
}

fn repeat(entries: &mut [kvm_cpuid_entry2]) {
    let amd = is_amd(entries);
    let Some(edx) = of(entries, 1).map(|leaf| leaf.edx) else {
        return;
    };
    if let Some(leaf) = of(entries, 0x8000_0001) {
        leaf.edx = leaf.edx & !REPEATED | if amd { edx & REPEATED } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vendor: &[u8; 12], functions: &[u32]) -> Vec<kvm_cpuid_entry2> {
        let leaf = |function: &u32| kvm_cpuid_entry2 {
            function: *function,
            eax: if matches!(*function, INTEL_CACHES | AMD_CACHES) {
                0x121
            } else {
                0
            },
            edx: if *function == 1 { u32::MAX } else { 0 },
            ..Default::default()
        };
        let mut entries: Vec<_> = [0, 1, 0x8000_0000, 0x8000_0001]
            .iter()
            .chain(functions)
            .map(leaf)
            .collect();
        for function in [0, 0x8000_0000] {
            let leaf = of(&mut entries, function).unwrap();
            [leaf.ebx, leaf.edx, leaf.ecx] = words(*vendor);
        }
        entries
    }

    fn changed(mut entries: Vec<kvm_cpuid_entry2>, profile: &str) -> Vec<kvm_cpuid_entry2> {
        write(&mut entries, &profile.parse().unwrap());
        entries
    }

    #[test]
    fn a_vendor_is_said_in_both_ranges_and_caches_move_to_where_it_has_them() {
        let amd = cpu(b"AuthenticAMD", &[AMD_CACHES, AMD_TOPOLOGY]);
        let mut intel = changed(amd, "host,vendor=intel");
        for function in [0, 0x8000_0000] {
            let leaf = of(&mut intel, function).unwrap();
            assert_eq!([leaf.ebx, leaf.edx, leaf.ecx], words(*b"GenuineIntel"));
        }
        assert_eq!(of(&mut intel, INTEL_CACHES).unwrap().eax, 0x121);
        assert_eq!(of(&mut intel, 0).unwrap().eax, EXTENDED_TOPOLOGY);
        assert_eq!(of(&mut intel, 0x8000_0001).unwrap().edx & REPEATED, 0);
        let mut amd = changed(cpu(b"GenuineIntel", &[INTEL_CACHES]), "host,vendor=amd");
        assert_eq!(of(&mut amd, AMD_CACHES).unwrap().eax, 0x121);
        assert_eq!(of(&mut amd, 0x8000_0000).unwrap().eax, AMD_TOPOLOGY);
        assert_eq!(of(&mut amd, 0x8000_0001).unwrap().edx & REPEATED, REPEATED);
        assert!(features::bits("topoext").all(|f| f.is_set(&amd)));
    }

    #[test]
    fn hypercalls_go_with_the_vendor_whose_instruction_makes_them() {
        let has = |profile: &str| {
            let mut host = cpu(b"AuthenticAMD", &[0x4000_0001]);
            of(&mut host, 0x4000_0001).unwrap().eax = u32::MAX;
            let made = changed(host, profile);
            ["kvm_pv_unhalt", "kvm_steal_time"].map(|f| features::bits(f).all(|b| b.is_set(&made)))
        };
        assert_eq!(has("host,vendor=hygon"), [true, true]);
        assert_eq!(has("host,vendor=intel"), [false, true]);
        assert_eq!(has("host,vendor=intel,+kvm_pv_unhalt"), [true, true]);
    }

    #[test]
    fn family_and_model_are_split_as_the_manual_has_it() {
        let mut made = changed(
            cpu(b"AuthenticAMD", &[]),
            "host,family=25,model=0x61,stepping=2",
        );
        assert_eq!(of(&mut made, 1).unwrap().eax, 0x00a6_0f12);
        assert_eq!(of(&mut made, 0x8000_0001).unwrap().eax, 0x00a6_0f12);
    }
}
