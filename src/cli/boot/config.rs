//! `--config FILE.toml`.

use std::io;
use std::path::{Path, PathBuf};

use super::args::BootArgs;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key `boot` does not have.
    #[error(
        "{}: unknown key {key:?}{}",
        path.display(),
        nearest.as_ref().map(|n| format!("; did you mean {n:?}?")).unwrap_or_default()
    )]
    Key {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest key there is.
        nearest: Option<String>,
    },
    /// It is not TOML, or a value does not fit; the source says where.
    #[error("{}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Line, column and reason.
        source: Box<toml::de::Error>,
    },
}

/// Reads a file of options.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn read(path: &Path) -> Result<BootArgs, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.into(),
        source,
    })?;
    let value = |source| ConfigError::Value {
        path: path.into(),
        source: Box::new(source),
    };
    let table: toml::Table = text.parse().map_err(value)?;
    let known = keys();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        return Err(ConfigError::Key {
            path: path.into(),
            key: key.clone(),
            nearest: nearest(key, &known),
        });
    }
    toml::from_str(&text).map_err(value)
}

/// Every key: the long options, and the two positional arguments.
fn keys() -> Vec<String> {
    let command = <BootArgs as clap::Args>::augment_args(clap::Command::new("boot"));
    command
        .get_arguments()
        .map(|a| {
            a.get_long()
                .unwrap_or_else(|| a.get_id().as_str())
                .to_owned()
        })
        .filter(|name| name != "config")
        .collect()
}

fn nearest(key: &str, known: &[String]) -> Option<String> {
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(key, k), k))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::values::{Pair, Size};

    fn parse(text: &str) -> Result<BootArgs, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn keys_are_those_of_the_command_line() {
        let args = parse(
            "kernel = 'debian'\nmem = '1G'\ncpus = 2\nexec = 'true'\nfile = ['/a:/b']\n\
             on-oops = 'ignore'\ntimeout = '90s'\nprotocol = 'pvh'\nescape = 'ctrl-b'\n",
        )
        .unwrap();
        assert_eq!((args.cpus, args.mem), (Some(2), Some(Size(1 << 30))));
        assert_eq!(args.file, [Pair("/a".into(), "/b".into())]);
    }

    #[test]
    fn every_key_is_accepted_by_the_reader_and_by_the_list() {
        for key in keys() {
            let error = parse(&format!("{key} = {{}}\n")).unwrap_err();
            assert!(matches!(error, ConfigError::Value { .. }), "{key}: {error}");
            assert!(
                !format!("{error:?}").contains("unknown field"),
                "{key}: {error:?}"
            );
        }
    }

    #[test]
    fn the_labs_options_have_keys_too() {
        let lab = parse("lab-cpus = 3\nlab-mem = '2G'\naccel = 'tcg'\n")
            .unwrap()
            .lab;
        assert_eq!((lab.lab_cpus, lab.lab_mem), (Some(3), Some(Size(2 << 30))));
        assert!(matches!(lab.accel, Some(crate::cli::lab::AccelArg::Tcg)));
        let error = crate::cli::chain(&parse("lab-cpus = 256\n").unwrap_err());
        assert!(error.contains("256 is not in 1 to 255"), "{error}");
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = parse("cpuss = 2\n").unwrap_err().to_string();
        assert!(
            error.contains("unknown key \"cpuss\"") && error.contains("\"cpus\""),
            "{error}"
        );
    }

    #[test]
    fn a_value_that_does_not_fit_is_shown_with_its_line() {
        let error = parse("cpus = 2\nmem = 'lots'\n").unwrap_err();
        let text = crate::cli::chain(&error);
        assert!(
            text.contains("line 2") && text.contains("not a size"),
            "{text}"
        );
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = parse("mem = 128\ncpus = 4\nexec = 'a'\nmodule = ['x']\n").unwrap();
        let flags = BootArgs {
            cpus: Some(1),
            shell: true,
            ..BootArgs::default()
        };
        let both = flags.over(file);
        assert_eq!((both.cpus, both.mem), (Some(1), Some(Size(128 << 20))));
        assert!(
            both.shell && both.exec.is_none(),
            "--shell replaces the file's exec"
        );
        assert_eq!(both.module, ["x"]);
    }
}
