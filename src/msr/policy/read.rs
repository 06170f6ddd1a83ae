//! From the text of one file to rules.

use std::time::Duration;

use toml::Spanned;

use super::super::model::Model;
use super::super::names::{self, Row};
use super::error::{PolicyError, Problem};
use super::rule::{Action, Place, Rule, Scope, VcpuSet};
use super::text::{self, AskText, DefaultText, Number, RuleText, number, position};

/// MSRs whose values one rule may keep.
const KEPT: u64 = 1 << 16;

/// The longest time limit of an answer in milliseconds: a vCPU that waits cannot be paused.
const LONGEST: u64 = 5000;

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) rules: Vec<Rule>,
    pub(super) unknown: Option<Action>,
    pub(super) inval: Option<Action>,
    pub(super) filter: Option<Action>,
    pub(super) log: Option<bool>,
    pub(super) ask: Option<Ask>,
    /// Where the first `ask` stands.
    pub(super) asks: Option<Place>,
}

/// The program that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Run by `/bin/sh -c`.
    pub command: String,
    /// How long it may take over one answer.
    pub timeout: Duration,
    /// What is done when it dies, is late or answers rubbish.
    pub otherwise: Action,
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    number: u16,
}

pub(super) fn read(name: &str, text: &str, number: u16) -> Result<File, PolicyError> {
    let reader = Reader { name, text, number };
    let parsed = text::parse(text).map_err(|(at, problem)| reader.error(at, problem))?;
    let mut file = File::default();
    for rule in &parsed.rule {
        let rule = reader.rule(rule)?;
        if rule.action == Action::Ask {
            file.asks.get_or_insert(rule.place);
        }
        file.rules.push(rule);
    }
    reader.defaults(&parsed.default, &mut file)?;
    file.ask = parsed.ask.as_ref().map(|ask| reader.ask(ask)).transpose()?;
    Ok(file)
}

const ACTIONS: &[(&str, Action)] = &[
    ("allow", Action::Allow),
    ("deny", Action::Deny),
    ("emulate", Action::Emulate(Model::constant(0))),
    ("ignore", Action::Ignore),
    ("stop", Action::Stop),
    ("ask", Action::Ask),
];

