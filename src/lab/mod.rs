//! The disposable host: QEMU, a kernel with KVM, an initramfs, and a command run in it.
//!
//! The lab's root is this machine's root, read-only, over virtio-9p; so every program and file is
//! there under its own name. The command gets the caller's directory, environment, standard streams
//! and window size, and gives back its exit status. What it may write is a list of shares. Nothing is
//! left of a lab: no disk, no network, no process.

mod child;
mod choose;
mod command;
mod console;
mod devices;
mod error;
mod initramfs;
mod kernel;
mod machine;
mod memory;
mod options;
mod pump;
mod qemu;
mod session;
mod shares;
mod signals;
#[path = "../../guest/lab-init/switch.rs"]
mod switch;
mod talk;
mod terminal;
mod tunnel;
#[path = "../../guest/lab-init/wire.rs"]
mod wire;
mod wires;

pub use choose::{Decision, IN_LAB, Need, Place, choose, inside};
pub use command::{Command, Exit};
pub use devices::{Devices, TABLE, TableDevice};
pub use error::LabError;
pub use kernel::choose as choose_kernel;
pub use options::{Accel, Options};
pub use session::run;
pub use tunnel::Tunnel;
