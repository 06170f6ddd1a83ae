//! A post-mortem as text.

use std::fmt::{self, Display, Formatter};

use super::{PostMortem, VcpuFindings};
use crate::machine::hex::Hex;

/// Bit names, lowest first; bits without a name are left out.
const RFLAGS: [(u32, &str); 15] = [
    (0, "CF"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (14, "NT"),
    (16, "RF"),
    (17, "VM"),
    (18, "AC"),
    (19, "VIF"),
    (21, "ID"),
];
const CR0: [(u32, &str); 11] = [
    (0, "PE"),
    (1, "MP"),
    (2, "EM"),
    (3, "TS"),
    (4, "ET"),
    (5, "NE"),
    (16, "WP"),
    (18, "AM"),
    (29, "NW"),
    (30, "CD"),
    (31, "PG"),
];
const CR4: [(u32, &str); 22] = [
    (0, "VME"),
    (1, "PVI"),
    (2, "TSD"),
    (3, "DE"),
    (4, "PSE"),
    (5, "PAE"),
    (6, "MCE"),
    (7, "PGE"),
    (8, "PCE"),
    (9, "OSFXSR"),
    (10, "OSXMMEXCPT"),
    (11, "UMIP"),
    (12, "LA57"),
    (13, "VMXE"),
    (16, "FSGSBASE"),
    (17, "PCIDE"),
    (18, "OSXSAVE"),
    (20, "SMEP"),
    (21, "SMAP"),
    (22, "PKE"),
    (23, "CET"),
    (24, "PKS"),
];
const EFER: [(u32, &str); 6] = [
    (0, "SCE"),
    (8, "LME"),
    (10, "LMA"),
    (11, "NXE"),
    (12, "SVME"),
    (14, "FFXSR"),
];

fn flags(value: u64, names: &[(u32, &str)]) -> String {
    let set: Vec<&str> = names
        .iter()
        .filter(|(bit, _)| value >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect();
    set.join(" ")
}

impl Display for PostMortem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for vcpu in &self.vcpus {
            vcpu.fmt(f)?;
        }
        if let Some(slide) = self.kaslr_slide.filter(|s| s.0 != 0) {
            writeln!(f, "kernel moved by {slide} (KASLR)")?;
        }
        if !self.console.is_empty() {
            writeln!(f, "the console's last lines:")?;
            for line in &self.console {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

impl Display for VcpuFindings {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "vCPU {} in {}-bit code at CPL {}",
            self.vcpu, self.bits, self.cpl
        )?;
        match &self.symbol {
            Some(symbol) => writeln!(f, ", {symbol}")?,
            None => writeln!(f)?,
        }
        if let Some(note) = self.note {
            writeln!(f, "  {note}")?;
        }
        self.write_registers(f)?;
        self.write_segments(f)?;
        self.write_code(f)?;
        self.write_stack(f)?;
        for (what, walk) in &self.walks {
            writeln!(f, "  walk of {what}: {walk}")?;
        }
        if !self.last_exits.is_empty() {
            writeln!(f, "  last exits, the newest below:")?;
            write_exits(f, &self.last_exits)?;
        }
        Ok(())
    }
}

/// Printing is what most guests do before they die, and the console's last lines tell it better:
/// runs of accesses to the serial port are one line.
fn write_exits(f: &mut Formatter<'_>, exits: &[String]) -> fmt::Result {
    for run in exits.chunk_by(|a, b| serial(a) && serial(b)) {
        match run {
            [exit] => writeln!(f, "    {exit}")?,
            _ => writeln!(f, "    {} accesses to the serial port", run.len())?,
        }
    }
    Ok(())
}

fn serial(exit: &str) -> bool {
    let port = exit
        .split(' ')
        .nth(1)
        .and_then(|port| port.strip_prefix("0x"))
        .and_then(|port| u16::from_str_radix(port, 16).ok());
    (exit.starts_with("in") || exit.starts_with("out"))
        && port.is_some_and(|port| (0x3f8..=0x3ff).contains(&port))
}

impl VcpuFindings {
    fn write_registers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for row in self.registers.chunks(4) {
            let cells: Vec<String> = row
                .iter()
                .map(|(name, Hex(value))| format!("{name:>6} {value:016x}"))
                .collect();
            writeln!(f, "  {}", cells.join(" "))?;
        }
        let find = |wanted: &str| {
            let all = self.registers.iter().chain(&self.control);
            all.filter(|(name, _)| *name == wanted)
                .map(|(_, value)| value.0)
                .next()
                .unwrap_or(0)
        };
        writeln!(f, "  rflags [{}]", flags(find("rflags"), &RFLAGS))?;
        let control: Vec<String> = self
            .control
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(f, "  {}", control.join(" "))?;
        writeln!(
            f,
            "  cr0 [{}] cr4 [{}] efer [{}]",
            flags(find("cr0"), &CR0),
            flags(find("cr4"), &CR4),
            flags(find("efer"), &EFER)
        )
    }

    fn write_segments(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for row in self.segments.chunks(2) {
            let cells: Vec<String> = row
                .iter()
                .map(|s| {
                    format!(
                        "{:>3} {:04x} base {:016x} limit {:08x} type {:02x}",
                        s.name, s.selector, s.base.0, s.limit, s.kind
                    )
                })
                .collect();
            writeln!(f, "  {}", cells.join("  "))?;
        }
        let tables: Vec<String> = self
            .tables
            .iter()
            .map(|(name, base, limit)| format!("{name} {base} limit {limit:#x}"))
            .collect();
        writeln!(f, "  {}", tables.join("  "))
    }

    fn write_code(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            return writeln!(f, "  code: the memory at RIP cannot be read");
        }
        writeln!(f, "  code:")?;
        for line in &self.code {
            let mark = if line.current { "->" } else { "  " };
            let (address, bytes, text) = (line.address.0, &line.bytes, &line.text);
            write!(f, "  {mark} {address:016x} {bytes:<22} {text}")?;
            match &line.target {
                Some(target) => writeln!(f, "  ; {target}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }

    fn write_stack(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.stack.is_empty() {
            writeln!(f, "  stack: the memory at RSP cannot be read")?;
        } else {
            writeln!(f, "  stack:")?;
            let width = match self.bits {
                64 => 16,
                32 => 8,
                _ => 4,
            };
            let mut repeats = false;
            let mut before: Vec<String> = Vec::new();
            for row in self.stack.chunks(4) {
                let Some(first) = row.first() else { continue };
                let words: Vec<String> = row
                    .iter()
                    .map(|w| format!("{:0width$x}", w.value.0))
                    .collect();
                if words != before {
                    writeln!(f, "     {:016x} {}", first.address.0, words.join(" "))?;
                } else if !repeats {
                    // As hexdump(1) does.
                    writeln!(f, "     *")?;
                }
                repeats = words == before;
                before = words;
            }
        }
        if self.backtrace.len() > 1 {
            writeln!(f, "  backtrace (? may be left over from an earlier call):")?;
            for frame in &self.backtrace {
                let mark = if frame.certain { ' ' } else { '?' };
                write!(f, "    {mark} {:016x}", frame.address.0)?;
                match &frame.symbol {
                    Some(symbol) => writeln!(f, " {symbol}")?,
                    None => writeln!(f)?,
                }
            }
        }
        Ok(())
    }
}
