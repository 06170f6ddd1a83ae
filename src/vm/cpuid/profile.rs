//! A profile on this host: what KVM offers, changed; or why it cannot be.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use super::features::{self, Feature, Kind};
use super::identity;
use super::words::Profile;
use super::xstate;

/// KVM's own leaves (asm/kvm_para.h).
const KVM_LEAVES: std::ops::Range<u32> = 0x4000_0000..0x4000_0100;

/// CPUID of a machine, before it is made a vCPU's own.
#[derive(Debug, Clone)]
pub struct MachineCpuid {
    pub(crate) entries: Vec<kvm_cpuid_entry2>,
    /// Whether KVM is to hide the MSRs of paravirtual features that this does not announce.
    pub(crate) enforces_pv: bool,
}

impl MachineCpuid {
    /// Every leaf.
    #[must_use]
    pub fn entries(&self) -> &[kvm_cpuid_entry2] {
        &self.entries
    }

    /// Bits of a physical address, MAXPHYADDR: leaf 0x80000008, EAX 7:0; 36 without it (SDM 3A,
    /// 4.1.4).
    #[must_use]
    pub fn phys_bits(&self) -> u8 {
        let mut leaves = self.entries.iter();
        let leaf = leaves.find(|leaf| leaf.function == 0x8000_0008);
        leaf.map_or(36, |leaf| leaf.eax.to_le_bytes()[0])
    }
}

/// A profile that this host cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileRefused {
    /// A feature.
    #[error("this host cannot have --cpu +{name}: {why}")]
    Feature {
        /// Which.
        name: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// A named CPU with features that are not here.
    #[error("this host cannot have --cpu {model}: {why}: {}", lacks.join(", "))]
    Model {
        /// Which.
        model: &'static str,
        /// What is not here.
        lacks: Vec<&'static str>,
        /// Why not.
        why: &'static str,
    },
    /// A feature without what it needs.
    #[error("--cpu {profile}: {feature} needs {need}, which {model} does not have; add +{need}")]
    Needs {
        /// The profile's words.
        profile: String,
        /// The named CPU.
        model: &'static str,
        /// The feature.
        feature: &'static str,
        /// What it needs.
        need: &'static str,
    },
}

fn has(entries: &[kvm_cpuid_entry2], name: &str) -> bool {
    features::bits(name).any(|bit| bit.is_set(entries))
}

fn put(entries: &mut [kvm_cpuid_entry2], name: &str, on: bool) {
    features::bits(name).for_each(|bit| bit.put(entries, on));
}

impl Profile {
    /// Changes what KVM supports; `has_timer` is whether its APIC has a TSC deadline timer, which
    /// KVM_GET_SUPPORTED_CPUID does not say (api.rst 4.46). `processor` are the flags of the processor itself, to tell
    /// what it lacks from what KVM keeps back.
    ///
    /// # Errors
    /// [`ProfileRefused`].
    pub fn apply(
        &self,
        supported: &CpuId,
        has_timer: bool,
        processor: &str,
    ) -> Result<MachineCpuid, ProfileRefused> {
        let mut entries = supported.as_slice().to_vec();
        put(&mut entries, "hypervisor", true);
        put(&mut entries, "tsc_deadline_timer", has_timer);
        let offered = entries.clone();
        let why = |name| reason(name, processor);

        let lacks: Vec<_> = self
            .model
            .required()
            .filter(|name| !has(&offered, name) && !self.takes(name))
            .collect();
        if let Some(first) = lacks.first() {
            return Err(ProfileRefused::Model {
                model: self.model.name,
                why: why(first),
                lacks,
            });
        }
        for feature in features::all().iter().filter(|f| !self.model.keeps(f)) {
            feature.put(&mut entries, false);
        }
        for &(name, on) in &self.features {
            if on && !has(&offered, name) {
                return Err(ProfileRefused::Feature {
                    name,
                    why: why(name),
                });
            }
            // Of a name with several bits, those that are offered.
            let bits = features::bits(name).filter(|bit| !on || bit.is_set(&offered));
            bits.for_each(|bit| bit.put(&mut entries, on));
        }
        self.close(&mut entries)?;
        xstate::fit(&mut entries);
        identity::write(&mut entries, self);
        let shown = self
            .kvm
            .unwrap_or(self.model.virtual_ || self.asks_for_pv());
        if !shown {
            entries.retain(|entry| !KVM_LEAVES.contains(&entry.function));
        }
        let lost = |f: &&Feature| f.is_set(&offered) && !f.is_set(&entries);
        let mut pv = features::all().iter().filter(|f| f.kind == Kind::Pv);
        let enforces_pv = pv.any(|f| lost(&f));
        Ok(MachineCpuid {
            entries,
            enforces_pv,
        })
    }

    fn takes(&self, name: &str) -> bool {
        self.features.iter().any(|&(f, on)| f == name && !on)
    }

    fn asks_for_pv(&self) -> bool {
        let pv = |name| features::bits(name).any(|f| f.kind == Kind::Pv);
        self.features.iter().any(|&(name, on)| on && pv(name))
    }

    /// What lacks something it needs goes too; what was asked for by name may not.
    fn close(&self, entries: &mut [kvm_cpuid_entry2]) -> Result<(), ProfileRefused> {
        for feature in features::dependent() {
            let mut needs = features::needs(feature).iter().copied();
            let lacking = needs.find(|need| !has(entries, need));
            let (Some(need), true) = (lacking, has(entries, feature)) else {
                continue;
            };
            if self.features.contains(&(feature, true)) {
                return Err(ProfileRefused::Needs {
                    profile: self.to_string(),
                    model: self.model.name,
                    feature,
                    need,
                });
            }
            put(entries, feature, false);
        }
        Ok(())
    }
}

