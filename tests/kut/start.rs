//! `trapline boot` of multiboot and flat guests: how they start, what they find, how they end.

use std::fs;
use std::process::Command;

use super::common::{Case, Need};
use super::guests::{boot, finish, guest};

pub(crate) const CASES: &[Case] = &[
    kvm(
        "a_multiboot_guest_finds_what_kvm_unit_tests_expect",
        contract,
    ),
    kvm(
        "its_cpus_start_from_page_0_and_are_counted_by_its_environment",
        environment,
    ),
    kvm("qemu_keeps_the_same_contract", in_qemu),
    kvm("under_qemus_rule_a_guest_ends_as_it_does_there", statuses),
    kvm("a_triple_fault_at_the_first_instruction_is_71", triple),
    kvm("a_guest_that_never_exits_is_ended_by_the_time_limit", spins),
    kvm("flat_guests_start_in_real_mode_and_in_64_bit_mode", flat),
    kvm("a_hundred_modules_reach_the_guest", modules),
    plain("an_elf64_is_refused_with_the_way_to_convert_it", elf64),
    plain("options_that_do_not_fit_the_guest_are_refused", refusals),
];

const fn kvm(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::Kvm],
        run,
    }
}

const fn plain(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[],
        run,
    }
}

const DEVICES: [&str; 4] = ["--device", "testdev", "--device", "pci-testdev"];

fn contract() {
    for memory in ["64", "5G"] {
        let options = ["-a", "devices", "-m", memory, "-c", "2", "--timeout", "60s"];
        let run = boot("contract.flat", &[&options[..], &DEVICES].concat());
        run.ends(0).prints("SUMMARY: 0 failures");
        assert!(!run.stdout.contains("FAIL"), "{}", run.stdout);
    }
    // Without them nothing answers.
    boot("contract.flat", &["-a", "devices"])
        .ends(1)
        .prints("FAIL: testdev: the data ports remember")
        .prints("FAIL: pci-testdev: there is one");
}

fn environment() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let file = dir.path().join("environment");
    fs::write(&file, "TARGET=x86_64\nNR_CPUS=4\n").expect("a file");
    let file = file.to_str().expect("UTF-8");
    for option in ["--initrd", "--boot-module"] {
        boot(
            "contract.flat",
            &[option, file, "-c", "4", "--timeout", "60s"],
        )
        .ends(0)
        .prints("4 CPUs are online");
    }
    // It believes its environment, and finds that fw_cfg says otherwise.
    boot(
        "contract.flat",
        &["--initrd", file, "-c", "3", "--timeout", "60s"],
    )
    .ends(1)
    .prints("FAIL: NR_CPUS is what fw_cfg says");
}

/// The guest is no friendlier to us than to QEMU.
fn in_qemu() {
    let mut qemu = Command::new("qemu-system-x86_64");
    let options = "-nodefaults --no-reboot -display none -serial stdio -accel tcg -m 256 -smp 2 \
                   -device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=0x4 -device pci-testdev";
    qemu.args(options.split_whitespace());
    qemu.arg("-kernel")
        .arg(guest("contract.flat"))
        .args(["-append", "devices"]);
    if qemu_is_here() {
        finish(&mut qemu).ends(1).prints("SUMMARY: 0 failures");
    }
}

fn qemu_is_here() -> bool {
    let found = Command::new("qemu-system-x86_64").arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

fn statuses() {
    for (value, own, qemus) in [
        ("0", 0, 1),
        ("1", 1, 3),
        ("35", 35, 71),
        ("77", 63, 155),
        ("127", 63, 255),
    ] {
        let words = format!("exit {value}");
        boot("contract.flat", &["-a", &words]).ends(own);
        let run = boot(
            "contract.flat",
            &["-a", &words, "--exit-rule", "qemu", "-q"],
        );
        // No post-mortem for a guest that ends as it wanted, whatever number that is.
        assert_eq!(
            (run.ends(qemus).stdout.as_str(), run.stderr.as_str()),
            ("", "")
        );
    }
    boot("contract.flat", &["-a", "off", "--exit-rule", "qemu"]).ends(0);
}

fn triple() {
    boot("triple.flat", &["--exit-rule", "qemu"])
        .ends(71)
        .says("triple fault on vCPU 0");
}

fn spins() {
    boot("contract.flat", &["-a", "spin", "--timeout", "1s"])
        .ends(72)
        .says("timed out after 1s");
}

fn flat() {
    boot("sector.bin", &["--format", "flat16"])
        .ends(5)
        .prints("hello from real mode");
    boot("long.bin", &["--format", "flat64,entry=0x100008"]).ends(6);
    boot(
        "long.bin",
        &["--format", "flat64,load=0x200000,entry=0x200008"],
    )
    .ends(6);
    boot("long.bin", &["--format", "flat64,entry=0x101000"])
        .ends(64)
        .says("none of its loaded segments");
}

fn modules() {
    let file = guest("sector.bin");
    let module = format!("--boot-module={},words of it", file.display());
    let many = vec![module.as_str(); 100];
    // More than one is no environment: the guest asks fw_cfg then.
    boot("contract.flat", &many)
        .ends(0)
        .prints("1 CPUs are online");
    let dir = tempfile::tempdir().expect("a scratch folder");
    let big = dir.path().join("big");
    let created = fs::File::create(&big).and_then(|file| file.set_len(65 << 20));
    created.expect("a sparse file");
    let big = big.to_str().expect("UTF-8");
    boot("contract.flat", &["-m", "64", "--boot-module", big])
        .ends(64)
        .says("big of 66560 KiB does not fit");
}

fn elf64() {
    boot("contract.elf", &[])
        .ends(64)
        .says("objcopy -O elf32-i386");
}

fn refusals() {
    for (arguments, says) in [
        (
            &["--shell"][..],
            "--shell is for other guests; a multiboot guest has no shell",
        ),
        (&["--exec", "true"], "has no shell"),
        (&["--format", "flat32"], "flat16, flat64"),
        (&["--format", "flat16,at=3"], "load=ADDRESS"),
    ] {
        boot("contract.flat", arguments).ends(64).says(says);
    }
    boot("sector.bin", &[]).ends(64).says("neither");
}
