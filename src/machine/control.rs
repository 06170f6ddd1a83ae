//! The control socket: JSON lines, one reply for each request, in order.
//!
//! A request is `{"verb":"status","args":[]}`; a reply is `{"ok":true,"result":...}` or
//! `{"ok":false,"kind":"failed","error":"..."}`. Rooms add verbs to [`Verbs`]; the machine's own
//! are status, pause, resume, regs, nmi, reset and stop.

mod client;
mod place;
mod server;
mod verbs;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::{Client, ClientError, Run, runs};
pub use place::{Listening, Name, NameError, Place, PlaceError};
pub use server::ControlServer;
pub use verbs::Verbs;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Which verb.
    pub verb: String,
    /// Its words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The request is not understood: no such verb, wrong words, no JSON.
    Usage,
    /// It was understood and could not be done.
    Failed,
}

/// What the machine answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// Done.
    Done {
        /// True.
        ok: Yes,
        /// What there is to say.
        result: Value,
    },
    /// Not done.
    Refused {
        /// False.
        ok: No,
        /// Whose fault it is.
        kind: Refused,
        /// Why, for humans.
        error: String,
    },
}

impl Reply {
    /// Done, with what there is to say; what cannot be JSON is answered as a failure.
    pub fn done(result: impl Serialize) -> Self {
        match serde_json::to_value(result) {
            Ok(result) => Self::Done { ok: Yes, result },
            Err(error) => Self::failed(format!("the answer cannot be written as JSON: {error}")),
        }
    }

    /// Done, and nothing to say.
    #[must_use]
    pub const fn nothing() -> Self {
        Self::Done {
            ok: Yes,
            result: Value::Null,
        }
    }

    /// Understood, but it could not be done.
    pub fn failed(error: impl Into<String>) -> Self {
        Self::Refused {
            ok: No,
            kind: Refused::Failed,
            error: error.into(),
        }
    }

    /// Not understood.
    pub fn usage(error: impl Into<String>) -> Self {
        Self::Refused {
            ok: No,
            kind: Refused::Usage,
            error: error.into(),
        }
    }
}

/// `true` in JSON, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct Yes;

/// `false` in JSON, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct No;

impl From<Yes> for bool {
    fn from(_: Yes) -> Self {
        true
    }
}
impl From<No> for bool {
    fn from(_: No) -> Self {
        false
    }
}
impl TryFrom<bool> for Yes {
    type Error = &'static str;
    fn try_from(ok: bool) -> Result<Self, Self::Error> {
        ok.then_some(Self).ok_or("not true")
    }
}
impl TryFrom<bool> for No {
    type Error = &'static str;
    fn try_from(ok: bool) -> Result<Self, Self::Error> {
        (!ok).then_some(Self).ok_or("not false")
    }
}

/// Does what clients ask. Called on the main thread.
pub trait Controller {
    /// Does one request.
    fn handle(&mut self, request: Request) -> Reply;
}

/// What the verb `status` says; `trapline ps` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The run's name.
    pub name: String,
    /// Trapline's process id.
    pub pid: u32,
    /// `running`, `paused`.
    pub state: String,
    /// The kernel, as the user named it or as it was found.
    pub kernel: String,
    /// vCPUs.
    pub cpus: u32,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Since the run began.
    pub uptime_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_look_as_the_protocol_says() {
        let table = [
            (Reply::nothing(), r#"{"ok":true,"result":null}"#),
            (Reply::done(7), r#"{"ok":true,"result":7}"#),
            (
                Reply::failed("no"),
                r#"{"ok":false,"kind":"failed","error":"no"}"#,
            ),
            (
                Reply::usage("what"),
                r#"{"ok":false,"kind":"usage","error":"what"}"#,
            ),
        ];
        for (reply, json) in table {
            assert_eq!(serde_json::to_string(&reply).unwrap(), json);
            assert_eq!(serde_json::from_str::<Reply>(json).unwrap(), reply);
        }
        assert!(serde_json::from_str::<Reply>(r#"{"ok":false,"result":7}"#).is_err());
    }
}
