//! QEMU's spellings, which fingers know: each with its name here, or why there is none.
//!
//! clap reads `-smp 2` as a cluster of short options and would accept `-append x` as `-a ppend`, so
//! these words are looked for before clap sees the command line. Single letters may be options of
//! our own and are looked for only after clap has refused them.

use std::ffi::OsString;

/// What a QEMU option is called here.
#[derive(Debug, Clone, Copy)]
enum Here {
    /// A flag of `trapline boot`.
    Flag(&'static str),
    /// Something else, or nothing; in words that follow "QEMU's -x ".
    Words(&'static str),
}

use Here::{Flag, Words};

const SERIAL: Here = Words("is not needed: the guest's serial console is standard output");
const NET: Here = Words("has no counterpart: guests have no network");
const BOARD: Here = Words("has no counterpart: there is one board, and KVM runs it");
const KVM: Here = Words("is not needed: guests always run on KVM; --in says on whose");
const GDB: Here =
    Words("has no counterpart: there is no gdb stub; --hang and post-mortems say where a guest is");

const TABLE: [(&str, Here); 30] = [
    ("-smp", Flag("--cpus")),
    ("-append", Flag("--append")),
    (
        "-kernel",
        Words("is a plain argument here: trapline boot KERNEL"),
    ),
    ("-initrd", Flag("--initrd")),
    ("-no-reboot", Flag("--on-reboot exit")),
    ("-nographic", SERIAL),
    ("-display", SERIAL),
    ("-vga", SERIAL),
    ("-serial", SERIAL),
    ("-monitor", Words("is trapline ctl NAME VERB here")),
    ("-qmp", Words("is trapline ctl NAME VERB here")),
    ("-name", Flag("--name")),
    ("-d", Flag("--events")),
    ("-trace", Flag("--events")),
    ("-cpu", Flag("--cpu")),
    ("-accel", KVM),
    ("-enable-kvm", KVM),
    ("-machine", BOARD),
    ("-M", BOARD),
    ("-device", Flag("--device")),
    (
        "-bios",
        Words("has no counterpart: kernels are entered directly, without firmware"),
    ),
    ("-drive", Flag("--disk")),
    ("-hda", Flag("--disk")),
    ("-hdb", Flag("--disk")),
    ("-cdrom", Flag("--cdrom")),
    ("-snapshot", Words("is --disk FILE,overlay here")),
    ("-nic", NET),
    ("-net", NET),
    ("-netdev", NET),
    ("-gdb", GDB),
];

/// Looked for only after clap has refused the command line.
const LETTERS: [(&str, Here); 2] = [
    ("-s", GDB),
    (
        "-S",
        Words("has no counterpart: `trapline ctl NAME pause` stops a running guest"),
    ),
];

/// What to say about words that only QEMU has.
pub(super) fn certain(arguments: &[OsString]) -> Option<String> {
    hints(arguments, |word| {
        TABLE
            .iter()
            .filter(|(qemu, _)| qemu.len() > 2)
            .find(|(qemu, _)| *qemu == word)
    })
}

/// What to say about words in a command line that clap has refused.
pub(super) fn likely(arguments: &[OsString]) -> Option<String> {
    hints(arguments, |word| {
        TABLE.iter().chain(&LETTERS).find(|(qemu, _)| *qemu == word)
    })
}

/// One line for each word found before a `--`, behind which everything is the guest's.
fn hints<'t>(
    arguments: &[OsString],
    find: impl Fn(&str) -> Option<&'t (&'static str, Here)>,
) -> Option<String> {
    let lines: Vec<String> = arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--")
        .filter_map(|argument| find(argument.to_str()?))
        .map(|(qemu, here)| match here {
            Flag(flag) => format!("QEMU's {qemu} is {flag} here"),
            Words(words) => format!("QEMU's {qemu} {words}"),
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn each_spelling_gets_its_own_line() {
        assert_eq!(
            certain(&argv("trapline boot -smp 2 -append quiet bzImage")).unwrap(),
            "QEMU's -smp is --cpus here\nQEMU's -append is --append here"
        );
    }

    #[test]
    fn what_follows_the_dashes_is_the_guests() {
        assert_eq!(certain(&argv("trapline lab -- qemu -smp 2")), None);
        assert_eq!(certain(&argv("-smp boot")), None, "the program's own name");
    }

    #[test]
    fn letters_wait_for_clap() {
        assert_eq!(certain(&argv("trapline boot -s -S -d int -M pc")), None);
        assert_eq!(
            likely(&argv("trapline boot -s -S -d int -M pc"))
                .unwrap()
                .lines()
                .count(),
            4
        );
    }

    #[test]
    fn a_hint_never_names_a_flag_that_boot_does_not_have() {
        let all = super::super::command();
        let Some(boot) = all.find_subcommand("boot") else {
            return;
        };
        for (qemu, here) in TABLE.iter().chain(&LETTERS) {
            let Flag(flag) = here else { continue };
            let long = flag.split(' ').next().unwrap().trim_start_matches('-');
            let has = boot.get_arguments().any(|a| a.get_long() == Some(long));
            assert!(has, "{qemu}: boot has no {flag}");
        }
    }
}
