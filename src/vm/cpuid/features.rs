//! Feature bits by name, as Linux's /proc/cpuinfo spells them and as QEMU does.

use kvm_bindings::kvm_cpuid_entry2;

use crate::msr::names::Reg;

/// Who a feature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Instructions that a program may use: what the levels of the x86-64 psABI are about.
    User,
    /// For the kernel.
    System,
    /// KVM's own, for guests that know it.
    Pv,
}

/// One bit of CPUID with a name. A name may have several bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Linux's name; QEMU's or the manual's where Linux shows none.
    pub name: &'static str,
    /// Other names in wide use.
    pub aka: &'static [&'static str],
    /// Leaf.
    pub leaf: u32,
    /// Sub-leaf.
    pub subleaf: u32,
    /// Register.
    pub reg: Reg,
    /// Bit.
    pub bit: u8,
    /// Who it is for.
    pub kind: Kind,
}

macro_rules! features {
    ($($leaf:literal / $sub:literal $reg:ident {
        $($kind:ident { $($bit:literal $name:literal $(= $aka:literal)*),* $(,)? })*
    })*) => {
        &[$($($(Feature {
            name: $name,
            aka: &[$($aka),*],
            leaf: $leaf,
            subleaf: $sub,
            reg: Reg::$reg,
            bit: $bit,
            kind: Kind::$kind,
        }),*),*),*]
    };
}

