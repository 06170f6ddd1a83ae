//! After a run that did not end in order: every vCPU looked at, with names where there are any.

use std::ops::Range;

use crate::boot::Symbols;
use crate::mem::Gpa;
use crate::vm::VmError;

use super::board::Board;
use super::outcome::Outcome;
use super::postmortem::{Evidence, Names, PostMortem, VcpuPicture, slide};

/// MSR LSTAR: where `syscall` goes.
const LSTAR: u32 = 0xc000_0082;

/// Finds the names of the guest's kernel, or does without. Called only when they are needed: reading
/// them costs more than many a run.
pub type FindSymbols = Box<dyn FnOnce() -> Option<Symbols>>;

/// Calls `with` with the names that `find` finds, moved as the guest's kernel moved itself. The vCPUs are
/// paused and their threads alive.
pub(super) fn with_names<R>(
    board: &Board,
    find: FindSymbols,
    with: impl FnOnce(&Names<'_>) -> R,
) -> R {
    let Some(symbols) = find() else {
        return with(&Names::none());
    };
    let physical = |at: u64, bytes: &mut [u8]| board.ram().read(Gpa(at), bytes).is_ok();
    let moved = picture(board, 0).ok().and_then(|first| {
        let lstar = board
            .fleet()
            .ask(first.vcpu, |vcpu| vcpu.msr(LSTAR).ok().flatten());
        let evidence = Evidence::gather(lstar.ok().flatten(), &first.sregs, &physical);
        slide(&evidence, |name| symbols.address_of(name))
    });
    let lookup = |address| {
        symbols
            .lookup(address)
            .map(|(name, at)| (name.to_owned(), at))
    };
    let init = |name| symbols.address_of(name).unwrap_or(0);
    let init = init("_sinittext")..init("_einittext");
    with(&Names::new(&lookup, text(&symbols), moved).with_init(init))
}

/// What the vCPUs were doing, when the run did not end in order; and names for where it hung. The
/// vCPUs are paused and their threads alive.
pub(super) fn look_back(
    board: &Board,
    outcome: &mut Outcome,
    console: Vec<String>,
    names: &Names<'_>,
) -> Option<PostMortem> {
    let wanted = outcome.wants_post_mortem();
    if !wanted && !outcome.hung() {
        return None;
    }
    let count = u8::try_from(board.fleet().len()).unwrap_or(u8::MAX);
    // A vCPU that does not answer is left out; the others still tell.
    let pictures: Vec<_> = (0..count)
        .filter_map(|id| picture(board, id).ok())
        .collect();
    let physical = |at: u64, bytes: &mut [u8]| board.ram().read(Gpa(at), bytes).is_ok();
    outcome.name_hangs(|rip| Some(names.of_code(rip)?.to_string()));
    wanted.then(|| PostMortem::of(&pictures, console, &physical, names))
}

/// The kernel's code, as its linker script marks it.
fn text(symbols: &Symbols) -> Range<u64> {
    let at = |names: &[&str]| names.iter().find_map(|name| symbols.address_of(name));
    at(&["_stext", "_text"]).unwrap_or(0)..at(&["_etext"]).unwrap_or(u64::MAX)
}

/// One vCPU as it stands, or why it cannot be looked at.
pub(super) fn picture(board: &Board, id: u8) -> Result<VcpuPicture, String> {
    let look = board.fleet().ask(id, move |vcpu| {
        let last_exits = vcpu.recent().iter().map(ToString::to_string).collect();
        let (regs, sregs) = (vcpu.regs()?, vcpu.sregs()?);
        Ok::<_, VmError>(VcpuPicture {
            vcpu: id,
            regs,
            sregs,
            last_exits,
        })
    });
    look.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}
