//! What comes of every kind of access to an MSR: by the host, and by a guest.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::msr::Reason;
use crate::msr::names::{self, Class};
use crate::msr::policy::Policy;
use crate::vm::cpuid::Profile;

use super::fresh::{ProbeError, Value};
use super::ops::{GuestOp, SACRIFICE, Seen};
use super::prober::{Outcome, Prober};

/// The danger tier of an MSR that the table does not know.
const UNKNOWN_TIER: u8 = 1;

/// What came of one access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// A read that was answered.
    Value(u64),
    /// A read of something that changes by itself.
    Moves,
    /// A write that was taken.
    Taken,
    /// #GP, and KVM's reason when it handed the access out before.
    Fault(Option<Reason>),
    /// The host was refused.
    Refused,
    /// Another exception of the guest.
    Trap(u32),
    /// Not tried.
    Skipped,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.pad(&format!("{value:#x}")),
            Self::Moves => f.pad("moves"),
            Self::Taken => f.pad("taken"),
            Self::Fault(None) => f.pad("#GP"),
            Self::Fault(Some(Reason::Unknown)) => f.pad("unknown"),
            Self::Fault(Some(Reason::Inval)) => f.pad("inval"),
            Self::Fault(Some(Reason::Filter)) => f.pad("filter"),
            Self::Refused => f.pad("refused"),
            Self::Trap(vector) => f.pad(&format!("trap {vector}")),
            Self::Skipped => f.pad("-"),
        }
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Everything that came of one MSR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub index: u32,
    /// `KVM_GET_MSRS`.
    pub host_read: Cell,
    /// `KVM_SET_MSRS` of the value read.
    pub host_write: Cell,
    /// `rdmsr`.
    pub read: Cell,
    /// `wrmsr` of the value read.
    pub same: Cell,
    /// `wrmsr` of zero.
    pub zero: Cell,
    /// `wrmsr` of all ones, or of the sacrificial page for what names guest memory.
    pub ones: Cell,
    /// Bits that `wrmsr` took one by one; none when they were not tried.
    pub bits: Option<u64>,
    /// How the guest was lost over it.
    pub lost: Option<String>,
}

/// The matrix of some MSRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// A row for each that was tried.
    pub rows: Vec<Row>,
    /// Those that were not, being too dangerous for the tier asked for.
    pub skipped: Vec<u32>,
}

/// The danger tier of an MSR.
#[must_use]
pub fn tier(index: u32) -> u8 {
    names::of(index).map_or(UNKNOWN_TIER, |msr| msr.row.danger)
}

/// Tries the MSRs of at most this danger tier, and puts the guest back to its beginning between two.
///
/// # Errors
/// [`ProbeError`]; a guest that is lost is part of the answer.
pub fn matrix(
    indices: &[u32],
    highest: u8,
    policy: &Policy,
    profile: &Profile,
    mut progress: impl FnMut(usize),
) -> Result<Matrix, ProbeError> {
    let mut prober = Prober::new(policy.clone(), profile.clone())?;
    let (tried, skipped): (Vec<u32>, Vec<u32>) = indices
        .iter()
        .copied()
        .partition(|index| tier(*index) <= highest);
    let mut rows = Vec::with_capacity(tried.len());
    for (done, index) in tried.into_iter().enumerate() {
        progress(done);
        let before = prober.host_read(index)?;
        rows.push(row(&mut prober, index)?);
        prober.restore()?;
        // What belongs to the VM or is in no list of saved MSRs is put back by itself.
        if let Some(value) = before
            && !names::of(index).is_some_and(|msr| msr.row.volatile)
        {
            prober.host_write(index, value)?;
        }
    }
    Ok(Matrix { rows, skipped })
}

fn row(prober: &mut Prober, index: u32) -> Result<Row, ProbeError> {
    let known = names::of(index);
    let moves = known.is_some_and(|msr| msr.row.volatile);
    let host = prober.host_read(index)?;
    let host_write = match host {
        Some(value) if prober.host_write(index, value)? => Cell::Taken,
        Some(_) => Cell::Refused,
        None => Cell::Skipped,
    };
    let mut row = Row {
        index,
        host_read: host_cell(host, moves),
        host_write,
        read: Cell::Skipped,
        same: Cell::Skipped,
        zero: Cell::Skipped,
        ones: Cell::Skipped,
        bits: None,
        lost: None,
    };
    let first = match prober.run(&[GuestOp::Read(index)])? {
        Ok(outcomes) => outcomes.first().copied(),
        Err(lost) => {
            row.lost = Some(lost.to_string());
            return Ok(row);
        }
    };
    let Some(first) = first else { return Ok(row) };
    row.read = match first.seen {
        Seen::Value(_) if moves => Cell::Moves,
        Seen::Value(value) => Cell::Value(value),
        _ => refused(first),
    };
    let same = match first.seen {
        Seen::Value(value) => value,
        _ => host.unwrap_or(0),
    };
    // What names guest memory aims at a page that nobody needs.
    let gpa = known.is_some_and(|msr| msr.row.class == Class::PvGpa);
    let ones = if gpa { SACRIFICE | 1 } else { u64::MAX };
    let mut writes = vec![same, 0, ones];
    if !gpa {
        writes.extend((0..64).map(|bit| 1 << bit));
    }
    let ops: Vec<_> = writes
        .iter()
        .map(|value| GuestOp::Write(index, *value))
        .collect();
    match prober.run(&ops)? {
        Err(lost) => row.lost = Some(lost.to_string()),
        Ok(outcomes) => {
            let cell = |at: usize| outcomes.get(at).map_or(Cell::Skipped, |o| wrote(*o));
            (row.same, row.zero, row.ones) = (cell(0), cell(1), cell(2));
            if !gpa {
                let bits = outcomes.iter().skip(3).enumerate();
                let taken = bits.filter(|(_, o)| wrote(**o) == Cell::Taken);
                row.bits = Some(taken.fold(0, |mask, (bit, _)| mask | 1 << bit));
            }
        }
    }
    Ok(row)
}

const fn host_cell(value: Value, moves: bool) -> Cell {
    match value {
        Some(_) if moves => Cell::Moves,
        Some(value) => Cell::Value(value),
        None => Cell::Refused,
    }
}

const fn refused(outcome: Outcome) -> Cell {
    match outcome.seen {
        Seen::Trap(vector) => Cell::Trap(vector),
        _ => Cell::Fault(outcome.exit),
    }
}

const fn wrote(outcome: Outcome) -> Cell {
    match outcome.seen {
        Seen::Value(_) => Cell::Taken,
        _ => refused(outcome),
    }
}
