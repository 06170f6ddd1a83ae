//! `trapline ctl NAME [VERB [WORD...]] [--json]`

use serde_json::Value;

use super::{Failure, Status, out};
use crate::machine::control::{Client, ClientError, Name, Place, Refused, Reply};

/// Ask something of a running guest: status, pause, resume, regs, nmi, reset, stop, msr-policy,
/// memory, balloon
#[derive(Debug, clap::Args)]
pub(super) struct Ctl {
    /// The guest, as `trapline ps` lists it
    name: Name,
    /// What to do; without it, what can be done
    #[arg(default_value = "help")]
    verb: String,
    /// The verb's words
    args: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RefusedError(String);

impl Ctl {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let place = Place::find().map_err(Failure::host)?;
        let args = self.words()?;
        let reply = Client::connect(&place, &self.name)
            .and_then(|mut client| client.call(&self.verb, &args))
            .map_err(failure)?;
        match reply {
            Reply::Done { result, .. } if self.json => out::json("ctl", &[result])?,
            Reply::Done { result, .. } => out::print(text(&result))?,
            Reply::Refused { kind, error, .. } => {
                let error = RefusedError(error);
                return Err(match kind {
                    Refused::Usage => Failure::usage(error),
                    Refused::Failed => Failure::internal(error),
                });
            }
        }
        Ok(Status::Ok)
    }
}

impl Ctl {
    /// The verb's words. Files are named from here, and the run may be in another folder.
    fn words(&self) -> Result<Vec<String>, Failure> {
        let whole = |word: &String| {
            if self.verb != "msr-policy" || word.starts_with(':') {
                return Ok(word.clone());
            }
            let path = std::path::absolute(word).map_err(Failure::usage)?;
            path.into_os_string().into_string().map_err(|path| {
                Failure::usage(format!(
                    "{} is not UTF-8, which verbs' words are",
                    path.display()
                ))
            })
        };
        self.args.iter().map(whole).collect()
    }
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::NoSuchRun { .. } => Failure::usage(error),
        ClientError::Place { .. } => Failure::host(error),
        ClientError::Silent { .. } | ClientError::Strange { .. } => Failure::internal(error),
    }
}

/// A reply for humans: words as they are, objects as `key: value` lines, rows of objects as
/// one line each. An object with a `text` has been made for humans by the machine.
fn text(result: &Value) -> String {
    match result {
        Value::Null => String::new(),
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get("text") {
                return ended(text.clone());
            }
            let width = fields.keys().map(|k| k.chars().count()).max().unwrap_or(0) + 1;
            let line = |(key, value): (&String, &Value)| {
                format!("{:width$} {}\n", format!("{key}:"), word(value))
            };
            fields.iter().map(line).collect()
        }
        Value::Array(rows) => {
            let row = |row: &Value| match row {
                Value::Object(fields) => {
                    let cell = |(key, value)| format!("{key}: {}", word(value));
                    fields.iter().map(cell).collect::<Vec<_>>().join("  ")
                }
                other => word(other),
            };
            rows.iter().map(|r| row(r) + "\n").collect()
        }
        other => ended(word(other)),
    }
}

fn ended(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_read_well() {
        let table = [
            (json!(null), ""),
            (json!("paused"), "paused\n"),
            (json!({"cpus": 2, "name": "a"}), "cpus: 2\nname: a\n"),
            (json!({"text": "RIP 0x10\n", "rip": "0x10"}), "RIP 0x10\n"),
            (
                json!([{"hits": 3, "name": "serial"}, 7]),
                "hits: 3  name: serial\n7\n",
            ),
        ];
        for (result, expected) in table {
            assert_eq!(text(&result), expected);
        }
    }

    #[test]
    fn an_unknown_run_is_the_users_mistake() {
        let error = ClientError::NoSuchRun {
            name: "a".parse().unwrap(),
            running: Vec::new(),
        };
        assert_eq!(failure(error).status, Status::Usage);
    }
}
