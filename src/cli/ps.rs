//! `trapline ps [--json]`

use serde::Serialize;

use super::{Failure, Status, chain, out};
use crate::machine::control::{Place, Run, RunStatus, runs};

/// List the guests that run now
#[derive(Debug, clap::Args)]
pub(super) struct Ps {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Item {
    Known(RunStatus),
    Unknown { name: String, error: String },
}

impl From<Run> for Item {
    fn from(run: Run) -> Self {
        match run.status {
            Ok(status) => Self::Known(status),
            Err(error) => Self::Unknown {
                name: run.name.to_string(),
                error: chain(&error),
            },
        }
    }
}

impl Ps {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let place = Place::find().map_err(Failure::host)?;
        let runs = runs(&place).map_err(Failure::host)?;
        let items: Vec<Item> = runs.into_iter().map(Item::from).collect();
        if self.json {
            out::json("ps", &items)?;
        } else if items.is_empty() {
            out::say("nothing runs now");
        } else {
            out::print(table(&items))?;
        }
        Ok(Status::Ok)
    }
}

const HEADER: [&str; 7] = ["NAME", "PID", "STATE", "CPUS", "MEMORY", "UPTIME", "KERNEL"];

/// Columns as wide as their widest cell; the last, which may be a long path, as it is.
fn table(items: &[Item]) -> String {
    let mut rows = vec![HEADER.map(String::from)];
    rows.extend(items.iter().map(cells));
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cells(item: &Item) -> [String; HEADER.len()] {
    match item {
        Item::Known(run) => [
            run.name.clone(),
            run.pid.to_string(),
            run.state.clone(),
            run.cpus.to_string(),
            format!("{}M", run.memory_mib),
            uptime(run.uptime_seconds),
            run.kernel.clone(),
        ],
        Item::Unknown { name, error } => {
            let mut cells = HEADER.map(|_| "-".to_owned());
            cells[0].clone_from(name);
            cells[2] = "no answer".into();
            error
                .lines()
                .next()
                .unwrap_or_default()
                .clone_into(&mut cells[6]);
            cells
        }
    }
}

/// `4.2s`, `3m07s`, `2h05m`.
fn uptime(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_secs());
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_a_silent_run_is_shown() {
        let known = RunStatus {
            name: "a-long-name".into(),
            pid: 4711,
            state: "running".into(),
            kernel: "/boot/vmlinuz-6.1.0".into(),
            cpus: 2,
            memory_mib: 512,
            uptime_seconds: 187.0,
        };
        let unknown = Item::Unknown {
            name: "b".into(),
            error: "the run b did not answer\n  because: x".into(),
        };
        assert_eq!(
            table(&[Item::Known(known), unknown]),
            "\
NAME         PID   STATE      CPUS  MEMORY  UPTIME  KERNEL
a-long-name  4711  running    2     512M    3m07s   /boot/vmlinuz-6.1.0
b            -     no answer  -     -       -       the run b did not answer
"
        );
    }

    #[test]
    fn uptimes_are_short() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (59.9, "59.9s"),
            (60.0, "1m00s"),
            (7500.0, "2h05m"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }
}
