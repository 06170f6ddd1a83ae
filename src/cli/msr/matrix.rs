//! `trapline msr matrix [MSR...] [--all] [--tier N] [--json]`

use std::collections::BTreeSet;

use serde::Serialize;

use super::{CpuArg, Failure, named, of_probe};
use crate::cli::progress::Bar;
use crate::cli::{Status, out};
use crate::kernels::Progress;
use crate::machine::Hex;
use crate::msr::names;
use crate::msr::policy::Policy;
use crate::probe::{Cell, Lists, Matrix, Row, matrix, tier};

/// Try MSRs as the host and as a guest, and show what came of each access
///
/// Columns: host read and write of the same value; then the guest's read, and its writes of the same value, zero, all
/// ones (for MSRs that name guest memory: a page that nobody needs) and single bits, of which the mask of
/// those taken is shown. `unknown`, `inval` and `filter` are #GP after KVM gave that reason.
#[derive(Debug, clap::Args)]
pub(super) struct MatrixArgs {
    /// MSRs, ranges, bank:NAME [default: those of KVM's two lists]
    #[arg(value_name = "MSR")]
    msrs: Vec<String>,
    /// Every MSR with a name, and its neighbours
    #[arg(long, conflicts_with = "msrs")]
    all: bool,
    /// Try MSRs up to this danger tier: 2 names guest memory or arms timers, 3 may end the guest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    tier: u8,
    /// The policy of the guest, as for `boot`
    #[arg(long, value_name = "FILE")]
    msr_policy: Vec<String>,
    #[command(flatten)]
    cpu: CpuArg,
    /// Print JSON, for `trapline msr diff`
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Item {
    index: Hex,
    name: Option<String>,
    host_read: Cell,
    host_write: Cell,
    read: Cell,
    same: Cell,
    zero: Cell,
    ones: Cell,
    bits: Option<Hex>,
    lost: Option<String>,
}

impl Item {
    fn new(row: &Row) -> Self {
        Self {
            index: Hex(row.index.into()),
            name: names::of(row.index).map(|msr| msr.name.to_string()),
            host_read: row.host_read,
            host_write: row.host_write,
            read: row.read,
            same: row.same,
            zero: row.zero,
            ones: row.ones,
            bits: row.bits.map(Hex),
            lost: row.lost.clone(),
        }
    }
}

impl MatrixArgs {
    pub(super) fn run(&self, quiet: bool) -> Result<Status, Failure> {
        let policy = Policy::load(&self.msr_policy).map_err(Failure::usage)?;
        let indices = self.indices()?;
        let total = indices.len();
        let bar = Bar::new(quiet);
        let shown = |done: usize| {
            let count = |n: usize| u32::try_from(n).map_or(f64::MAX, f64::from);
            bar.at(count(done) / count(total.max(1)));
        };
        bar.step("MSRs");
        let found = matrix(&indices, self.tier, &policy, &self.cpu.cpu, shown);
        bar.clear();
        let found = found.map_err(of_probe)?;
        if !quiet {
            say_skipped(&found, total);
        }
        let items: Vec<_> = found.rows.iter().map(Item::new).collect();
        if self.json {
            out::json("msr-matrix", &items)?;
        } else {
            out::print(table(&items))?;
        }
        Ok(Status::Ok)
    }

    fn indices(&self) -> Result<Vec<u32>, Failure> {
        let mut indices = BTreeSet::new();
        for word in &self.msrs {
            indices.extend(named(word)?.1);
        }
        if self.all {
            for msr in names::all() {
                let around = [
                    msr.index.checked_sub(1),
                    Some(msr.index),
                    msr.index.checked_add(1),
                ];
                indices.extend(around.into_iter().flatten());
            }
        } else if self.msrs.is_empty() {
            let lists = Lists::read().map_err(of_probe)?;
            indices.extend(lists.save.into_iter().chain(lists.features));
        }
        Ok(indices.into_iter().collect())
    }
}

fn say_skipped(found: &Matrix, total: usize) {
    if found.skipped.is_empty() {
        return;
    }
    let name = |index: &u32| {
        let name = names::of(*index).map_or_else(|| format!("{index:#x}"), |m| m.name.to_string());
        format!("{name} ({})", tier(*index))
    };
    out::say(format_args!(
        "{} of {total} MSRs were left out, being above --tier: {}",
        found.skipped.len(),
        found
            .skipped
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join(", ")
    ));
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
        "{:<10}  {:<width$}  {:<18}  {:<8}  {:<18}  {:<8}  {:<8}  {:<8}  BITS TAKEN\n",
        "INDEX", "NAME", "HOST READ", "WRITE", "GUEST READ", "SAME", "ZERO", "ONES"
    );
    for item in items {
        let bits = item
            .bits
            .map_or_else(|| "-".into(), |bits| bits.to_string());
        let end = item.lost.as_deref().unwrap_or(&bits);
        let index = item.index.to_string();
        text += &format!(
            "{index:<10}  {:<width$}  {:<18}  {:<8}  {:<18}  {:<8}  {:<8}  {:<8}  {end}\n",
            name(item),
            item.host_read,
            item.host_write,
            item.read,
            item.same,
            item.zero,
            item.ones
        );
    }
    text
}