impl Reader<'_> {
    fn error(&self, at: usize, problem: Problem) -> PolicyError {
        let (line, column) = position(self.text, at);
        PolicyError::At {
            file: self.name.into(),
            line,
            column,
            problem,
        }
    }

    fn fail<T, U>(&self, at: &Spanned<T>, problem: Problem) -> Result<U, PolicyError> {
        Err(self.error(at.span().start, problem))
    }

    fn number(&self, number: &Spanned<Number>) -> Result<u64, PolicyError> {
        let value = number.get_ref().value();
        value.map_err(|problem| self.error(number.span().start, problem))
    }

    fn word<T: Copy>(
        &self,
        key: &'static str,
        word: &Spanned<String>,
        known: &[(&'static str, T)],
    ) -> Result<T, PolicyError> {
        let found = known.iter().find(|(name, _)| name == word.get_ref());
        match found {
            Some((_, value)) => Ok(*value),
            None => self.fail(
                word,
                Problem::Word {
                    key,
                    word: word.get_ref().clone(),
                    known: known.iter().map(|(name, _)| *name).collect(),
                },
            ),
        }
    }

    fn rule(&self, rule: &RuleText) -> Result<Rule, PolicyError> {
        let msr = rule.msr.get_ref().0.clone();
        let at = rule.msr.span().start;
        let (scope, indices) = target(&msr).map_err(|problem| self.error(at, problem))?;
        let (line, column) = position(self.text, at);
        let (reads, writes) = match &rule.access {
            None => (true, true),
            Some(word) => self.word(
                "access",
                word,
                &[
                    ("r", (true, false)),
                    ("w", (false, true)),
                    ("rw", (true, true)),
                ],
            )?,
        };
        let vcpus = rule
            .vcpu
            .as_ref()
            .map_or(Ok(VcpuSet::ALL), |list| self.vcpus(list))?;
        let action = match &rule.action {
            None => Action::Allow,
            Some(word) => self.word("do", word, ACTIONS)?,
        };
        let nth = rule.nth.as_ref().map(|nth| self.nth(nth)).transpose()?;
        let action = match action {
            Action::Emulate(_) => Action::Emulate(self.model(rule, &indices)?),
            other => {
                self.no_model_keys(rule, other.word())?;
                other
            }
        };
        if let (Action::Allow, Some(nth), false) = (action, &rule.nth, rule.log == Some(true)) {
            let why = "say what the answer to that access is, or log it";
            return self.fail(
                nth,
                Problem::Idle {
                    key: "nth",
                    action: "allow",
                    why,
                },
            );
        }
        Ok(Rule {
            place: Place {
                file: self.number,
                line,
                column,
            },
            msr,
            scope,
            indices,
            reads,
            writes,
            vcpus,
            nth,
            log: rule.log == Some(true),
            count: rule.count == Some(true),
            action,
        })
    }

    fn nth(&self, nth: &Spanned<Number>) -> Result<u64, PolicyError> {
        match self.number(nth)? {
            0 => self.fail(nth, Problem::NthZero),
            nth => Ok(nth),
        }
    }

    fn vcpus(&self, list: &Spanned<Vec<i64>>) -> Result<VcpuSet, PolicyError> {
        let mut ids = Vec::new();
        for &id in list.get_ref() {
            match u8::try_from(id) {
                Ok(id) if id < u8::MAX => ids.push(id),
                _ => return self.fail(list, Problem::Vcpu(id)),
            }
        }
        if ids.is_empty() {
            return self.fail(list, Problem::NoVcpu);
        }
        Ok(VcpuSet::of(ids))
    }

    fn no_model_keys(&self, rule: &RuleText, action: &'static str) -> Result<(), PolicyError> {
        let numbers = [
            ("value", &rule.value),
            ("mask", &rule.mask),
            ("write-1-to-clear", &rule.write_1_to_clear),
            ("counter", &rule.counter),
        ];
        let why = "it belongs to do = \"emulate\"";
        for (key, value) in numbers {
            if let Some(value) = value {
                return self.fail(value, Problem::Idle { key, action, why });
            }
        }
        for (key, value) in [("read-only", &rule.read_only), ("shared", &rule.shared)] {
            if let Some(value) = value {
                return self.fail(value, Problem::Idle { key, action, why });
            }
        }
        match &rule.reset {
            Some(value) => self.fail(
                value,
                Problem::Idle {
                    key: "reset",
                    action,
                    why,
                },
            ),
            None => Ok(()),
        }
    }

    fn model(&self, rule: &RuleText, indices: &[(u32, u32)]) -> Result<Model, PolicyError> {
        let (width, name) = narrowest(indices);
        let bits = Model {
            width,
            ..Model::constant(0)
        }
        .bits();
        let fits = |key: &'static str, number: &Option<Spanned<Number>>, otherwise: u64| {
            let Some(number) = number else {
                return Ok(otherwise);
            };
            let value = self.number(number)?;
            if value & !bits != 0 {
                let name = name.clone();
                return self.fail(
                    number,
                    Problem::Wide {
                        key,
                        value,
                        name,
                        width,
                    },
                );
            }
            Ok(value)
        };
        let is = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|f| *f.get_ref());
        let clear_by_one = fits("write-1-to-clear", &rule.write_1_to_clear, 0)?;
        // A register described by its write-1-to-clear bits has no others to write.
        let mask = if rule.write_1_to_clear.is_some() {
            0
        } else {
            bits
        };
        let model = Model {
            value: fits("value", &rule.value, 0)?,
            mask: fits("mask", &rule.mask, mask)?,
            clear_by_one,
            read_only: is(&rule.read_only),
            counter_hz: rule
                .counter
                .as_ref()
                .map(|hz| self.number(hz))
                .transpose()?,
            shared: is(&rule.shared),
            sticky: match &rule.reset {
                None => false,
                Some(word) => self.word("reset", word, &[("any", false), ("power", true)])?,
            },
            width,
        };
        if let (true, Some(mask)) = (model.read_only, &rule.mask) {
            let why = "a read-only register takes no writes; leave one of the two out";
            return self.fail(
                mask,
                Problem::Idle {
                    key: "mask",
                    action: "emulate",
                    why,
                },
            );
        }
        let count = indices
            .iter()
            .map(|(a, b)| u64::from(b.saturating_sub(*a)) + 1)
            .sum();
        if !model.is_constant() && count > KEPT {
            return self.fail(&rule.msr, Problem::Many { count, limit: KEPT });
        }
        Ok(model)
    }

    fn defaults(&self, text: &DefaultText, file: &mut File) -> Result<(), PolicyError> {
        let rest = [
            ("deny", Action::Deny),
            ("ignore", Action::Ignore),
            ("stop", Action::Stop),
            ("ask", Action::Ask),
        ];
        let mut filter = vec![("allow", Action::Allow)];
        filter.extend(rest);
        let mut read = |key, word: &Option<Spanned<String>>, known: &[(&'static str, Action)]| {
            let Some(word) = word else { return Ok(None) };
            let action = self.word(key, word, known)?;
            if action == Action::Ask {
                let (line, column) = position(self.text, word.span().start);
                file.asks.get_or_insert(Place {
                    file: self.number,
                    line,
                    column,
                });
            }
            Ok(Some(action))
        };
        let unknown = read("unknown", &text.unknown, &rest)?;
        let inval = read("inval", &text.inval, &rest)?;
        let filter = read("filter", &text.filter, &filter)?;
        (file.unknown, file.inval, file.filter, file.log) = (unknown, inval, filter, text.log);
        Ok(())
    }

    fn ask(&self, text: &AskText) -> Result<Ask, PolicyError> {
        let timeout = match &text.timeout {
            None => Duration::from_secs(1),
            Some(span) => match limit(span.get_ref()) {
                Some(limit) => limit,
                None => return self.fail(span, Problem::Limit(span.get_ref().clone())),
            },
        };
        let otherwise = match &text.otherwise {
            None => Action::Deny,
            Some(word) => self.word(
                "otherwise",
                word,
                &[
                    ("deny", Action::Deny),
                    ("ignore", Action::Ignore),
                    ("stop", Action::Stop),
                ],
            )?,
        };
        Ok(Ask {
            command: text.command.get_ref().clone(),
            timeout,
            otherwise,
        })
    }
}

