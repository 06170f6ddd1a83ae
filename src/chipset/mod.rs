//! The devices of the PC.
//!
//! Each file is one device as its data sheet describes it, with owned handles for everything outside
//! it: interrupt lines, the clock, memory, sinks. Ports that every PC has at one place are constants
//! of the device; where the board has a choice the constructor takes the base.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod ata;
mod debug_exit;
mod fw_cfg;
mod host_input;
mod i440fx;
mod i8042;
mod lanes;
mod piix3_ide;
mod piix3_isa;
mod piix3_rcr;
mod piix4_pm;
mod port92;
mod post;
mod postbox;
#[path = "../../guest/postbox_abi.rs"]
pub mod postbox_abi;
mod ps2_keyboard;
mod pvpanic;
mod rtc;
mod rtc_alarm;
mod rtc_calendar;
mod serial;
mod serial_pace;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod rig;

pub use ata::{DriveKind, Medium, MediumFault};
pub use debug_exit::{DebugExit, DebugExitMode};
pub use fw_cfg::{FW_CFG_PORTS, FwCfg, FwCfgBlob, FwCfgFacts, FwCfgRam};
pub use host_input::HostInput;
pub use i440fx::HostBridge;
pub use i8042::I8042;
pub use piix3_ide::{DriveMedium, Piix3Ide};
pub use piix3_isa::IsaBridge;
pub use piix4_pm::{PM_TIMER_HZ, PmBlock, PowerButton, SLP_TYP_S5};
pub use port92::Port92;
pub use post::{PostCode, PostTrail};
pub use postbox::{Parcels, Postbox};
pub use pvpanic::Pvpanic;
pub use rtc::{CmosMemory, RTC_CENTURY, Rtc};
pub use serial::{ConsoleOut, Serial};
