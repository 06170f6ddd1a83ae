//! The machine's apt configuration, and the private one made from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::AptError;
use super::sources::{self, Source};

/// What is taken over from this machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Its package sources.
    pub(super) sources: Vec<Source>,
    /// Code name of its release.
    pub(super) codename: String,
    /// Proxies, time-outs, checks and credentials, as configuration lines.
    pub(super) settings: Vec<String>,
}

/// Settings that say how to reach and check an archive. Hooks are not among them: they act on the
/// system's own state. Of `Acquire` the lists of indexes and languages are our business.
fn is_taken_over(line: &str) -> bool {
    let refused = [
        "Acquire::IndexTargets",
        "Acquire::Languages",
        "Acquire::Changelogs",
    ];
    line.starts_with("Acquire::") && !refused.iter().any(|prefix| line.starts_with(prefix))
}

impl Machine {
    pub(super) fn read() -> Result<Self, AptError> {
        let keys = [
            ("LIST", "Dir::Etc::sourcelist/f"),
            ("PARTS", "Dir::Etc::sourceparts/d"),
            ("trusted", "Dir::Etc::trusted/f"),
            ("trustedparts", "Dir::Etc::trustedparts/d"),
            ("netrc", "Dir::Etc::netrc/f"),
            ("netrcparts", "Dir::Etc::netrcparts/d"),
        ];
        let args = keys.iter().flat_map(|(name, key)| [*name, *key]);
        let paths = apt_config("shell", args)?;
        let path = |name: &str| {
            let line = paths
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
            line.map(|value| PathBuf::from(value.trim_matches('\'')))
        };
        let mut settings: Vec<String> = apt_config("dump", [])?
            .lines()
            .filter(|line| is_taken_over(line))
            .map(str::to_owned)
            .collect();
        // Keys and credentials stay where they are; with a Signed-By only that key counts.
        for name in ["trusted", "trustedparts", "netrc", "netrcparts"] {
            if let Some(path) = path(name) {
                settings.push(format!("Dir::Etc::{name} \"{}\";", path.display()));
            }
        }
        Ok(Self {
            sources: read_sources(path("LIST"), path("PARTS"))?,
            codename: codename(),
            settings,
        })
    }
}

fn apt_config<'a>(verb: &str, args: impl IntoIterator<Item = &'a str>) -> Result<String, AptError> {
    let output = Command::new("apt-config")
        .arg(verb)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(AptError::run("apt-config"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read_sources(list: Option<PathBuf>, parts: Option<PathBuf>) -> Result<Vec<Source>, AptError> {
    let mut files: Vec<PathBuf> = list.into_iter().filter(|path| path.is_file()).collect();
    if let Some(entries) = parts.and_then(|dir| fs::read_dir(dir).ok()) {
        let mut found: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        found.sort();
        files.extend(found);
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => sources::parse_list,
            Some("sources") => sources::parse_deb822,
            _ => continue,
        };
        let text = fs::read_to_string(&file).map_err(AptError::io("read", &file))?;
        sources.extend(parse(&text));
    }
    Ok(sources)
}

/// The release's code name: of the distribution this one is derived from where that is said
/// (Ubuntu's derivatives), since the kernels come from there.
fn codename() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned())
            .filter(|v| !v.is_empty())
    };
    // Debian's testing and unstable name no version.
    value("UBUNTU_CODENAME")
        .or_else(|| value("VERSION_CODENAME"))
        .unwrap_or_else(|| "sid".into())
}

/// The private configuration. It is read through `APT_CONFIG`, which apt reads before the machine's
/// own files; those it replaces by naming empty ones.
pub(super) fn render(dir: &Path, machine: &Machine) -> String {
    let dir = dir.display();
    let mut text = format!(
        "Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"{dir}/empty\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"{dir}/empty\";\n\
         Dir::Etc::sourcelist \"/dev/null\";\n\
         Dir::Etc::sourceparts \"{dir}/sources\";\n\
         Dir::State \"{dir}/state\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Dir::Log \"{dir}/log\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Architectures {{ \"amd64\"; }};\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n"
    );
    for line in &machine.settings {
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reaching_and_checking_is_taken_over_but_no_hook_and_no_index() {
        for line in [
            "Acquire::http::Proxy \"p:3142\";",
            "Acquire::Check-Valid-Until \"false\";",
        ] {
            assert!(is_taken_over(line), "{line}");
        }
        for line in [
            "APT::Update::Post-Invoke:: \"rm\";",
            "DPkg::Pre-Install-Pkgs:: \"x\";",
            "Acquire::Languages:: \"de\";",
            "Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";",
        ] {
            assert!(!is_taken_over(line), "{line}");
        }
    }

    #[test]
    fn the_private_configuration_keeps_apt_out_of_the_systems_state() {
        let machine = Machine {
            settings: vec!["Acquire::http::Proxy \"p:3142\";".into()],
            ..Machine::default()
        };
        let text = render(Path::new("/c/apt/sid"), &machine);
        for line in [
            "Dir::State \"/c/apt/sid/state\";",
            "Dir::Cache \"/c/apt/sid/cache\";",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.ends_with("Acquire::http::Proxy \"p:3142\";\n"));
    }
}
