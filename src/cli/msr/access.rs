//! `trapline msr get MSR...` and `trapline msr set MSR=VALUE...`

use serde::Serialize;

use super::{CpuArg, Failure, named, number, of_probe};
use crate::cli::{Status, out};
use crate::machine::Hex;
use crate::msr::{describe, names};
use crate::probe::Fresh;

/// Read MSRs of a vCPU that has run nothing, as the host does
///
/// MSR is a name, an index, a range or bank:NAME. KVM has to give those that are named singly; of ranges
/// and banks, those that it gives are shown.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// What to read
    #[arg(required = true, value_name = "MSR")]
    msrs: Vec<String>,
    #[command(flatten)]
    cpu: CpuArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Write MSRs of a vCPU that has run nothing, as the host does, and read them back
#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// What to write, in this order
    #[arg(required = true, value_name = "MSR=VALUE")]
    values: Vec<String>,
    #[command(flatten)]
    cpu: CpuArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Item {
    index: Hex,
    name: Option<String>,
    value: Hex,
}

impl Item {
    fn new(index: u32, value: u64) -> Self {
        Self {
            index: Hex(index.into()),
            name: names::of(index).map(|msr| msr.name.to_string()),
            value: Hex(value),
        }
    }
}

fn refused(index: u32) -> Failure {
    Failure::host(format!("KVM does not give {}", describe(index)))
}

fn show(items: &[Item], json: bool) -> Result<Status, Failure> {
    if json {
        out::json("msr", items)?;
        return Ok(Status::Ok);
    }
    for item in items {
        let name = item.name.as_deref().unwrap_or("-");
        out::line(format_args!("{}  {name}  {}", item.index, item.value))?;
    }
    Ok(Status::Ok)
}

impl Get {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let mut wanted = Vec::new();
        for word in &self.msrs {
            let (single, indices) = named(word)?;
            wanted.extend(indices.into_iter().map(|index| (index, single)));
        }
        let fresh = Fresh::new(&self.cpu.cpu).map_err(of_probe)?;
        let mut items = Vec::new();
        for (index, must) in wanted {
            match fresh.get(index).map_err(of_probe)? {
                Some(value) => items.push(Item::new(index, value)),
                None if must => {
                    show(&items, self.json)?;
                    return Err(refused(index));
                }
                None => {}
            }
        }
        show(&items, self.json)
    }
}

impl Set {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let mut entries = Vec::new();
        for word in &self.values {
            let Some((msr, value)) = word.split_once('=') else {
                return Err(Failure::usage(format!("{word:?} is not MSR=VALUE")));
            };
            let (single, indices) = named(msr)?;
            let value = number(value)?;
            if !single {
                return Err(Failure::usage(format!("{msr} names more than one MSR")));
            }
            entries.extend(indices.into_iter().map(|index| (index, value)));
        }
        let fresh = Fresh::new(&self.cpu.cpu).map_err(of_probe)?;
        fresh.set(&entries).map_err(of_probe)?;
        let mut items = Vec::new();
        for (index, _) in entries {
            // What can be written and not read has nothing to show.
            if let Some(value) = fresh.get(index).map_err(of_probe)? {
                items.push(Item::new(index, value));
            }
        }
        show(&items, self.json)
    }
}
