//! What a kernel build needs of this machine.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program or header that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// What is looked for.
    pub name: &'static str,
    /// Debian's and Ubuntu's package of it.
    pub package: &'static str,
}

const PROGRAMS: [Tool; 7] = [
    Tool {
        name: "make",
        package: "build-essential",
    },
    Tool {
        name: "gcc",
        package: "build-essential",
    },
    Tool {
        name: "ld",
        package: "build-essential",
    },
    Tool {
        name: "flex",
        package: "flex",
    },
    Tool {
        name: "bison",
        package: "bison",
    },
    Tool {
        name: "bc",
        package: "bc",
    },
    Tool {
        name: "perl",
        package: "perl",
    },
];

/// objtool reads and writes object files on every x86-64 build, whatever the configuration.
const LIBELF: Tool = Tool {
    name: "gelf.h",
    package: "libelf-dev",
};

/// What this machine lacks.
pub(super) fn missing() -> Vec<Tool> {
    let mut missing: Vec<Tool> = PROGRAMS
        .into_iter()
        .filter(|tool| !is_program(tool.name))
        .collect();
    if !missing.iter().any(|tool| tool.name == "gcc") && !has_header(LIBELF.name) {
        missing.push(LIBELF);
    }
    missing
}

/// Those of these programs that this machine lacks.
pub(in crate::kernels) fn missing_programs(names: &[&str]) -> Vec<Tool> {
    let wanted = PROGRAMS
        .into_iter()
        .filter(|tool| names.contains(&tool.name));
    wanted.filter(|tool| !is_program(tool.name)).collect()
}

/// Whether the search path has a program.
pub(super) fn is_program(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| Path::new(&dir).join(name).is_file())
}

fn has_header(name: &str) -> bool {
    let status = Command::new("gcc")
        .args(["-E", "-x", "c", "-include", name, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

pub(super) fn names(tools: &[Tool]) -> String {
    list(tools.iter().map(|tool| tool.name), ", ")
}

pub(super) fn packages(tools: &[Tool]) -> String {
    list(tools.iter().map(|tool| tool.package), " ")
}

fn list<'a>(words: impl Iterator<Item = &'a str>, separator: &str) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        if !seen.contains(&word) {
            seen.push(word);
        }
    }
    seen.join(separator)
}

#[cfg(test)]
mod tests {
    use super::super::BuildError;
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_one_line_that_gets_it() {
        let [make, gcc, _, flex, ..] = PROGRAMS;
        let text = BuildError::Tools(vec![make, gcc, flex, LIBELF]).to_string();
        assert_eq!(
            text,
            "building a kernel needs make, gcc, flex, gelf.h; get it with\n  \
             sudo apt-get install build-essential flex libelf-dev"
        );
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        assert!(is_program("sh"));
        assert!(!is_program("no-such-program-anywhere"));
    }
}
