//! `trapline msr list [--unnamed] [--json]`

use serde::Serialize;

use super::{CpuArg, Failure, of_probe};
use crate::cli::{Status, out};
use crate::machine::Hex;
use crate::msr::names::{self, Class};
use crate::probe::{Fresh, Lists};

/// List the MSRs that this KVM saves and that say what it can do, with their values
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only those that Trapline has no name for
    #[arg(long)]
    unnamed: bool,
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
    class: Option<Class>,
    /// In KVM_GET_MSR_INDEX_LIST.
    saved: bool,
    /// In KVM_GET_MSR_FEATURE_INDEX_LIST.
    feature: bool,
    /// On a vCPU that has run nothing; none when KVM does not give it.
    value: Option<Hex>,
}

impl List {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let lists = Lists::read().map_err(of_probe)?;
        let fresh = Fresh::new(&self.cpu.cpu).map_err(of_probe)?;
        let mut indices: Vec<u32> = lists.save.iter().chain(&lists.features).copied().collect();
        indices.sort_unstable();
        indices.dedup();
        let mut items = Vec::new();
        for index in indices {
            let msr = names::of(index);
            if self.unnamed && msr.is_some() {
                continue;
            }
            items.push(Item {
                index: Hex(index.into()),
                name: msr.map(|msr| msr.name.to_string()),
                class: msr.map(|msr| msr.row.class),
                saved: lists.save.contains(&index),
                feature: lists.features.contains(&index),
                value: fresh.get(index).map_err(of_probe)?.map(Hex),
            });
        }
        if self.json {
            out::json("msr-list", &items)?;
        } else {
            out::print(table(&items))?;
        }
        Ok(Status::Ok)
    }
}

fn table(items: &[Item]) -> String {
    let name = |item: &Item| item.name.clone().unwrap_or_else(|| "-".into());
    let width = items
        .iter()
        .map(|item| name(item).len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:<10}  {:<width$}  {:<13}  VALUE\n",
        "INDEX", "NAME", "LISTS"
    );
    for item in items {
        let lists = match (item.saved, item.feature) {
            (true, true) => "saved,feature",
            (true, false) => "saved",
            _ => "feature",
        };
        let value = item
            .value
            .map_or_else(|| "refused".into(), |v| v.to_string());
        let index = item.index.to_string();
        text += &format!(
            "{index:<10}  {:<width$}  {lists:<13}  {value}\n",
            name(item)
        );
    }
    text
}
