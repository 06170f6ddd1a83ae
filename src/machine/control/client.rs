//! The user's side: `trapline ps` and `trapline ctl`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::place::{Name, Place, PlaceError};
use super::{Reply, Request, RunStatus};

/// How long a machine may take for a reply.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest reply that is read.
const REPLY_MAX: u64 = 16 << 20;

/// A run that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none of that name.
    #[error("no run named {name}{}", hint(.running, .name.as_str()))]
    NoSuchRun {
        /// What was asked for.
        name: Name,
        /// Those that are.
        running: Vec<Name>,
    },
    /// The folder of control sockets cannot be used.
    #[error("cannot look for runs")]
    Place {
        /// Why.
        #[from]
        source: PlaceError,
    },
    /// The connection broke, or nothing came for half a minute.
    #[error("the run {name} did not answer; it may just have ended")]
    Silent {
        /// Which.
        name: Name,
        /// Why.
        source: io::Error,
    },
    /// Its answer is not the protocol's.
    #[error("the run {name} answered what this version does not understand")]
    Strange {
        /// Which.
        name: Name,
        /// Why.
        source: serde_json::Error,
    },
}

fn hint(running: &[Name], name: &str) -> String {
    let near = running
        .iter()
        .map(|r| (strsim::damerau_levenshtein(r.as_str(), name), r))
        .min()
        .filter(|(distance, _)| *distance <= 3.min(name.len()));
    match (near, running) {
        (_, []) => "; nothing runs now".into(),
        (Some((_, near)), _) => format!("; did you mean {near}?"),
        (None, _) => {
            let names: Vec<&str> = running.iter().map(Name::as_str).collect();
            format!("; there are {}", names.join(", "))
        }
    }
}

/// A connection to one run.
#[derive(Debug)]
pub struct Client {
    name: Name,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// To the run `name`.
    ///
    /// # Errors
    /// [`ClientError::NoSuchRun`] with the nearest name, or why it cannot be reached.
    pub fn connect(place: &Place, name: &Name) -> Result<Self, ClientError> {
        let silent = |source| ClientError::Silent {
            name: name.clone(),
            source,
        };
        let Some(stream) = place.connect(name).map_err(silent)? else {
            return Err(ClientError::NoSuchRun {
                name: name.clone(),
                running: place.names()?,
            });
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(silent)?;
        Ok(Self {
            name: name.clone(),
            stream: BufReader::new(stream),
        })
    }

    /// Asks for one verb.
    ///
    /// # Errors
    /// [`ClientError`] when no reply comes, or none that is one.
    pub fn call(&mut self, verb: &str, args: &[String]) -> Result<Reply, ClientError> {
        let request = Request {
            verb: verb.into(),
            args: args.to_vec(),
        };
        let silent = |source| ClientError::Silent {
            name: self.name.clone(),
            source,
        };
        let strange = |source| ClientError::Strange {
            name: self.name.clone(),
            source,
        };
        let mut line = serde_json::to_vec(&request).map_err(strange)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).map_err(silent)?;
        line.clear();
        let mut limited = self.stream.by_ref().take(REPLY_MAX);
        limited.read_until(b'\n', &mut line).map_err(silent)?;
        if line.is_empty() {
            return Err(silent(io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_slice(&line).map_err(strange)
    }
}

/// One row of `trapline ps`.
#[derive(Debug)]
pub struct Run {
    /// Its name.
    pub name: Name,
    /// What it says of itself, or why it says nothing.
    pub status: Result<RunStatus, ClientError>,
}

/// Every run that is alive. What dead runs left behind is removed.
///
/// # Errors
/// When the folder of control sockets cannot be used.
pub fn runs(place: &Place) -> Result<Vec<Run>, PlaceError> {
    let mut runs = Vec::new();
    for name in place.names()? {
        match status(place, &name) {
            Err(ClientError::NoSuchRun { .. }) => {}
            status => runs.push(Run { name, status }),
        }
    }
    Ok(runs)
}

fn status(place: &Place, name: &Name) -> Result<RunStatus, ClientError> {
    let mut client = Client::connect(place, name)?;
    let silent = |error: String| ClientError::Silent {
        name: name.clone(),
        source: io::Error::other(error),
    };
    match client.call("status", &[])? {
        Reply::Done { result, .. } => {
            serde_json::from_value(result).map_err(|source| ClientError::Strange {
                name: name.clone(),
                source,
            })
        }
        Reply::Refused { error, .. } => Err(silent(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path().join("t")).unwrap();
        let ask = |name: &str| {
            let name = name.parse().unwrap();
            Client::connect(&place, &name).unwrap_err().to_string()
        };
        assert_eq!(ask("guest"), "no run named guest; nothing runs now");
        let _run = place.listen(&"guest-one".parse().unwrap()).unwrap();
        assert_eq!(
            ask("guest-noe"),
            "no run named guest-noe; did you mean guest-one?"
        );
        assert_eq!(ask("other"), "no run named other; there are guest-one");
    }

    #[test]
    fn a_run_that_hangs_up_is_said_to_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path().join("t")).unwrap();
        let name: Name = "a".parse().unwrap();
        let run = place.listen(&name).unwrap();
        let mut client = Client::connect(&place, &name).unwrap();
        drop(run);
        let error = client.call("status", &[]).unwrap_err();
        assert!(error.to_string().contains("may just have ended"), "{error}");
    }
}
