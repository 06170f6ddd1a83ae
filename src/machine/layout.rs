//! Every address and port of the board on one screen.
//!
//! | guest physical | what |
//! |---|---|
//! | 0x0000_0000 - 0x0009_ffff | RAM: boot structures ([`crate::boot::Places`]), start-up code |
//! | 0x000a_0000 - 0x000f_ffff | reserved; ACPI tables from 0xe_0000 |
//! | 0x0010_0000 - | RAM: kernel, initramfs |
//! | 0xc000_0000 - 0xffff_ffff | the hole: no RAM |
//! | 0xfec0_0000 | IOAPIC (KVM) |
//! | 0xfed9_0000 | left free for VT-d |
//! | 0xfee0_0000 | local APICs (KVM) |
//! | 0xfffb_c000 - 0xfffb_ffff | KVM's identity map and TSS |
//! | 0x1_0000_0000 - | RAM above the hole |
//!
//! | port | what | GSI |
//! |---|---|---|
//! | 0x20, 0xa0, 0x4d0 | PICs, ELCR (KVM) | |
//! | 0x40 - 0x43, 0x61 | PIT (KVM) | 0 |
//! | 0x60, 0x64 | i8042 | 1, 12 |
//! | 0x70, 0x71 | RTC and CMOS | 8 |
//! | 0x80 | POST code | |
//! | 0x92 | fast A20 and reset | |
//! | 0xf4 - 0xf7 | debug exit | |
//! | 0x3f8 - 0x3ff | serial port COM1 | 4 |
//! | 0x505 | pvpanic | |
//! | 0x600 - 0x63f | PIIX4 power management | 9 |
//! | 0xcf9 | reset control | |
//! | 0xe80 - 0xe8f | postbox: Trapline's own | |

use crate::boot::Span;

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

/// Power management block (PIIX4 PMBASE, where firmware usually puts it).
pub const PM_BASE: u16 = 0x600;
/// PIIX3 reset control register.
pub const RESET_CONTROL: u16 = 0xcf9;
/// What resets the machine when written there: hard, and go.
pub const RESET_VALUE: u8 = 0x06;
/// COM1.
pub const SERIAL: u16 = 0x3f8;
/// pvpanic, as in QEMU's `pc`.
pub const PVPANIC: u16 = 0x505;

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
