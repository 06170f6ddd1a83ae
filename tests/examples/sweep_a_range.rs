//! Reads a range of MSRs as a guest does and prints those that answer, with their names.
//!
//! `cargo run --example sweep_a_range`, or with a range: `-- 0xc0010000 0xc00101ff`

use std::error::Error;
use std::io::{self, Write};

use trapline::msr::names;
use trapline::msr::policy::{Policy, number};
use trapline::probe::{GuestOp, Prober, Seen};
use trapline::vm::cpuid::Profile;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (first, last) = match words.as_slice() {
        [] => (0xc000_0000, 0xc000_01ff),
        [first, last] => (
            u32::try_from(number(first)?)?,
            u32::try_from(number(last)?)?,
        ),
        _ => return Err("two indices, or none".into()),
    };

    run(first, last, &mut io::stdout().lock())
}

pub(crate) fn run(first: u32, last: u32, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    // Without a policy KVM answers what it knows, and the rest gets #GP.
    let mut guest = Prober::new(Policy::default(), Profile::default())?;
    let ops: Vec<_> = (first..=last).map(GuestOp::Read).collect();
    let outcomes = guest.run(&ops)??;

    let mut answered = 0;
    for (op, outcome) in ops.iter().zip(&outcomes) {
        if let Seen::Value(value) = outcome.seen {
            let name =
                names::of(op.index()).map_or_else(|| "-".to_owned(), |msr| msr.name.to_string());
            writeln!(out, "{:#010x}  {name}  {value:#x}", op.index())?;
            answered += 1;
        }
    }
    writeln!(out, "{answered} of {} MSRs answer", ops.len())?;
    Ok(())
}
