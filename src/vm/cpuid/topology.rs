//! The leaves that differ from vCPU to vCPU, and from the host's: how many there are, and which one this is.
//!
//! One package, one die, one thread per core; APIC ids run from 0. SDM 2A "CPUID" and AMD APM 3
//! appendix E give the leaves.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// What makes one vCPU's CPUID differ from another's, and from the host's.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    /// This vCPU's APIC id.
    pub apic_id: u8,
    /// vCPUs in the machine, 1 to 255.
    pub cpus: u8,
}

impl Topology {
    /// Bits of an APIC id that tell cores of the package apart.
    const fn core_bits(self) -> u32 {
        (self.cpus as u32).next_power_of_two().trailing_zeros()
    }
}

const HTT: u32 = 1 << 28;
/// AMD, leaf 0x80000001 ECX: legacy multi-core.
const CMP_LEGACY: u32 = 1 << 1;
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// Makes the machine's CPUID that of one vCPU.
#[must_use]
pub fn of_vcpu(machine: &[kvm_cpuid_entry2], topology: Topology) -> Vec<kvm_cpuid_entry2> {
    let mut entries: Vec<_> = machine
        .iter()
        .copied()
        // The topology leaves are written whole below.
        .filter(|e| e.function != 0xb && e.function != 0x1f)
        .collect();
    let has_extended_topology = machine.iter().any(|e| e.function == 0xb);
    for entry in &mut entries {
        apply(entry, topology);
    }
    if has_extended_topology {
        entries.extend(extended_topology(topology));
        entries.sort_by_key(|e| (e.function, e.index));
    }
    // 0x1f is gone: the highest leaf must not promise it (SDM 2A, leaf 0).
    let highest = entries
        .iter()
        .map(|e| e.function)
        .filter(|f| *f < 0x4000_0000)
        .max();
    if let (Some(leaf0), Some(highest)) = (entries.iter_mut().find(|e| e.function == 0), highest) {
        leaf0.eax = leaf0.eax.min(highest);
    }
    entries
}

fn apply(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let id = u32::from(topology.apic_id);
    let cpus = u32::from(topology.cpus);
    let others = cpus.saturating_sub(1);
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0xffff) | id << 24 | cpus << 16;
            set(&mut entry.edx, HTT, cpus > 1);
        }
        // Deterministic caches: level 1 and 2 belong to a core, level 3 to the package.
        4 if entry.eax & 0x1f != 0 => {
            let sharing = if level(entry.eax) >= 3 { others } else { 0 };
            let ids = others.checked_add(1).map_or(others, u32::next_power_of_two);
            let cores = ids.saturating_sub(1).min(0x3f);
            entry.eax = (entry.eax & 0x3fff) | sharing.min(0xfff) << 14 | cores << 26;
        }
        0x8000_0001 => {
            let on = cpus > 1 && is_amd_shape(entry);
            set(&mut entry.ecx, CMP_LEGACY, on);
        }
        0x8000_0008 => entry.ecx = others.min(0xff) | topology.core_bits() << 12,
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let sharing = if level(entry.eax) >= 3 { others } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | sharing.min(0xfff) << 14;
        }
        0x8000_001e => {
            entry.eax = id;
            entry.ebx = id;
            entry.ecx = 0;
        }
        _ => {}
    }
}

const fn level(eax: u32) -> u32 {
    eax >> 5 & 7
}

/// The legacy multi-core bit exists only beside AMD's other bits of the leaf: SVM or topology
/// extensions or the SSE4A group, which Intel reserves.
const fn is_amd_shape(entry: &kvm_cpuid_entry2) -> bool {
    const SSE4A: u32 = 1 << 6;
    const TOPOEXT: u32 = 1 << 22;
    entry.ecx & (SSE4A | TOPOEXT) != 0
}

fn set(word: &mut u32, bit: u32, on: bool) {
    *word = if on { *word | bit } else { *word & !bit };
}

fn extended_topology(topology: Topology) -> [kvm_cpuid_entry2; 3] {
    let leaf = |index, shift, count, kind| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: index | kind,
        edx: u32::from(topology.apic_id),
        ..Default::default()
    };
    [
        leaf(0, 0, 1, LEVEL_SMT),
        leaf(
            1,
            topology.core_bits(),
            u32::from(topology.cpus),
            LEVEL_CORE,
        ),
        leaf(2, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            ..Default::default()
        }
    }

    fn made(entries: &[kvm_cpuid_entry2], apic_id: u8, cpus: u8) -> Vec<kvm_cpuid_entry2> {
        of_vcpu(entries, Topology { apic_id, cpus })
    }

    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
        *entries
            .iter()
            .find(|e| e.function == function && e.index == index)
            .unwrap()
    }

    #[test]
    fn every_leaf_that_names_the_apic_id_names_the_same() {
        let host = [
            entry(0, 0),
            entry(1, 0),
            entry(0xb, 0),
            entry(0x8000_001e, 0),
        ];
        for id in [0, 1, 5] {
            let made = made(&host, id, 6);
            let id = u32::from(id);
            assert_eq!(find(&made, 1, 0).ebx >> 24, id);
            assert!((0..3).all(|i| find(&made, 0xb, i).edx == id));
            assert_eq!(find(&made, 0x8000_001e, 0).eax, id);
        }
    }

    #[test]
    fn the_core_level_counts_all_and_shifts_past_them() {
        for (cpus, bits) in [(1, 0), (2, 1), (3, 2), (8, 3), (255, 8)] {
            let core = find(&made(&[entry(0xb, 0)], 0, cpus), 0xb, 1);
            assert_eq!((core.eax, core.ebx), (bits, u32::from(cpus)));
        }
    }

    #[test]
    fn one_cpu_is_not_multithreaded() {
        let mut host = entry(1, 0);
        host.edx = HTT;
        let leaf = find(&made(&[host], 0, 1), 1, 0);
        assert_eq!(leaf.edx & HTT, 0);
    }

    #[test]
    fn leaf_zero_promises_no_leaf_that_was_taken_away() {
        let mut zero = entry(0, 0);
        zero.eax = 0x1f;
        let made = made(&[zero, entry(0xd, 0), entry(0x1f, 0)], 0, 2);
        assert_eq!(find(&made, 0, 0).eax, 0xd);
        assert!(made.iter().all(|e| e.function != 0x1f));
    }

    #[test]
    fn the_last_level_cache_is_shared_by_all_and_the_first_by_none() {
        let cache = |index, level: u32| {
            let mut leaf = entry(4, index);
            leaf.eax = 1 | level << 5;
            leaf
        };
        let made = made(&[cache(0, 1), cache(1, 3)], 0, 8);
        assert_eq!(find(&made, 4, 0).eax >> 14 & 0xfff, 0);
        assert_eq!(find(&made, 4, 1).eax >> 14 & 0xfff, 7);
    }
}
