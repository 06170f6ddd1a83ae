//! Kernel formats, boot protocols, the initramfs and the ACPI tables.

pub mod payload;
