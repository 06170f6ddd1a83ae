//! The policy's TOML, as it is written.

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use super::error::Problem;

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Text {
    pub(super) rule: Vec<RuleText>,
    pub(super) default: DefaultText,
    pub(super) ask: Option<AskText>,
}

/// `[[rule]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RuleText {
    pub(super) msr: Spanned<Word>,
    pub(super) access: Option<Spanned<String>>,
    pub(super) vcpu: Option<Spanned<Vec<i64>>>,
    #[serde(rename = "do")]
    pub(super) action: Option<Spanned<String>>,
    pub(super) value: Option<Spanned<Number>>,
    pub(super) mask: Option<Spanned<Number>>,
    pub(super) read_only: Option<Spanned<bool>>,
    pub(super) write_1_to_clear: Option<Spanned<Number>>,
    pub(super) counter: Option<Spanned<Number>>,
    pub(super) shared: Option<Spanned<bool>>,
    pub(super) reset: Option<Spanned<String>>,
    pub(super) log: Option<bool>,
    pub(super) count: Option<bool>,
    pub(super) nth: Option<Spanned<Number>>,
}

/// `[default]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DefaultText {
    pub(super) unknown: Option<Spanned<String>>,
    pub(super) inval: Option<Spanned<String>>,
    pub(super) filter: Option<Spanned<String>>,
    pub(super) log: Option<bool>,
}

/// `[ask]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskText {
    pub(super) command: Spanned<String>,
    pub(super) timeout: Option<Spanned<String>>,
    pub(super) otherwise: Option<Spanned<String>>,
}

/// Text, or a number where it stands for an index.
#[derive(Debug)]
pub(super) struct Word(pub(super) String);

/// A 64-bit number: TOML's own are signed, so the upper half is written as text.
#[derive(Debug)]
pub(super) struct Number(pub(super) String);

struct TextOrNumber;

impl Visitor<'_> for TextOrNumber {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrNumber).map(Self)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrNumber).map(Self)
    }
}

impl Number {
    pub(super) fn value(&self) -> Result<u64, Problem> {
        number(&self.0)
    }
}

/// A 64-bit number: decimal, or hexadecimal after `0x`; underscores as in TOML.
///
/// # Errors
/// [`Problem::Number`].
pub fn number(text: &str) -> Result<u64, Problem> {
    let digits = text.trim().replace('_', "");
    let parsed = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16),
        None if !digits.starts_with('+') => digits.parse(),
        _ => return Err(Problem::Number(text.into())),
    };
    parsed.map_err(|_| Problem::Number(text.into()))
}

const KEYS: &[&str] = &[
    "rule",
    "default",
    "ask",
    "msr",
    "access",
    "vcpu",
    "do",
    "value",
    "mask",
    "read-only",
    "write-1-to-clear",
    "counter",
    "shared",
    "reset",
    "log",
    "count",
    "nth",
    "unknown",
    "inval",
    "filter",
    "command",
    "timeout",
    "otherwise",
];

/// Reads a file; an error comes with the byte it is at.
pub(super) fn parse(text: &str) -> Result<Text, (usize, Problem)> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().trim();
        let unknown = message
            .strip_prefix("unknown field `")
            .and_then(|rest| rest.split_once('`'));
        let problem = match unknown {
            Some((key, _)) => Problem::Key {
                key: key.into(),
                nearest: nearest(key, KEYS).into(),
            },
            None => Problem::Syntax(message.replace('\n', "; ")),
        };
        (at, problem)
    })
}

/// The word most like `word`.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> &'a str {
    known
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)))
        .copied()
        .unwrap_or_default()
}

/// Line and column of a byte, both from 1.
pub(super) fn position(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let last = before.rsplit('\n').next().unwrap_or_default();
    let column = last.chars().count().saturating_add(1);
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (small(line), small(column))
}
