//! Every address and port of the board on one screen.
//!
//! | guest physical | what |
//! |---|---|
//! | 0x0000_0000 - 0x0009_ffff | RAM: boot structures ([`crate::boot::Places`]), start-up code |
//! | 0x000a_0000 - 0x000f_ffff | reserved; ACPI tables from 0xe_0000 |
//! | 0x0010_0000 - | RAM: kernel, initramfs |
//! | 0xc000_0000 - 0xffff_ffff | the hole: no RAM |
//! | 0xc000_0000 - 0xfebf_ffff | PCI memory, BARs assigned from its start |
//! | 0xfec0_0000 | IOAPIC (KVM) |
//! | 0xfed9_0000 | left free for VT-d |
//! | 0xfee0_0000 | local APICs (KVM) |
//! | 0xff00_0000 - 0xff00_ffff | memory of `--device testdev` |
//! | 0xfffb_c000 - 0xfffb_ffff | KVM's identity map and TSS |
//! | 0x1_0000_0000 - | RAM above the hole |
//! | 0x40_0000_0000 - 0x7f_ffff_ffff | PCI memory of 64-bit BARs |
//!
//! | port | what | GSI |
//! |---|---|---|
//! | 0x20, 0xa0, 0x4d0 | PICs, ELCR (KVM) | |
//! | 0x40 - 0x43, 0x61 | PIT (KVM) | 0 |
//! | 0x60, 0x64 | i8042 | 1, 12 |
//! | 0x70, 0x71 | RTC and CMOS | 8 |
//! | 0x80 | POST code | |
//! | 0x92 | fast A20 and reset | |
//! | 0xe0 - 0xeb | `--device testdev` | |
//! | 0xf4 - 0xf7 | debug exit | |
//! | 0x170 - 0x177, 0x376 | IDE, secondary channel | 15 |
//! | 0x1f0 - 0x1f7, 0x3f6 | IDE, primary channel | 14 |
//! | 0x3f8 - 0x3ff | serial port COM1 | 4 |
//! | 0x505 | pvpanic | |
//! | 0x510, 0x511, 0x514 - 0x51b | fw_cfg | |
//! | 0x600 - 0x63f | PIIX4 power management | 9 |
//! | 0x2000 - 0x2017 | `--device testdev`: one port a line | 0 - 23 |
//! | 0xcf8, 0xcfc | PCI configuration | |
//! | 0xcf9 | reset control | |
//! | 0xe80 - 0xe8f | postbox: Trapline's own | |
//! | 0xc000 - 0xfffe | I/O BARs | |
//!
//! | PCI function | what | id |
//! |---|---|---|
//! | 00:00.0 | i440FX host bridge | 8086:1237 |
//! | 00:01.0 | PIIX3 ISA bridge | 8086:7000 |
//! | 00:01.1 | PIIX3 IDE | 8086:7010 |
//! | 00:01.3 | PIIX4 power management | 8086:7113 |
//! | 00:02.0 - | what `--device` adds, in its order | |
//!
//! PCI interrupts: PIRQA and PIRQB go to GSI 10, PIRQC and PIRQD to 11; device 1's INTA is PIRQA, device
//! 2's PIRQB, and so on.

use crate::boot::Span;
use crate::trace::Space;

/// What KVM answers itself, for listings: (space, first, last, device, window).
pub const KERNEL_WINDOWS: [(Space, u64, u64, &str, &str); 8] = [
    (Space::Pio, 0x20, 0x21, "kvm-pic", "master"),
    (Space::Pio, 0x40, 0x43, "kvm-pit", "counters"),
    (Space::Pio, 0x61, 0x61, "kvm-pit", "speaker gate"),
    (Space::Pio, 0xa0, 0xa1, "kvm-pic", "slave"),
    (Space::Pio, 0x4d0, 0x4d1, "kvm-pic", "ELCR"),
    (
        Space::Mmio,
        0xfec0_0000,
        0xfec0_00ff,
        "kvm-ioapic",
        "registers",
    ),
    (
        Space::Mmio,
        0xfee0_0000,
        0xfee0_0fff,
        "kvm-lapic",
        "registers",
    ),
    (
        Space::Mmio,
        0xfffb_c000,
        0xfffb_ffff,
        "kvm",
        "identity map, TSS",
    ),
];

/// Where the ACPI tables lie: the first place a kernel without a pointer looks for the RSDP
/// (ACPI 6.5, 5.2.5.1).
pub const ACPI_TABLES: Span = Span {
    start: 0xe_0000,
    end: 0x10_0000,
};
/// The IOAPIC, in KVM.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The local APICs, in KVM.
pub const LAPIC: u32 = 0xfee0_0000;
/// Where a bare-metal payload finds its stack: below the boot structures it may overwrite.
pub const PAYLOAD_STACK: u64 = 0x8_0000;

/// Where PCI memory may lie: below the IOAPIC, and clear of the page at 0xfed9_0000.
pub const PCI_MEMORY: Span = Span {
    start: 0xc000_0000,
    end: 0xfec0_0000,
};
/// Where 64-bit BARs go: below 2^39, which is as far as a three-level VT-d table translates.
pub const PCI_MEMORY_64: Span = Span {
    start: 1 << 38,
    end: 1 << 39,
};
/// Where I/O BARs are assigned from.
pub const PCI_IO: u16 = 0xc000;

/// PCI functions of the chipset.
pub mod functions {
    use crate::trace::Bdf;

    /// i440FX.
    pub const HOST_BRIDGE: Bdf = Bdf(0);
    /// PIIX3's ISA bridge.
    pub const ISA_BRIDGE: Bdf = Bdf(1 << 3);
    /// PIIX3's IDE.
    pub const IDE: Bdf = Bdf(1 << 3 | 1);
    /// Device number of the first PCI device that is not the chipset's.
    pub const FIRST_EXTRA: u8 = 2;
    /// PIIX4's power management.
    pub const POWER: Bdf = Bdf(1 << 3 | 3);
}

/// Power management block (PIIX4 PMBASE, where firmware usually puts it).
pub const PM_BASE: u16 = 0x600;
/// PIIX3 reset control register.
pub const RESET_CONTROL: u16 = 0xcf9;
/// What resets the machine when written there: hard, and go.
pub const RESET_VALUE: u8 = 0x06;
/// The registers of both IDE channels that are only written: features to device. What a driver writes
/// there does nothing before the command, which is an exit.
pub const IDE_WRITES: [(u16, u32); 2] = [(0x1f1, 6), (0x171, 6)];
/// COM1.
pub const SERIAL: u16 = 0x3f8;
/// pvpanic, as in QEMU's `pc`.
pub const PVPANIC: u16 = 0x505;

/// fw_cfg, as in QEMU's `pc`.
pub const FW_CFG: u16 = 0x510;

/// Keyboard.
pub const GSI_KEYBOARD: u8 = 1;
/// COM1.
pub const GSI_SERIAL: u8 = 4;
/// Real-time clock.
pub const GSI_RTC: u8 = 8;
/// ACPI's system control interrupt.
pub const GSI_SCI: u8 = 9;
/// Mouse.
pub const GSI_MOUSE: u8 = 12;
/// IDE, primary and secondary.
pub const GSIS_IDE: [u8; 2] = [14, 15];
/// Where PIRQA to PIRQD go, as SeaBIOS routes them.
pub const PIRQ_GSIS: [u8; 4] = [10, 10, 11, 11];
/// Where an OS may route them, as in QEMU's `pc`.
pub const PIRQ_CHOICES: [u8; 3] = [5, 10, 11];