// SDM 2A "CPUID"; APM 3, appendix E; Linux, asm/cpufeatures.h and asm/kvm_para.h; QEMU, target/i386.
// OSXSAVE and OSPKE follow CR4; HTT and CMP_LEGACY follow --cpus: none of them is a choice.
const TABLE: &[Feature] = features! {
    0x1/0 Ecx {
        User {
            0 "pni" = "sse3", 1 "pclmulqdq" = "pclmul", 9 "ssse3", 12 "fma", 13 "cx16" = "cmpxchg16b",
            19 "sse4_1", 20 "sse4_2", 22 "movbe", 23 "popcnt", 25 "aes" = "aesni", 26 "xsave", 28 "avx",
            29 "f16c", 30 "rdrand",
        }
        System {
            2 "dtes64", 3 "monitor", 4 "ds_cpl", 5 "vmx", 6 "smx", 7 "est", 8 "tm2", 10 "cid", 14 "xtpr",
            15 "pdcm", 17 "pcid", 18 "dca", 21 "x2apic", 24 "tsc_deadline_timer" = "tsc_deadline",
            31 "hypervisor",
        }
    }
    0x1/0 Edx {
        User {
            0 "fpu", 8 "cx8" = "cmpxchg8b", 15 "cmov", 23 "mmx", 24 "fxsr", 25 "sse", 26 "sse2",
        }
        System {
            1 "vme", 2 "de", 3 "pse", 4 "tsc", 5 "msr", 6 "pae", 7 "mce", 9 "apic", 11 "sep", 12 "mtrr",
            13 "pge", 14 "mca", 16 "pat", 17 "pse36", 18 "pn", 19 "clflush" = "clfsh", 21 "dts" = "ds",
            22 "acpi", 27 "ss", 29 "tm", 31 "pbe",
        }
    }
    0x6/0 Eax { System { 2 "arat" } }
    0x7/0 Ebx {
        User {
            0 "fsgsbase", 3 "bmi1", 4 "hle", 5 "avx2", 8 "bmi2", 9 "erms", 11 "rtm", 14 "mpx",
            16 "avx512f", 17 "avx512dq", 18 "rdseed", 19 "adx", 21 "avx512ifma" = "avx512_ifma",
            23 "clflushopt", 24 "clwb", 26 "avx512pf", 27 "avx512er", 28 "avx512cd",
            29 "sha_ni" = "sha", 30 "avx512bw", 31 "avx512vl",
        }
        System {
            1 "tsc_adjust", 2 "sgx", 7 "smep", 10 "invpcid", 12 "cqm", 15 "rdt_a", 20 "smap",
            25 "intel_pt",
        }
    }
    0x7/0 Ecx {
        User {
            1 "avx512vbmi" = "avx512_vbmi", 3 "pku", 5 "waitpkg", 6 "avx512_vbmi2", 8 "gfni", 9 "vaes",
            10 "vpclmulqdq", 11 "avx512_vnni", 12 "avx512_bitalg", 14 "avx512_vpopcntdq", 22 "rdpid",
            25 "cldemote", 27 "movdiri", 28 "movdir64b", 29 "enqcmd",
        }
        System {
            2 "umip", 7 "user_shstk" = "shstk", 16 "la57", 24 "bus_lock_detect", 30 "sgx_lc",
            31 "pks",
        }
    }
    0x7/0 Edx {
        User {
            2 "avx512_4vnniw", 3 "avx512_4fmaps", 4 "fsrm", 8 "avx512_vp2intersect", 14 "serialize",
            16 "tsxldtrk", 22 "amx_bf16", 23 "avx512_fp16", 24 "amx_tile", 25 "amx_int8",
        }
        System {
            10 "md_clear", 18 "pconfig", 19 "arch_lbr", 20 "ibt", 26 "spec_ctrl", 27 "intel_stibp" = "stibp",
            28 "flush_l1d", 29 "arch_capabilities", 30 "core_capability", 31 "ssbd" = "spec_ctrl_ssbd",
        }
    }
    0x7/1 Eax {
        User {
            4 "avx_vnni", 5 "avx512_bf16", 7 "cmpccxadd", 10 "fzrm", 11 "fsrs", 12 "fsrc",
            21 "amx_fp16", 23 "avx_ifma",
        }
        System { 17 "fred", 18 "lkgs", 26 "lam" }
    }
    0x7/1 Edx {
        User { 4 "avx_vnni_int8", 5 "avx_ne_convert", 8 "amx_complex", 14 "prefetchiti" }
    }
    0xd/1 Eax {
        User { 0 "xsaveopt", 1 "xsavec", 2 "xgetbv1" }
        System { 3 "xsaves", 4 "xfd" }
    }
    0x80000001/0 Ecx {
        User {
            0 "lahf_lm", 5 "abm" = "lzcnt", 6 "sse4a", 7 "misalignsse", 8 "3dnowprefetch", 11 "xop",
            15 "lwp", 16 "fma4", 21 "tbm", 29 "mwaitx",
        }
        System {
            2 "svm", 3 "extapic", 4 "cr8_legacy" = "cr8legacy", 9 "osvw", 10 "ibs", 12 "skinit", 13 "wdt",
            17 "tce", 22 "topoext", 23 "perfctr_core", 24 "perfctr_nb", 26 "bpext" = "dbext", 27 "ptsc",
            28 "perfctr_llc",
        }
    }
    0x80000001/0 Edx {
        User { 11 "syscall", 22 "mmxext", 27 "rdtscp", 30 "3dnowext", 31 "3dnow" }
        System { 20 "nx", 25 "fxsr_opt" = "ffxsr", 26 "pdpe1gb", 29 "lm" }
    }
    0x80000007/0 Edx { System { 8 "invtsc" = "nonstop_tsc" = "constant_tsc" } }
    0x80000008/0 Ebx {
        User { 0 "clzero", 9 "wbnoinvd" }
        System {
            1 "irperf", 2 "xsaveerptr", 12 "ibpb" = "amd_ibpb", 14 "amd_ibrs" = "ibrs", 15 "amd_stibp",
            17 "stibp_always_on", 24 "amd_ssbd", 25 "virt_ssbd", 26 "amd_ssb_no", 27 "cppc",
            28 "psfd" = "amd_psfd",
        }
    }
    0x8000000a/0 Edx {
        System {
            0 "npt", 1 "lbrv", 2 "svm_lock", 3 "nrip_save" = "nrips", 4 "tsc_scale", 5 "vmcb_clean",
            6 "flushbyasid", 7 "decodeassists", 10 "pausefilter", 12 "pfthreshold",
            15 "v_vmsave_vmload", 16 "vgif",
        }
    }
    0x80000021/0 Eax {
        System {
            0 "no_nested_data_bp", 2 "lfence_rdtsc" = "lfence_always_serializing", 6 "null_sel_clr_base",
            8 "autoibrs", 27 "sbpb",
        }
    }
    0x40000001/0 Eax {
        Pv {
            0 "kvmclock", 1 "kvm_nopiodelay", 2 "kvm_mmu", 3 "kvmclock", 4 "kvm_asyncpf",
            5 "kvm_steal_time", 6 "kvm_pv_eoi", 7 "kvm_pv_unhalt", 9 "kvm_pv_tlb_flush", 11 "kvm_pv_ipi",
            12 "kvm_poll_control", 13 "kvm_pv_sched_yield", 14 "kvm_asyncpf_int",
            15 "kvm_msi_ext_dest_id", 24 "kvmclock_stable_bit",
        }
    }
};

