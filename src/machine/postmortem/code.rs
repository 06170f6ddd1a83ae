//! Instructions around RIP.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter, OpKind};
use serde::Serialize;

use super::names::{Names, Symbol};
use crate::machine::hex::Hex;

/// Instructions shown from RIP on.
const AFTER: usize = 8;
/// Instructions shown before RIP.
const BEFORE: usize = 5;
/// The longest x86 instruction.
const LONGEST: usize = 15;
/// A function's start further back than this is not used to find the boundaries before RIP.
const FAR: u64 = 4096;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodeLine {
    /// Where it lies.
    pub address: Hex,
    /// Its bytes, in hexadecimal.
    pub bytes: String,
    /// Its text, in NASM's syntax.
    pub text: String,
    /// What it jumps to or refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Symbol>,
    /// RIP points at it.
    pub current: bool,
}

/// The instructions before `rip`, as far as their boundaries can be told, and those from it on.
/// Empty when the memory cannot be read.
pub(super) fn around(
    rip: u64,
    bits: u32,
    read: &dyn Fn(u64, &mut [u8]) -> usize,
    names: &Names<'_>,
) -> Vec<CodeLine> {
    let mut lines = before(rip, bits, read, names);
    let mut bytes = [0; AFTER * LONGEST];
    let got = read(rip, &mut bytes);
    let bytes = bytes.get(..got).unwrap_or_default();
    let instructions = decode(rip, bits, bytes).take(AFTER);
    lines.extend(instructions.map(|i| line(&i, rip, bytes, rip, names)));
    lines
}

fn decode(at: u64, bits: u32, bytes: &[u8]) -> impl Iterator<Item = Instruction> {
    let mut decoder = Decoder::with_ip(bits, bytes, at, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .take_while(|instruction| !instruction.is_invalid())
}

/// x86 code has no boundaries to be found backwards. From the function's first byte they are
/// certain; without it, a start from which a chain of valid instructions ends exactly at `rip` is
/// right nearly always, the longer the surer.
fn before(
    rip: u64,
    bits: u32,
    read: &dyn Fn(u64, &mut [u8]) -> usize,
    names: &Names<'_>,
) -> Vec<CodeLine> {
    let known = names.of_code(rip).map(|s| s.offset).filter(|o| *o <= FAR);
    let guesses = (1..=(BEFORE * LONGEST) as u64).rev();
    known
        .into_iter()
        .chain(guesses)
        .find_map(|back| chain(rip, back, bits, read, names))
        .unwrap_or_default()
}

fn chain(
    rip: u64,
    back: u64,
    bits: u32,
    read: &dyn Fn(u64, &mut [u8]) -> usize,
    names: &Names<'_>,
) -> Option<Vec<CodeLine>> {
    let start = rip.checked_sub(back)?;
    let mut bytes = vec![0; usize::try_from(back).ok()?];
    if read(start, &mut bytes) < bytes.len() {
        return None;
    }
    let instructions: Vec<Instruction> = decode(start, bits, &bytes).collect();
    if instructions.last().map_or(start, Instruction::next_ip) != rip {
        return None;
    }
    let from = instructions.len().saturating_sub(BEFORE);
    let shown = instructions.get(from..)?;
    let lines = shown.iter().map(|i| line(i, start, &bytes, rip, names));
    Some(lines.collect())
}

fn line(
    instruction: &Instruction,
    start: u64,
    bytes: &[u8],
    rip: u64,
    names: &Names<'_>,
) -> CodeLine {
    let from = usize::try_from(instruction.ip().wrapping_sub(start)).unwrap_or(usize::MAX);
    let own = bytes
        .get(from..from.saturating_add(instruction.len()))
        .unwrap_or_default();
    let mut text = String::new();
    let mut formatter = NasmFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_space_after_operand_separator(true);
    options.set_branch_leading_zeros(false);
    options.set_uppercase_hex(false);
    options.set_rip_relative_addresses(true);
    formatter.format(instruction, &mut text);
    CodeLine {
        address: Hex(instruction.ip()),
        bytes: own.iter().map(|b| format!("{b:02x}")).collect(),
        text,
        target: target(instruction).and_then(|to| names.of(to)),
        current: instruction.ip() == rip,
    }
}

/// What a branch or a RIP-relative operand leads to.
fn target(instruction: &Instruction) -> Option<u64> {
    match instruction.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Some(instruction.near_branch_target())
        }
        _ if instruction.is_ip_rel_memory_operand() => Some(instruction.ip_rel_memory_address()),
        _ => None,
    }
}
