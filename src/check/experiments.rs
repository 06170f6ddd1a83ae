//! The experiments.

use super::case::Config::{Off, On};
use super::case::{Case, Experiment, Setup, guest, trapline};

const STOCK: &str = "trapline kernel get debian --headers";
const DEBUG: &str = "trapline kernel build debug";
const NOVMAP: &str = "trapline kernel build novmap";

const EDU: &[&str] = &["--device", "edu,dma-mask=64"];

/// All of them, in the order they are run.
pub static EXPERIMENTS: [Experiment; 11] = [
    Experiment {
        name: "stack-place",
        shows: "where a kernel stack lies, how large it is, where thread_info is, and that freed stacks come back",
        cases: &[
            Case {
                on: &[On("VMAP_STACK"), Off("KASAN")],
                from: STOCK,
                expects: "the stack is 16 KiB of vmalloc space with an unmapped page below",
                setup: Setup::module(
                    "trapline_stack",
                    "dmesg -n 8; insmod /experiment.ko do=place",
                ),
                status: 0,
                lines: &[
                    guest("trapline_stack: stack in vmalloc space: yes"),
                    guest("trapline_stack: stack in the direct map: no"),
                    guest("trapline_stack: thread_info at *, in it: yes"),
                    guest("trapline_stack: THREAD_SIZE is 16384"),
                    guest("trapline_stack: mapped from the stack's begin: 16384 bytes"),
                    guest("trapline_stack: page below the stack mapped: no"),
                    guest("trapline_stack: 16 threads, one after another, had * different stacks"),
                ],
                never: &["had 16 different stacks"],
            },
            Case {
                on: &[Off("VMAP_STACK"), Off("KASAN")],
                from: NOVMAP,
                expects: "the stack is 16 KiB of the direct map, with whatever memory lies below",
                setup: Setup::module(
                    "trapline_stack",
                    "dmesg -n 8; insmod /experiment.ko do=place",
                ),
                status: 0,
                lines: &[
                    guest("trapline_stack: stack in vmalloc space: no"),
                    guest("trapline_stack: stack in the direct map: yes"),
                    guest("trapline_stack: thread_info at *, in it: yes"),
                    guest("trapline_stack: THREAD_SIZE is 16384"),
                    guest("trapline_stack: 16 threads, one after another, had * different stacks"),
                ],
                never: &["had 16 different stacks"],
            },
        ],
    },
    Experiment {
        name: "stack-overflow",
        shows: "what happens when a kernel stack overflows, with VMAP_STACK and without",
        cases: &[
            Case {
                on: &[On("VMAP_STACK")],
                from: STOCK,
                expects: "the guard page catches the overflow at once",
                setup: Setup::module(
                    "trapline_stack",
                    "dmesg -n 8; insmod /experiment.ko do=overflow",
                ),
                status: 70,
                lines: &[
                    guest(
                        "trapline_stack: overflowing the stack at *, below which a page is mapped: no",
                    ),
                    guest("BUG: TASK stack guard page was hit at *"),
                    guest("stack guard page: 0000 [#1]"),
                ],
                never: &["the overflow went unnoticed"],
            },
            Case {
                on: &[Off("VMAP_STACK"), Off("SCHED_STACK_END_CHECK")],
                from: NOVMAP,
                expects: "the overflow writes over the memory below, and nobody notices",
                setup: Setup::module(
                    "trapline_stack",
                    "dmesg -n 8; insmod /experiment.ko do=overflow",
                ),
                status: 0,
                lines: &[
                    guest(
                        "trapline_stack: overflowing the stack at *, below which the memory is this module's",
                    ),
                    guest(
                        "trapline_stack: * bytes of the module's memory below the stack were overwritten",
                    ),
                    guest("trapline_stack: the overflow went unnoticed"),
                ],
                never: &[": 0 bytes of the module's", "BUG:", "Oops", "stack end"],
            },
        ],
    },
    Experiment {
        name: "dma-single",
        shows: "what dma_map_single() makes of kmalloc memory, vmalloc memory and a local variable",
        cases: &[
            Case {
                on: &[On("VMAP_STACK")],
                from: STOCK,
                expects: "vmalloc memory and the vmapped stack are rejected",
                setup: Setup {
                    flags: EDU,
                    ..Setup::module(
                        "trapline_dma",
                        "dmesg -n 8; insmod /experiment.ko do=single",
                    )
                },
                status: 0,
                lines: &[
                    guest("dma_map_single of kmalloc memory at *: accepted, bus address"),
                    guest("rejecting DMA map of vmalloc memory"),
                    guest("dma_map_single of vmalloc memory at *: rejected"),
                    guest("dma_map_single of a local variable at *: rejected"),
                ],
                never: &[],
            },
            Case {
                on: &[Off("VMAP_STACK"), On("DMA_API_DEBUG")],
                from: NOVMAP,
                expects: "the stack is in the direct map and accepted; only DMA_API_DEBUG complains",
                setup: Setup {
                    flags: EDU,
                    ..Setup::module(
                        "trapline_dma",
                        "dmesg -n 8; insmod /experiment.ko do=single",
                    )
                },
                status: 0,
                lines: &[
                    guest("dma_map_single of kmalloc memory at *: accepted, bus address"),
                    guest("rejecting DMA map of vmalloc memory"),
                    guest("dma_map_single of vmalloc memory at *: rejected"),
                    guest("DMA-API: *: device driver maps memory from stack"),
                    guest("dma_map_single of a local variable at *: accepted, bus address"),
                ],
                never: &[],
            },
        ],
    },
    Experiment {
        name: "dma-scatterlist",
        shows: "what becomes of a local variable in a scatterlist, and of a device that is told to read it",
        cases: &[
            Case {
                on: &[On("VMAP_STACK"), Off("DEBUG_SG")],
                from: STOCK,
                expects: "the kernel notices nothing; the bus address is bogus, and Trapline says so",
                setup: Setup {
                    flags: EDU,
                    ..Setup::module(
                        "trapline_dma",
                        "dmesg -n 8; insmod /experiment.ko do=scatterlist",
                    )
                },
                status: 0,
                lines: &[
                    guest("the local variable at * is at physical address"),
                    guest("dma_map_sg of it: accepted, bus address *, the right one: no"),
                    trapline(
                        "edu (*) reads 64 bytes at bus address *not RAM. virt_to_page() of a vmalloc or VMAP_STACK",
                    ),
                    guest("edu saw 0 of the buffer's 64 bytes"),
                ],
                never: &["BUG", "WARNING"],
            },
            Case {
                on: &[On("VMAP_STACK"), On("DEBUG_SG")],
                from: DEBUG,
                expects: "DEBUG_SG makes a BUG of it, where the buffer is put into the list",
                setup: Setup {
                    flags: EDU,
                    ..Setup::module(
                        "trapline_dma",
                        "dmesg -n 8; insmod /experiment.ko do=scatterlist",
                    )
                },
                status: 70,
                lines: &[
                    guest("the local variable at * is at physical address"),
                    guest("kernel BUG at include/linux/scatterlist.h:"),
                ],
                never: &["dma_map_sg of it: accepted"],
            },
            Case {
                on: &[Off("VMAP_STACK"), On("DMA_API_DEBUG_SG")],
                from: NOVMAP,
                expects: "the stack is in the direct map: edu reads it; only DMA_API_DEBUG complains",
                setup: Setup {
                    flags: EDU,
                    ..Setup::module(
                        "trapline_dma",
                        "dmesg -n 8; insmod /experiment.ko do=scatterlist",
                    )
                },
                status: 0,
                lines: &[
                    guest("the local variable at * is at physical address"),
                    guest("DMA-API: *: device driver maps memory from stack"),
                    guest("dma_map_sg of it: accepted, bus address *, the right one: yes"),
                    guest("edu saw 64 of the buffer's 64 bytes"),
                ],
                never: &["kernel BUG"],
            },
        ],
    },
    Experiment {
        name: "virt-to-phys",
        shows: "what virt_to_phys() says of kmalloc memory, and of vmalloc memory, which it is not for",
        cases: &[
            Case {
                on: &[Off("DEBUG_VIRTUAL")],
                from: STOCK,
                expects: "of vmalloc memory it says an address that is not there",
                setup: Setup::module(
                    "trapline_memory",
                    "dmesg -n 8; insmod /experiment.ko do=physical",
                ),
                status: 0,
                lines: &[
                    guest(
                        "kmalloc memory at *: virt_to_phys says *, its page is at *, and back it is",
                    ),
                    guest("virt_to_phys of kmalloc memory right: yes"),
                    guest("vmalloc memory at *: its page is at"),
                    guest("virt_to_phys of vmalloc memory says"),
                    guest("virt_to_phys of vmalloc memory right: no"),
                ],
                never: &[],
            },
            Case {
                on: &[On("DEBUG_VIRTUAL")],
                from: DEBUG,
                expects: "DEBUG_VIRTUAL makes a BUG of it",
                setup: Setup::module(
                    "trapline_memory",
                    "dmesg -n 8; insmod /experiment.ko do=physical",
                ),
                status: 70,
                lines: &[
                    guest("virt_to_phys of kmalloc memory right: yes"),
                    guest("vmalloc memory at *: its page is at"),
                    guest("kernel BUG at arch/x86/mm/physaddr.c:"),
                ],
                never: &["virt_to_phys of vmalloc memory says"],
            },
        ],
    },
    Experiment {
        name: "smap",
        shows: "that the kernel reaches a program's memory through copy_from_user() and not directly",
        cases: &[Case {
            on: &[],
            from: STOCK,
            expects: "copy_from_user() works; a plain read faults",
            setup: Setup::module(
                "trapline_memory",
                "dmesg -n 8; insmod /experiment.ko do=user",
            ),
            status: 70,
            lines: &[
                guest("copy_from_user of *: \"written by a program\""),
                guest("trapline_memory: reading * directly"),
                guest("BUG: unable to handle page fault for address:"),
                guest("#PF: supervisor read access in kernel mode"),
                guest("#PF: error_code(0x0001) - permissions violation"),
            ],
            never: &["reading it directly:"],
        }],
    },
    Experiment {
        name: "soft-lockup",
        shows: "that a CPU on which nobody else gets to run is noticed",
        cases: &[Case {
            on: &[On("SOFTLOCKUP_DETECTOR")],
            from: STOCK,
            expects: "the watchdog's timer notices, and panics as it was told to",
            setup: Setup {
                append: "softlockup_panic=1",
                ..Setup::module(
                    "trapline_lockup",
                    "dmesg -n 8; echo 2 >/proc/sys/kernel/watchdog_thresh; insmod /experiment.ko do=soft",
                )
            },
            status: 70,
            lines: &[
                guest("trapline_lockup: spinning on CPU 0 with preemption off"),
                guest("watchdog: BUG: soft lockup - CPU#0 stuck for"),
                guest("Kernel panic - not syncing: softlockup: hung tasks"),
            ],
            never: &["nobody noticed"],
        }],
    },
    Experiment {
        name: "hard-lockup",
        shows: "that a CPU that takes no interrupts is noticed by its neighbour, without a PMU",
        cases: &[Case {
            on: &[On("HARDLOCKUP_DETECTOR_BUDDY")],
            from: DEBUG,
            expects: "the buddy detector notices, and panics as it was told to",
            setup: Setup {
                cpus: 2,
                ..Setup::module(
                    "trapline_lockup",
                    // Linux switches the detector off in guests (arch/x86/kernel/kvm.c).
                    "dmesg -n 8; cd /proc/sys/kernel; echo 2 >watchdog_thresh; echo 1 >nmi_watchdog; \
                     echo 1 >hardlockup_panic; insmod /experiment.ko do=hard",
                )
            },
            status: 70,
            lines: &[
                guest("trapline_lockup: spinning on CPU 1 with interrupts off"),
                guest("Watchdog detected hard LOCKUP on cpu 1"),
                guest("Kernel panic - not syncing: Hard LOCKUP"),
            ],
            never: &["nobody noticed"],
        }],
    },
    Experiment {
        name: "hang-watch",
        shows: "that Trapline notices a machine that hangs, whatever its kernel can notice",
        cases: &[Case {
            on: &[],
            from: STOCK,
            expects: "--hang ends the run, and says where it hangs",
            setup: Setup {
                flags: &["--hang", "5s"],
                ..Setup::module(
                    "trapline_lockup",
                    "dmesg -n 8; insmod /experiment.ko do=hang",
                )
            },
            status: 72,
            lines: &[
                guest("trapline_lockup: spinning on CPU 0 with interrupts off, for ever"),
                trapline(
                    "the guest hangs: no vCPU made progress for *: vCPU 0 spins at * with interrupts off",
                ),
            ],
            never: &[],
        }],
    },
    Experiment {
        name: "clocksource-choice",
        shows: "that kvm-clock, tsc and acpi_pm can be chosen as the clock, and that each tells the time",
        cases: &[Case {
            on: &[On("KVM_GUEST"), On("X86_PM_TIMER")],
            from: STOCK,
            expects: "each is taken, and a second passes by it",
            setup: Setup {
                module: None,
                script: "dmesg -n 8; cd /sys/devices/system/clocksource/clocksource0; \
                    for c in tsc acpi_pm kvm-clock; do \
                    grep -qw $c available_clocksource || \
                    { echo \"trapline_clock: skip: there is no $c here, only $(cat available_clocksource)\"; exit; }; \
                    echo $c >current_clocksource; \
                    read a rest </proc/uptime; sleep 1; read b rest </proc/uptime; \
                    right=$(awk \"BEGIN { d = $b - $a; print (d > 0.9 && d < 10) ? \\\"yes\\\" : \\\"no\\\" }\"); \
                    echo \"asked for $c, have $(cat current_clocksource), from $a to $b s in a second: $right\"; \
                    done",
                ..Setup::module("", "")
            },
            status: 0,
            lines: &[
                guest("asked for tsc, have tsc, * in a second: yes"),
                guest("clocksource: Switched to clocksource acpi_pm"),
                guest("asked for acpi_pm, have acpi_pm, * in a second: yes"),
                guest("clocksource: Switched to clocksource kvm-clock"),
                guest("asked for kvm-clock, have kvm-clock, * in a second: yes"),
            ],
            never: &[],
        }],
    },
    Experiment {
        name: "tsc-unstable",
        shows: "that a TSC that jumps is noticed by the clocksource watchdog, which changes the clock",
        cases: &[Case {
            on: &[On("KVM_GUEST"), On("CLOCKSOURCE_WATCHDOG")],
            from: STOCK,
            expects: "the TSC is marked unstable, and another clock taken",
            setup: Setup {
                append: "clocksource=tsc tsc=watchdog",
                ..Setup::module(
                    "trapline_tsc",
                    "dmesg -n 8; cd /sys/devices/system/clocksource/clocksource0; read now <current_clocksource; \
                     [ $now = tsc ] || { echo \"trapline_tsc: skip: the clock is $now, not tsc\"; exit; }; \
                     insmod /experiment.ko do=jump; sleep 2; echo \"from $now to $(cat current_clocksource)\"",
                )
            },
            status: 0,
            lines: &[
                guest(
                    "clocksource: timekeeping watchdog on CPU0: Marking clocksource 'tsc' as unstable because the skew is too large",
                ),
                guest("clocksource: Switched to clocksource"),
                guest("from tsc to "),
            ],
            never: &["from tsc to tsc"],
        }],
    },
];