/// A feature does nothing without another.
const NEEDS: &[(&str, &[&str])] = &[
    ("fxsr", &["fpu"]),
    ("mmx", &["fpu"]),
    ("sse", &["fxsr"]),
    ("sse2", &["sse"]),
    ("pni", &["sse2"]),
    ("ssse3", &["pni"]),
    ("sse4_1", &["ssse3"]),
    ("sse4_2", &["sse4_1"]),
    ("aes", &["sse2"]),
    ("pclmulqdq", &["sse2"]),
    ("sha_ni", &["sse2"]),
    ("gfni", &["sse2"]),
    ("sse4a", &["pni"]),
    ("xsaveopt", &["xsave"]),
    ("xsavec", &["xsave"]),
    ("xgetbv1", &["xsave"]),
    ("xsaves", &["xsavec"]),
    ("xfd", &["xsave"]),
    ("pku", &["xsave"]),
    ("mpx", &["xsave"]),
    ("avx", &["xsave", "sse2"]),
    ("avx2", &["avx"]),
    ("fma", &["avx"]),
    ("f16c", &["avx"]),
    ("fma4", &["avx"]),
    ("xop", &["avx"]),
    ("vaes", &["avx", "aes"]),
    ("vpclmulqdq", &["avx", "pclmulqdq"]),
    ("avx_vnni", &["avx2"]),
    ("avx_ifma", &["avx2"]),
    ("avx_vnni_int8", &["avx2"]),
    ("avx_ne_convert", &["avx2"]),
    ("avx512f", &["avx2"]),
    ("avx512dq", &["avx512f"]),
    ("avx512ifma", &["avx512f"]),
    ("avx512pf", &["avx512f"]),
    ("avx512er", &["avx512f"]),
    ("avx512cd", &["avx512f"]),
    ("avx512bw", &["avx512f"]),
    ("avx512vl", &["avx512f"]),
    ("avx512vbmi", &["avx512bw"]),
    ("avx512_vbmi2", &["avx512bw"]),
    ("avx512_vnni", &["avx512f"]),
    ("avx512_bitalg", &["avx512bw"]),
    ("avx512_vpopcntdq", &["avx512f"]),
    ("avx512_4vnniw", &["avx512f"]),
    ("avx512_4fmaps", &["avx512f"]),
    ("avx512_vp2intersect", &["avx512f"]),
    ("avx512_fp16", &["avx512bw"]),
    ("avx512_bf16", &["avx512bw"]),
    ("amx_tile", &["xfd"]),
    ("amx_bf16", &["amx_tile"]),
    ("amx_int8", &["amx_tile"]),
    ("amx_fp16", &["amx_tile"]),
    ("amx_complex", &["amx_tile"]),
    ("nx", &["pae"]),
    ("lm", &["pae"]),
    ("pcid", &["lm"]),
    ("tsc_deadline_timer", &["apic"]),
    ("x2apic", &["apic"]),
];

/// All of them.
#[must_use]
pub const fn all() -> &'static [Feature] {
    TABLE
}

/// Case, and `-` or `.` where Linux writes `_`, do not matter.
pub(super) fn bare(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['-', '.'], "_")
}

/// Linux's name for any name of a feature.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    let wanted = bare(name);
    let named = |f: &&Feature| f.name == wanted || f.aka.contains(&wanted.as_str());
    TABLE.iter().find(named).map(|f| f.name)
}

/// The bits of a name.
pub(super) fn bits(name: &str) -> impl Iterator<Item = &'static Feature> {
    TABLE.iter().filter(move |f| f.name == name)
}

