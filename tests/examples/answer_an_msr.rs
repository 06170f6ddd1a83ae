//! Answers MSRs in a closure: one that no processor has counts its reads and takes no writes, and the
//! guest's PAT, which KVM would answer, reads as zero.
//!
//! `cargo run --example answer_an_msr`

use std::error::Error;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use trapline::msr::filter::Traps;
use trapline::msr::{Cpu, MsrAccess, MsrAnswer, Op};
use trapline::probe::{GuestOp, Prober, Seen};
use trapline::trace::Direction;
use trapline::vm::cpuid::Profile;

const COUNTER: u32 = 0x666;
const PAT: u32 = 0x277;

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut io::stdout().lock())
}

pub(crate) fn run(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // What KVM does not know comes out by itself; what it knows has to be trapped.
    let mut traps = Traps::default();
    traps.add(Direction::Read, PAT, PAT);

    let reads = AtomicU64::new(0);
    let answer = move |access: MsrAccess, _: &mut dyn Cpu| match (access.index, access.op) {
        (COUNTER, Op::Read) => MsrAnswer::Value(reads.fetch_add(1, Ordering::Relaxed) + 1),
        (PAT, Op::Read) => MsrAnswer::Value(0),
        _ => MsrAnswer::Fault,
    };

    let mut guest = Prober::answered_by(answer, traps, Profile::default())?;
    let ops = [
        ("rdmsr 0x666", GuestOp::Read(COUNTER)),
        ("rdmsr 0x666", GuestOp::Read(COUNTER)),
        ("wrmsr 0x666", GuestOp::Write(COUNTER, 7)),
        ("rdmsr PAT", GuestOp::Read(PAT)),
    ];
    let outcomes = guest.run(&ops.map(|(_, op)| op))??;
    for ((what, _), outcome) in ops.iter().zip(outcomes) {
        match outcome.seen {
            Seen::Value(value) => writeln!(out, "{what}: {value:#x}")?,
            Seen::Fault => writeln!(out, "{what}: #GP")?,
            Seen::Trap(vector) => writeln!(out, "{what}: exception {vector}")?,
        }
    }
    Ok(())
}