fn limit(text: &str) -> Option<Duration> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s')?, 1000),
    };
    let millis = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=LONGEST)
        .contains(&millis)
        .then(|| Duration::from_millis(millis))
}

/// The MSRs that a rule's `msr` names: one by name or index, a range, or a bank.
///
/// # Errors
/// [`Problem`] with the nearest name.
pub fn target(text: &str) -> Result<(Scope, Vec<(u32, u32)>), Problem> {
    if let Some(bank) = text.strip_prefix("bank:") {
        return Ok((Scope::Bank, names::bank(bank)?));
    }
    let index =
        |text: &str| u32::try_from(number(text)?).map_err(|_| Problem::PastEnd(text.trim().into()));
    if !text.trim_start().starts_with(|c: char| c.is_ascii_digit()) {
        let index = names::by_name(text)?.index;
        return Ok((Scope::Single, vec![(index, index)]));
    }
    match text.split_once('-') {
        None => {
            let index = index(text)?;
            Ok((Scope::Single, vec![(index, index)]))
        }
        Some((first, last)) => {
            let (first, last) = (index(first)?, index(last)?);
            if last < first {
                return Err(Problem::Backwards { first, last });
            }
            Ok((Scope::Range, vec![(first, last)]))
        }
    }
}

/// The narrowest of the MSRs, by which a value of the rule is measured.
fn narrowest(indices: &[(u32, u32)]) -> (u8, String) {
    let rows = names::all().filter(|msr| {
        indices
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&msr.index))
    });
    let width = |row: &Row| row.width;
    rows.map(|msr| (width(msr.row), msr.name.to_string()))
        .min_by_key(|(width, _)| *width)
        .unwrap_or((64, "an MSR".into()))
}
