//! ATA drives on their channels (ATA/ATAPI-7; ATA/ATAPI-6 for what that removed).
//!
//! A [`drive::Drive`] is pure state: registers, a buffer, and what it is in the middle of. What it needs
//! of its medium it asks for as a value; the [`Channel`]'s worker does it off the vCPU threads, moves
//! the bytes of a bus-master transfer, and tells the drive how it went.
//!
//! | file | what |
//! |---|---|
//! | `regs`, `task_file`, `command` | registers, addresses in them, command codes |
//! | `drive` | phases, the data port, faults: what all drives have in common |
//! | `disk`, `identify` | commands of a hard disk |
//! | `cdrom`, `packet`, `packet_data` | commands of a CD-ROM drive |
//! | `medium` | what a drive reads and writes |
//! | `prd`, `bus_master` | scatter-gather tables and registers of the bus master |
//! | `work`, `channel` | the worker's jobs; two drives on a cable |

mod bus_master;
mod cdrom;
mod channel;
mod command;
mod disk;
mod drive;
mod identify;
mod medium;
mod packet;
mod packet_data;
mod prd;
mod regs;
mod task_file;
mod work;

#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;

pub(super) use channel::{Channel, ChannelState};
pub use drive::DriveKind;
pub use medium::{Medium, MediumFault};
