//! `trapline test --list`

use serde::Serialize;

use crate::check::{Case, Experiment};
use crate::cli::{Failure, Status, out};

#[derive(Debug, Serialize)]
struct Item {
    name: &'static str,
    shows: &'static str,
    cases: Vec<CaseItem>,
}

#[derive(Debug, Serialize)]
struct CaseItem {
    on: Vec<String>,
    expects: &'static str,
    status: u8,
    from: &'static str,
}

pub(super) fn print(experiments: &[&'static Experiment], json: bool) -> Result<Status, Failure> {
    if json {
        let items: Vec<_> = experiments.iter().map(|e| item(e)).collect();
        out::json("test-list", &items)?;
        return Ok(Status::Ok);
    }
    for experiment in experiments {
        out::line(format_args!("{}: {}", experiment.name, experiment.shows))?;
        for case in experiment.cases {
            let (expects, status) = (case.expects, case.status);
            out::line(format_args!(
                "    on {}: {expects} [status {status}]",
                on(case)
            ))?;
        }
    }
    Ok(Status::Ok)
}

/// The kernels a case is for, in words.
pub(super) fn on(case: &Case) -> String {
    let on: Vec<_> = case.on.iter().map(ToString::to_string).collect();
    match on.as_slice() {
        [] => "every kernel".into(),
        on => on.join(", "),
    }
}

fn item(experiment: &Experiment) -> Item {
    let case = |case: &Case| CaseItem {
        on: case.on.iter().map(ToString::to_string).collect(),
        expects: case.expects,
        status: case.status,
        from: case.from,
    };
    Item {
        name: experiment.name,
        shows: experiment.shows,
        cases: experiment.cases.iter().map(case).collect(),
    }
}
