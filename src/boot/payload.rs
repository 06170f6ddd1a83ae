//! The bare-metal guests that are built with the crate and started by name: `trapline boot :NAME`.
//!
//! Each is an ELF64 file entered by the 64-bit Linux boot protocol. They need no kernel, run in
//! milliseconds even where KVM emulates ring 0, and carry the tests of the run loop.

use std::fmt;

/// How a run of a payload ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Always with this status.
    Status(u8),
    /// With the status named by the last word of the command line.
    CommandLine,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::CommandLine => f.write_str("the last word of the command line"),
        }
    }
}

/// One bundled payload.
#[derive(Debug)]
pub struct Payload {
    /// Its name, without the colon.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The exit status of `trapline boot` when all is well.
    pub ending: Ending,
    /// The ELF file.
    pub elf: &'static [u8],
}

macro_rules! payloads {
    ($($name:literal, $about:literal, $ending:expr;)*) => {
        &[$(Payload {
            name: $name,
            about: $about,
            ending: $ending,
            elf: include_bytes!(concat!(env!("OUT_DIR"), "/payloads/", $name, ".elf")),
        }),*]
    };
}

static ALL: &[Payload] = payloads! {
    "hello", "says hello over the serial port", Ending::Status(0);
    "guard", "overflows a stack into its guard page, and is caught on a separate stack", Ending::Status(0);
    "smp", "starts every CPU of the MADT by INIT and SIPI", Ending::Status(0);
    "msr", "reads and writes an MSR that does not exist; -a 0x10 names another", Ending::Status(0);
    "msrops", "reads and writes MSRs from a table, for trapline msr matrix", Ending::Status(0);
    "msrloop", "reads and writes two MSRs as often as -a N says, on every CPU, and sums up", Ending::Status(0);
    "ports", "touches ports and memory where nothing answers, at every width", Ending::Status(0);
    "timer", "takes interrupts of PIT, RTC and APIC timer by PIC and IOAPIC, and times them", Ending::Status(0);
    "pci", "lists the functions of PCI bus 0, and drives edu when --device adds it", Ending::Status(0);
    "flood", "prints 64 KiB in numbered lines", Ending::Status(0);
    "echo", "sends back what it receives, until a q", Ending::Status(0);
    "exit", "ends with the status it is given: -a 7", Ending::CommandLine;
    "poweroff", "switches off through ACPI", Ending::Status(0);
    "reset", "resets through port 0xcf9", Ending::Status(0);
    "panic", "says that its kernel panicked, and resets at once", Ending::Status(70);
    "triple", "faults without an IDT", Ending::Status(71);
    "hang", "spins with interrupts off", Ending::Status(72);
    "halt", "halts with interrupts off", Ending::Status(72);
};

/// Every payload, in the order of the listing.
#[must_use]
pub fn all() -> &'static [Payload] {
    ALL
}

/// The payload called `name`, with or without its colon.
#[must_use]
pub fn find(name: &str) -> Option<&'static Payload> {
    let name = name.strip_prefix(':').unwrap_or(name);
    ALL.iter().find(|payload| payload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_payload_is_found_with_and_without_its_colon() {
        assert_eq!(find(":hello").unwrap().name, "hello");
        assert_eq!(find("hello").unwrap().name, "hello");
        assert!(find(":").is_none());
        assert!(find("::hello").is_none());
    }

    #[test]
    fn every_source_in_guest_payloads_is_listed() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/payloads");
        let mut built: Vec<String> = dir
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        built.sort();
        let mut listed: Vec<&str> = all().iter().map(|payload| payload.name).collect();
        listed.sort_unstable();
        assert_eq!(built, listed);
    }
}