/// Whether the processor lacks a feature, or KVM keeps it back.
fn reason(name: &str, processor: &str) -> &'static str {
    let has = |name: &str| processor.split_whitespace().any(|flag| flag == name);
    let aka = features::bits(name).flat_map(|f| f.aka.iter().copied());
    if aka.chain([name]).any(has) {
        "the processor has it, and its KVM does not give it to guests"
    } else {
        "its processor does not have it, or its kernel hides it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these features, all leaves that they are in, and KVM's.
    fn host(names: &[&str]) -> CpuId {
        let mut places: Vec<_> = features::all()
            .iter()
            .map(|f| (f.leaf, f.subleaf))
            .collect();
        places.extend([(0, 0), (0xd, 0), (0x4000_0000, 0), (0x8000_0000, 0)]);
        places.sort_unstable();
        places.dedup();
        let mut entries: Vec<_> = places
            .into_iter()
            .map(|(function, index)| kvm_cpuid_entry2 {
                function,
                index,
                ..Default::default()
            })
            .collect();
        for name in names {
            assert!(features::canonical(name).is_some(), "{name}");
            put(&mut entries, name, true);
        }
        CpuId::from_entries(&entries).unwrap()
    }

    const V2: &[&str] = &[
        "fpu",
        "cx8",
        "cmov",
        "mmx",
        "fxsr",
        "sse",
        "sse2",
        "syscall",
        "cx16",
        "lahf_lm",
        "popcnt",
        "pni",
        "sse4_1",
        "sse4_2",
        "ssse3",
        "apic",
        "pae",
        "nx",
        "lm",
        "kvmclock",
        "kvm_steal_time",
        "x2apic",
    ];

    fn of(words: &str, extra: &[&str]) -> Result<MachineCpuid, ProfileRefused> {
        let profile: Profile = words.parse().unwrap();
        profile.apply(&host(&[V2, extra].concat()), true, "fpu vmx avx")
    }

    fn names(cpuid: &MachineCpuid) -> Vec<&'static str> {
        let set = features::all().iter().filter(|f| f.is_set(&cpuid.entries));
        set.map(|f| f.name).collect()
    }

    #[test]
    fn the_host_is_given_whole_and_says_that_it_is_virtual() {
        let host = of("host", &["aes"]).unwrap();
        assert!(has(&host.entries, "aes") && has(&host.entries, "hypervisor"));
        assert!(has(&host.entries, "tsc_deadline_timer") && !host.enforces_pv);
    }

    #[test]
    fn a_level_has_its_instructions_and_the_kernels_features() {
        let v1 = of("x86-64", &["aes", "xsave", "avx", "avx2"]).unwrap();
        let user = |name: &&str| features::bits(name).any(|f| f.kind == Kind::User);
        let mut kept: Vec<_> = names(&v1).into_iter().filter(user).collect();
        kept.sort_unstable();
        let level = [
            "cmov", "cx8", "fpu", "fxsr", "mmx", "sse", "sse2", "syscall",
        ];
        assert_eq!(kept, level);
        assert!(has(&v1.entries, "nx") && has(&v1.entries, "kvmclock"));
        let more = of("x86-64,+aes", &["aes"]).unwrap();
        assert!(has(&more.entries, "aes"));
    }

    #[test]
    fn what_the_host_lacks_is_refused_with_the_reason() {
        let error = of("+vmx", &[]).unwrap_err().to_string();
        assert!(
            error.contains("+vmx") && error.contains("KVM does not give it"),
            "{error}"
        );
        let error = of("+svm", &[]).unwrap_err().to_string();
        assert!(error.contains("processor does not have it"), "{error}");
        let error = of("x86-64-v3", &[]).unwrap_err().to_string();
        assert!(
            error.contains("--cpu x86-64-v3") && error.contains("avx2, bmi1"),
            "{error}"
        );
    }

    #[test]
    fn what_needs_a_feature_that_goes_goes_with_it() {
        let avx = &["xsave", "avx", "avx2", "fma", "avx512f", "avx512bw", "aes"];
        let without = of("-avx", avx).unwrap();
        let left = names(&without);
        assert!(
            !left
                .iter()
                .any(|name| name.starts_with("avx") || *name == "fma"),
            "{left:?}"
        );
        assert!(left.contains(&"xsave") && left.contains(&"aes"));
        let error = of("x86-64,+avx", avx).unwrap_err().to_string();
        assert!(
            error.contains("avx needs xsave") && error.contains("add +xsave"),
            "{error}"
        );
        assert!(of("x86-64,+avx,+xsave", avx).is_ok());
    }

    #[test]
    fn a_bare_machine_has_neither_the_bit_nor_the_leaves_nor_their_msrs() {
        let bare = of("bare", &[]).unwrap();
        assert!(!has(&bare.entries, "hypervisor") && bare.enforces_pv);
        assert!(
            !bare
                .entries
                .iter()
                .any(|e| KVM_LEAVES.contains(&e.function))
        );
        let clock = of("-kvm_steal_time", &[]).unwrap();
        assert!(clock.enforces_pv && has(&clock.entries, "kvmclock"));
        let quiet = of("-hypervisor", &[]).unwrap();
        assert!(
            quiet
                .entries
                .iter()
                .any(|e| KVM_LEAVES.contains(&e.function))
        );
    }
}
