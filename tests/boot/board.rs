//! The board as Linux finds it.

use super::common::{Case, Need};
use super::linux::{kernel, run};

pub(crate) const CASES: &[Case] = &[
    linux("the_rtcs_alarm_interrupts", alarm),
    linux("linux_finds_every_function_with_its_resources", functions),
    linux("linux_reads_fw_cfg_by_dma", fw_cfg),
];

const fn linux(name: &'static str, run: fn()) -> Case {
    Case {
        name,
        needs: &[Need::KvmLinux, Need::Kernel],
        run,
    }
}

fn alarm() {
    let script = "cd /sys/class/rtc/rtc0; echo +2 > wakealarm; sleep 4; \
                  awk '/rtc0/{print \"alarms\", $2}' /proc/interrupts";
    run(&kernel(), &["--exec", script])
        .ends(0)
        .prints("alarms 1");
}

fn functions() {
    let script = "cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/vendor $d/device $d/irq); \
                  done; head -1 0000:00:02.0/resource; \
                  awk '/PIIX4|0000:00:01.3/{print \"pm\", $1}' /proc/ioports";
    run(&kernel(), &["--device", "edu", "--exec", script])
        .ends(0)
        .prints("0000:00:00.0 0x8086 0x1237 0")
        .prints("0000:00:01.0 0x8086 0x7000 0")
        .prints("0000:00:01.3 0x8086 0x7113 9")
        .prints("0000:00:02.0 0x1234 0x11e8 10")
        .prints("0x00000000c0000000 0x00000000c00fffff 0x0000000000040200")
        .prints("pm 0600-063f");
}

fn fw_cfg() {
    let script = "cd /sys/firmware/qemu_fw_cfg; echo rev $(cat rev); \
                  hexdump -C by_name/etc/e820/raw";
    let module = ["--module", "qemu_fw_cfg", "--exec", script];
    run(&kernel(), &module)
        .ends(0)
        .prints("rev 3")
        .prints("00000000  00 00 00 00 00 00 00 00  00 00 00 10 00 00 00 00")
        .prints("00000010  01 00 00 00");
}
