//! The verbs of a machine, from all its rooms.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::json;

use super::{Controller, Reply, Request};

type Call = Box<dyn FnMut(&[String]) -> Reply>;

struct Verb {
    help: &'static str,
    call: Call,
}

/// A controller made of closures. The verb `help` lists them.
#[derive(Default)]
pub struct Verbs(BTreeMap<&'static str, Verb>);

impl fmt::Debug for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Verbs {
    /// None but `help`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a verb that takes words; `help` is one line. A second verb of the same name replaces
    /// the first.
    pub fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        call: impl FnMut(&[String]) -> Reply + 'static,
    ) -> &mut Self {
        let call = Box::new(call);
        self.0.insert(name, Verb { help, call });
        self
    }

    /// Adds a verb that takes no words.
    pub fn plain(
        &mut self,
        name: &'static str,
        help: &'static str,
        mut call: impl FnMut() -> Reply + 'static,
    ) -> &mut Self {
        self.add(name, help, move |args| match args {
            [] => call(),
            _ => Reply::usage(format!(
                "{name} takes no words; leave out {}",
                args.join(" ")
            )),
        })
    }

    fn help(&self) -> Reply {
        let width = self.0.keys().map(|name| name.len()).max().unwrap_or(0);
        let text: String = self
            .0
            .iter()
            .map(|(name, verb)| format!("{name:width$}  {}\n", verb.help))
            .collect();
        let verbs = self.0.iter();
        let verbs = verbs.map(|(name, verb)| json!({"verb": name, "help": verb.help}));
        Reply::done(json!({"text": text, "verbs": verbs.collect::<Vec<_>>()}))
    }

    fn unknown(&self, verb: &str) -> Reply {
        let near = self
            .0
            .keys()
            .map(|name| (strsim::damerau_levenshtein(name, verb), *name))
            .min()
            .filter(|(distance, _)| *distance <= 2);
        match near {
            Some((_, near)) => Reply::usage(format!("no verb {verb:?}; did you mean {near}?")),
            None => {
                let names: Vec<&str> = self.0.keys().copied().collect();
                Reply::usage(format!("no verb {verb:?}; there are {}", names.join(", ")))
            }
        }
    }
}

impl Controller for Verbs {
    fn handle(&mut self, request: Request) -> Reply {
        match self.0.get_mut(request.verb.as_str()) {
            Some(verb) => (verb.call)(&request.args),
            None if request.verb == "help" => self.help(),
            None => self.unknown(&request.verb),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Refused;
    use super::*;

    fn ask(verbs: &mut Verbs, verb: &str, args: &[&str]) -> Reply {
        verbs.handle(Request {
            verb: verb.into(),
            args: args.iter().map(|&a| a.into()).collect(),
        })
    }

    fn verbs() -> Verbs {
        let mut verbs = Verbs::new();
        let mut paused = false;
        verbs
            .plain("pause", "stop the vCPUs", move || {
                let before = std::mem::replace(&mut paused, true);
                Reply::done(before)
            })
            .add("echo", "say it again", |words| Reply::done(words));
        verbs
    }

    #[test]
    fn verbs_get_their_words_and_keep_their_state() {
        let mut verbs = verbs();
        assert_eq!(ask(&mut verbs, "pause", &[]), Reply::done(false));
        assert_eq!(ask(&mut verbs, "pause", &[]), Reply::done(true));
        assert_eq!(
            ask(&mut verbs, "echo", &["a", "b"]),
            Reply::done(["a", "b"])
        );
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        let mut verbs = verbs();
        let error = |reply| match reply {
            Reply::Refused {
                kind: Refused::Usage,
                error,
                ..
            } => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            error(ask(&mut verbs, "puase", &[])),
            "no verb \"puase\"; did you mean pause?"
        );
        assert_eq!(
            error(ask(&mut verbs, "explode", &[])),
            "no verb \"explode\"; there are echo, pause"
        );
        assert_eq!(
            error(ask(&mut verbs, "pause", &["now"])),
            "pause takes no words; leave out now"
        );
    }

    #[test]
    fn help_lists_every_verb() {
        let Reply::Done { result, .. } = ask(&mut verbs(), "help", &[]) else {
            panic!("help was refused");
        };
        assert_eq!(
            result["text"],
            "echo   say it again\npause  stop the vCPUs\n"
        );
        assert_eq!(
            result["verbs"][1],
            json!({"verb": "pause", "help": "stop the vCPUs"})
        );
    }
}
