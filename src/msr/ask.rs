//! The words between Trapline and a program that answers accesses: one JSON object a line, each way.

use std::fmt::Debug;

use serde::{Deserialize, Serialize, Serializer};

use super::access::{MsrAccess, Op, Reason};
use super::names;
use crate::trace::Direction;

/// What is asked. Numbers that may exceed 2^53 are hexadecimal text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Comes back with the answer.
    pub id: u64,
    /// Which vCPU.
    pub vcpu: u8,
    /// Where the instruction lies.
    #[serde(serialize_with = "hex_option")]
    pub rip: Option<u64>,
    /// Which MSR.
    #[serde(serialize_with = "hex")]
    pub msr: u64,
    /// Its name, when it has one.
    pub name: Option<String>,
    /// Read or write.
    pub access: Direction,
    /// The value written.
    #[serde(serialize_with = "hex_option")]
    pub value: Option<u64>,
    /// Why it came out.
    pub reason: Reason,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "signature given by serde"
)]
fn hex<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{value:#x}"))
}

#[expect(clippy::ref_option, reason = "signature given by serde")]
fn hex_option<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex(value, to),
        None => to.serialize_none(),
    }
}

impl Question {
    /// The question about an access.
    #[must_use]
    pub fn about(id: u64, access: MsrAccess, rip: Option<u64>) -> Self {
        Self {
            id,
            vcpu: access.vcpu,
            rip,
            msr: access.index.into(),
            name: names::of(access.index).map(|msr| msr.name.to_string()),
            access: access.op.direction(),
            value: match access.op {
                Op::Read => None,
                Op::Write(value) => Some(value),
            },
            reason: access.reason,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Done, with this value for a read.
    Value(u64),
    /// #GP.
    Fault,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It is not running any more.
    #[error("the program that answers MSRs has ended{0}")]
    Dead(String),
    /// It takes too long.
    #[error("the program that answers MSRs gave no answer within {0} ms")]
    Slow(u128),
    /// It does not speak the protocol.
    #[error("the program that answers MSRs wrote {line:?}: {why}")]
    Rubbish {
        /// What it wrote, cut short.
        line: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Something that answers questions.
pub trait Asker: Debug + Send + Sync {
    /// The answer; the `id` of the question is the asker's to set.
    ///
    /// # Errors
    /// [`AskError`].
    fn ask(&self, question: Question) -> Result<Reply, AskError>;
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: u64,
    value: Option<Number>,
    gp: Option<bool>,
}

/// Understands one line of a program: the question's number and the answer.
///
/// # Errors
/// [`AskError::Rubbish`].
pub fn understand(line: &str) -> Result<(u64, Reply), AskError> {
    let rubbish = |why: String| AskError::Rubbish {
        line: line.chars().take(80).collect(),
        why,
    };
    let parsed: Line = serde_json::from_str(line).map_err(|e| rubbish(e.to_string()))?;
    let reply = match (parsed.value, parsed.gp) {
        (None, Some(true)) => Reply::Fault,
        (Some(Number::Plain(value)), None | Some(false)) => Reply::Value(value),
        (Some(Number::Text(text)), None | Some(false)) => {
            let hex = text
                .strip_prefix("0x")
                .map(|hex| u64::from_str_radix(hex, 16));
            match hex.unwrap_or_else(|| text.parse()) {
                Ok(value) => Reply::Value(value),
                Err(_) => return Err(rubbish(format!("{text:?} is not a 64-bit number"))),
            }
        }
        _ => return Err(rubbish("it needs either value or gp = true".into())),
    };
    Ok((parsed.id, reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line_with_everything_known() {
        let access = MsrAccess {
            vcpu: 1,
            index: 0xc000_0103,
            op: Op::Write(u64::MAX),
            reason: Reason::Filter,
        };
        let json = serde_json::to_string(&Question::about(7, access, Some(0x10))).unwrap();
        assert_eq!(
            json,
            "{\"id\":7,\"vcpu\":1,\"rip\":\"0x10\",\"msr\":\"0xc0000103\",\
             \"name\":\"IA32_TSC_AUX\",\"access\":\"write\",\
             \"value\":\"0xffffffffffffffff\",\"reason\":\"filter\"}"
        );
    }

    #[test]
    fn answers_are_numbers_text_or_gp() {
        let table = [
            ("{\"id\":1,\"value\":5}", Some((1, Reply::Value(5)))),
            (
                "{\"id\":1,\"value\":\"0xffffffffffffffff\"}",
                Some((1, Reply::Value(u64::MAX))),
            ),
            ("{\"id\":2,\"gp\":true}", Some((2, Reply::Fault))),
            ("{\"id\":2,\"gp\":true,\"value\":1}", None),
            ("{\"id\":2}", None),
            ("{\"id\":2,\"value\":-1}", None),
            ("{\"id\":2,\"value\":\"0x1ffffffffffffffff\"}", None),
            ("{\"id\":2,\"value\":1,\"x\":1}", None),
            ("hello", None),
        ];
        for (line, expected) in table {
            assert_eq!(understand(line).ok(), expected, "{line}");
        }
    }
}
