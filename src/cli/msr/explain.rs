//! `trapline msr explain MSR...`

use serde::Serialize;

use super::{Failure, named};
use crate::cli::{Status, out};
use crate::machine::Hex;
use crate::msr::explain;
use crate::msr::policy::Policy;

/// Say what is known of an MSR, and what becomes of accesses to it under a policy
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Names or indices
    #[arg(required = true, value_name = "MSR")]
    msrs: Vec<String>,
    /// The policy, as for `boot`
    #[arg(long, value_name = "FILE")]
    msr_policy: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Item {
    index: Hex,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    text: String,
}

impl Explain {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let policy = Policy::load(&self.msr_policy).map_err(Failure::usage)?;
        let mut items = Vec::new();
        for word in &self.msrs {
            for index in named(word)?.1 {
                let lines = explain(index, &policy).into_iter();
                items.push(Item {
                    index: Hex(index.into()),
                    lines: lines.map(|(what, text)| Line { what, text }).collect(),
                });
            }
        }
        if self.json {
            out::json("msr-explain", &items)?;
            return Ok(Status::Ok);
        }
        for (number, item) in items.iter().enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            let lines = item.lines.iter();
            let lines = lines.map(|line| format!("{:<12} {}\n", line.what, line.text));
            out::print(format_args!("{gap}{}", lines.collect::<String>()))?;
        }
        Ok(Status::Ok)
    }
}