/// The experiment of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Experiment> {
    EXPERIMENTS
        .iter()
        .find(|experiment| experiment.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::SOURCES;
    use super::super::case::Config;
    use super::*;

    fn cases() -> impl Iterator<Item = (&'static str, &'static Case)> {
        EXPERIMENTS
            .iter()
            .flat_map(|e| e.cases.iter().map(|case| (e.name, case)))
    }

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let names: BTreeSet<_> = EXPERIMENTS.iter().map(|e| e.name).collect();
        assert_eq!(names.len(), EXPERIMENTS.len());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(plain)));
        assert!(names.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn every_case_asks_its_module_for_something_that_is_there_and_is_proved_by_lines() {
        for (name, case) in cases() {
            assert!(!case.lines.is_empty(), "{name}");
            let Some(module) = case.setup.module else {
                continue;
            };
            let file = format!("{module}.c");
            let source = SOURCES.iter().find(|(name, _)| *name == file);
            let (_, text) = source.unwrap_or_else(|| panic!("{name} needs {file}"));
            let (_, rest) = case.setup.script.split_once("do=").expect(name);
            let action = rest.split([';', ' ']).next().unwrap();
            assert!(
                text.contains(&format!("{{ \"{action}\", ")),
                "{name}: {action}"
            );
            assert!(
                SOURCES[0].1.contains(&format!("{module}.o")),
                "{file} in Kbuild"
            );
        }
    }

    #[test]
    fn the_case_of_a_kernel_follows_from_its_configuration() {
        let expects = |name: &str, on: &[&str]| {
            let case = find(name).unwrap().case(|option| on.contains(&option));
            case.map(|case| (case.status, case.from))
        };
        assert_eq!(
            expects("stack-overflow", &["VMAP_STACK"]),
            Some((70, STOCK))
        );
        assert_eq!(expects("stack-overflow", &[]), Some((0, NOVMAP)));
        // Without the contrast's own conditions what it shows would be luck.
        assert_eq!(expects("stack-overflow", &["SCHED_STACK_END_CHECK"]), None);
        let debug = ["VMAP_STACK", "DEBUG_SG", "DMA_API_DEBUG_SG"];
        assert_eq!(expects("dma-scatterlist", &debug), Some((70, DEBUG)));
        assert_eq!(expects("dma-scatterlist", &debug[..1]), Some((0, STOCK)));
        assert_eq!(expects("hard-lockup", &["VMAP_STACK"]), None);
    }

    #[test]
    fn no_two_cases_of_an_experiment_fit_one_kernel() {
        let clash = |a: &Config, b: &Config| match (a, b) {
            (On(a), Off(b)) | (Off(a), On(b)) => a == b,
            _ => false,
        };
        for experiment in &EXPERIMENTS {
            for (index, one) in experiment.cases.iter().enumerate() {
                for other in &experiment.cases[index + 1..] {
                    let told = one.on.iter().any(|a| other.on.iter().any(|b| clash(a, b)));
                    assert!(told, "{}", experiment.name);
                }
            }
        }
    }
}
