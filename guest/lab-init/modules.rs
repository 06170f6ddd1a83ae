//! Kernel modules.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Failed, failed, sys};

/// Modules that are open and not loaded yet, dependencies first. Open, because the root changes
/// before the last of them is loaded.
#[derive(Debug)]
pub(crate) struct Modules(Vec<Module>);

#[derive(Debug)]
struct Module {
    path: String,
    file: File,
    parameters: String,
}

impl Modules {
    /// Opens what a list in the initramfs names.
    pub(crate) fn open(list: &str) -> Result<Self, Failed> {
        let order = fs::read_to_string(list).map_err(failed(format!("cannot read {list}")))?;
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let open = |path: &str| {
            let name = Path::new(path).file_stem().unwrap_or_default();
            Ok(Module {
                file: File::open(path).map_err(failed(format!("cannot open {path}")))?,
                parameters: parameters(&command_line, &name.to_string_lossy()),
                path: path.into(),
            })
        };
        order.lines().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Loads them.
    pub(crate) fn load(self) {
        const EEXIST: i32 = 17;
        for module in self.0 {
            let loaded = sys::load_module(&module.file, &module.parameters);
            // What the kernel has already is no failure, and a driver may refuse a machine it has
            // nothing to do on (ENODEV). What the lab cannot do without is missed later, by name.
            if let Err(error) = loaded.or_else(|error| match error.raw_os_error() {
                Some(EEXIST) => Ok(()),
                _ => Err::<(), io::Error>(error),
            }) {
                eprintln!("cannot load {}: {error}", module.path);
            }
        }
    }
}

/// A module's parameters, `MODULE.PARAMETER=VALUE` on the kernel's command line. The kernel gives
/// them to what is built in; for the rest modprobe does, and here there is none.
fn parameters(command_line: &str, name: &str) -> String {
    let mine = command_line.split_whitespace().filter_map(|word| {
        let (module, parameter) = word.split_once('.')?;
        (module.replace('-', "_") == name).then_some(parameter)
    });
    mine.collect::<Vec<_>>().join(" ")
}