/// What a feature needs.
pub(super) fn needs(name: &str) -> &'static [&'static str] {
    let row = NEEDS.iter().find(|(feature, _)| *feature == name);
    row.map_or(&[], |(_, needs)| needs)
}

/// Every feature that needs something, in an order in which what is needed comes first.
pub(super) fn dependent() -> impl Iterator<Item = &'static str> {
    NEEDS.iter().map(|(feature, _)| *feature)
}

impl Feature {
    fn word<'a>(&self, entry: &'a mut kvm_cpuid_entry2) -> &'a mut u32 {
        match self.reg {
            Reg::Eax => &mut entry.eax,
            Reg::Ebx => &mut entry.ebx,
            Reg::Ecx => &mut entry.ecx,
            Reg::Edx => &mut entry.edx,
        }
    }

    const fn is_in(&self, entry: &kvm_cpuid_entry2) -> bool {
        self.leaf == entry.function && self.subleaf == entry.index
    }

    /// Whether the bit is set.
    #[must_use]
    pub fn is_set(&self, entries: &[kvm_cpuid_entry2]) -> bool {
        let entry = entries.iter().find(|entry| self.is_in(entry));
        entry.is_some_and(|entry| *self.word(&mut { *entry }) >> (self.bit & 31) & 1 != 0)
    }

    /// Sets or clears the bit where its leaf exists.
    pub(super) fn put(&self, entries: &mut [kvm_cpuid_entry2], on: bool) {
        let bit = 1 << (self.bit & 31);
        if let Some(entry) = entries.iter_mut().find(|entry| self.is_in(entry)) {
            let word = self.word(entry);
            *word = if on { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_bit_has_two_names_and_no_name_is_another_ones_alias() {
        let places: BTreeSet<_> = TABLE
            .iter()
            .map(|f| (f.leaf, f.subleaf, f.reg as u8, f.bit))
            .collect();
        assert_eq!(places.len(), TABLE.len());
        let names: BTreeSet<_> = TABLE.iter().map(|f| f.name).collect();
        let mut aliases = BTreeSet::new();
        for alias in TABLE.iter().flat_map(|f| f.aka) {
            assert!(!names.contains(alias) && aliases.insert(alias), "{alias}");
        }
        for name in names
            .iter()
            .chain(&aliases.into_iter().copied().collect::<BTreeSet<_>>())
        {
            assert_eq!(bare(name), **name);
        }
    }

    #[test]
    fn what_is_needed_exists_and_is_decided_before() {
        for (at, (feature, needs)) in NEEDS.iter().enumerate() {
            assert!(bits(feature).next().is_some(), "{feature}");
            for need in *needs {
                assert!(bits(need).next().is_some(), "{feature} needs {need}");
                let own = NEEDS.iter().position(|(name, _)| name == need);
                assert!(
                    own.is_none_or(|own| own < at),
                    "{need} comes after {feature}"
                );
            }
        }
    }

    /// The bits of this table and those of the MSR table are one CPU's.
    #[test]
    fn bits_that_gate_msrs_are_the_same_ones() {
        let mut met = 0;
        for gate in crate::msr::names::all().flat_map(|msr| msr.row.cpuid) {
            let Some(name) = canonical(gate.name) else {
                continue;
            };
            met += 1;
            assert!(
                bits(name).any(|f| (f.leaf, f.subleaf, f.reg, f.bit)
                    == (gate.leaf, gate.subleaf, gate.reg, gate.bit)),
                "{gate:?} is another bit than {name}"
            );
        }
        assert!(met > 50, "{met}");
    }

    #[test]
    fn spellings_of_linux_and_qemu_meet() {
        for (qemu, linux) in [
            ("sse4.1", "sse4_1"),
            ("SSE4-2", "sse4_2"),
            ("tsc-deadline", "tsc_deadline_timer"),
            ("lzcnt", "abm"),
            ("spec-ctrl", "spec_ctrl"),
            ("kvm-steal-time", "kvm_steal_time"),
        ] {
            assert_eq!(canonical(qemu), Some(linux));
        }
        assert_eq!(canonical("ht"), None);
    }
}
