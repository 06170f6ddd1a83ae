//! MSR operations as the guest does them: a table in guest memory, many for each KVM_RUN.

use crate::mem::{Gpa, GuestRam, MemError};

/// Where the table lies, above everything the payload uses.
pub(super) const TABLE: u64 = 8 << 20;
/// Operations in one batch.
pub(super) const BATCH: usize = 4096;
/// A page that MSRs which name guest memory may aim at.
pub const SACRIFICE: u64 = 12 << 20;

const OP_LEN: usize = 24;
const KIND_WRITE: u32 = 1;
const TRAPPED: u32 = 0x100;
const GP: u32 = 13;

/// One operation of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestOp {
    /// `rdmsr`.
    Read(u32),
    /// `wrmsr`.
    Write(u32, u64),
}

impl GuestOp {
    /// Its MSR.
    #[must_use]
    pub const fn index(self) -> u32 {
        match self {
            Self::Read(index) | Self::Write(index, _) => index,
        }
    }
}

/// What the guest saw of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Done; the value read, or the one written.
    Value(u64),
    /// #GP(0).
    Fault,
    /// Another exception.
    Trap(u32),
}

/// Puts a batch into guest memory.
pub(super) fn put(ram: &GuestRam, ops: &[GuestOp]) -> Result<(), MemError> {
    let mut bytes = Vec::with_capacity(8 + ops.len() * OP_LEN);
    bytes.extend(u64::try_from(ops.len()).unwrap_or(0).to_le_bytes());
    for op in ops {
        let (kind, index, value) = match *op {
            GuestOp::Read(index) => (0, index, 0),
            GuestOp::Write(index, value) => (KIND_WRITE, index, value),
        };
        bytes.extend(kind.to_le_bytes());
        bytes.extend(index.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes.extend([0; 8]);
    }
    ram.write(Gpa(TABLE), &bytes)
}

/// Takes what became of a batch.
pub(super) fn take(ram: &GuestRam, count: usize) -> Result<Vec<Seen>, MemError> {
    let mut bytes = vec![0; count.saturating_mul(OP_LEN)];
    ram.read(Gpa(TABLE + 8), &mut bytes)?;
    Ok(bytes.as_chunks::<OP_LEN>().0.iter().map(one).collect())
}

fn one(op: &[u8; OP_LEN]) -> Seen {
    let [.., a, b, c, d, _, _, _, _] = *op;
    let status = u32::from_le_bytes([a, b, c, d]);
    let value = op.get(8..16).and_then(|bytes| bytes.try_into().ok());
    match status {
        0 => Seen::Value(u64::from_le_bytes(value.unwrap_or_default())),
        status if status == TRAPPED | GP => Seen::Fault,
        status => Seen::Trap(status & 0xff),
    }
}
