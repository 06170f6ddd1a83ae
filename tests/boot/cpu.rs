//! `--cpu` from outside: what is refused, and what Linux makes of what it is given.

use super::boot;
use super::common::{Case, Need};
use super::linux::{kernel, run};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a_cpu_that_is_no_cpu_is_refused_before_anything_runs",
        needs: &[],
        run: no_cpus,
    },
    Case {
        name: "a_feature_that_kvm_does_not_have_is_refused_with_the_reason",
        needs: &[Need::Kvm],
        run: not_here,
    },
    Case {
        name: "linux_sees_the_cpu_it_was_given",
        needs: &[Need::KvmLinux, Need::Kernel],
        run: seen,
    },
];

fn no_cpus() {
    for (spec, words) in [
        ("host,+avx512vlx", "the nearest is avx512vl"),
        ("x86-64-v9", "the nearest is x86-64-v"),
        ("-ht", "it follows --cpus"),
        ("-xsave,+avx2", "+avx2 needs xsave"),
        ("host,vendor=Via", "\"Via\" is no vendor"),
        ("host,speed=3", "no option \"speed\""),
    ] {
        boot([":hello", "--cpu", spec]).ends(64).says(words);
    }
}

fn not_here() {
    // KVM offers no guest a serial number, whatever the processor.
    boot([":hello", "--cpu", "+pn"])
        .ends(65)
        .says("this host cannot have --cpu +pn: its processor does not have it");
    boot([":hello", "--cpu", "bare,vendor=TraplineTest,-rdtscp"]).ends(0);
}

/// The field of the first processor in /proc/cpuinfo.
fn field<'a>(cpuinfo: &'a str, name: &str) -> &'a str {
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name);
    found.map_or("", |(_, value)| value.trim())
}

fn seen() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |spec: &str| {
        let to = folder.path().join("cpuinfo");
        let get = format!("/tmp/cpuinfo:{}", to.display());
        let copy = "cat /proc/cpuinfo > /tmp/cpuinfo";
        let arguments = ["-c", "3", "--cpu", spec, "--get", &get, "--exec", copy];
        run(&kernel(), &arguments).ends(0);
        std::fs::read_to_string(to).unwrap()
    };
    let host = seen("host");
    let other = seen("x86-64-v2,-tsc_adjust,family=6,model=0x5e,stepping=3");
    let bare = seen("bare,-rdrand");
    let flags = |cpuinfo| field(cpuinfo, "flags").split(' ').collect::<Vec<_>>();
    let has = |cpuinfo, flag| flags(cpuinfo).contains(&flag);
    assert!(has(&host, "tsc_adjust") && has(&host, "hypervisor") && has(&host, "rdrand"));
    for gone in ["tsc_adjust", "rdrand", "aes", "movbe", "bmi1"] {
        assert!(!has(&other, gone), "{gone}: {other}");
    }
    assert!(has(&other, "sse4_2") && has(&other, "nx") && has(&other, "hypervisor"));
    let number = |name| field(&other, name);
    assert_eq!(
        ["cpu family", "model", "stepping"].map(number),
        ["6", "94", "3"]
    );
    assert!(!has(&bare, "hypervisor") && !has(&bare, "rdrand") && has(&bare, "tsc_adjust"));
    for cpuinfo in [&host, &other, &bare] {
        let topology = ["siblings", "cpu cores"].map(|name| field(cpuinfo, name));
        assert_eq!(topology, ["3", "3"], "{cpuinfo}");
    }
}
