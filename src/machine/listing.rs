//! `boot --print-board`: every window, line and function of a machine, from the devices themselves.

use std::fmt::Write;
use std::io;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::bus::{BusPort, Effect, EffectSink, GsiSink, HostClock, Lines, Msi, MsiSink};
use crate::chipset::{ConsoleOut, HostInput, Parcels};
use crate::mem::{GuestRam, HugePages};
use crate::pci::{BarKind, FunctionUse};
use crate::trace::{Bdf, Space};

use super::board::BoardError;
use super::devices::{Ends, facts, fit_out};
use super::firmware;
use super::hex::Hex;
use super::layout;
use super::spec::Equipment;

/// One thing on the board.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BoardItem {
    /// RAM.
    Memory {
        /// First address.
        first: Hex,
        /// Last address.
        last: Hex,
    },
    /// Addresses that something answers.
    Window {
        /// Ports, memory or configuration.
        space: Space,
        /// First address.
        first: Hex,
        /// Last address.
        last: Hex,
        /// Who answers.
        device: &'static str,
        /// What it calls them.
        window: &'static str,
    },
    /// An interrupt line.
    Line {
        /// Where it goes; nowhere when PIIX3 routes it so.
        gsi: Option<u32>,
        /// Whose it is.
        device: &'static str,
    },
    /// A PCI function.
    Function {
        /// Its address.
        bdf: Bdf,
        /// Vendor and device, as lspci writes them.
        id: String,
        /// Class code, six digits.
        class: String,
        /// Its device.
        device: &'static str,
        /// Its base address registers.
        bars: Vec<BarItem>,
    },
}

/// A base address register.
#[derive(Debug, Clone, Serialize)]
pub struct BarItem {
    /// 0 to 5.
    pub index: u8,
    /// What it is for.
    pub name: &'static str,
    /// What it decodes.
    #[serde(serialize_with = "kind")]
    pub kind: BarKind,
    /// How much.
    pub size: Hex,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "signature given by serde"
)]
fn kind<S: Serializer>(kind: &BarKind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name(*kind))
}

const fn name(kind: BarKind) -> &'static str {
    match kind {
        BarKind::Io => "io",
        BarKind::Memory32 => "mem32",
        BarKind::Memory64 => "mem64",
    }
}

/// The ends of a board that is only looked at.
#[derive(Debug)]
struct Nowhere;

impl GsiSink for Nowhere {
    fn set(&self, _: u32, _: bool) {}
}

impl MsiSink for Nowhere {
    fn send(&self, _: Msi) -> bool {
        false
    }
}

impl EffectSink for Nowhere {
    fn apply(&self, _: Effect) {}
}

impl ConsoleOut for Nowhere {
    fn put(&mut self, _: u8) {}
}

impl Parcels for Nowhere {
    fn deliver(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Builds the devices of such a board, sets them up as firmware would, and lists them. Needs no KVM.
///
/// # Errors
/// [`BoardError`].
pub fn describe(memory: u64, equipment: &Equipment) -> Result<Vec<BoardItem>, BoardError> {
    let ram = GuestRam::new(memory, HugePages::None)?;
    let lines = Lines::new(Arc::new(Nowhere));
    let ends = Ends {
        console: Box::new(Nowhere),
        parcels: Box::new(Nowhere),
        input: HostInput::default(),
        piped: HostInput::default(),
        clock: Arc::new(HostClock::new()),
        lines: lines.clone(),
        messages: Arc::new(Nowhere),
        tell: Arc::new(drop),
        phys_bits: 52,
    };
    let devices = fit_out(equipment, &facts(1, &ram), &ram, ends)?;
    let port = BusPort {
        bus: Arc::new(devices.bus),
        sink: Arc::new(Nowhere),
    };
    firmware::set_up(&port);

    let regions = ram.regions().iter().map(|region| BoardItem::Memory {
        first: Hex(region.base),
        last: Hex(region.base + region.len - 1),
    });
    let ours = port.bus.listing().into_iter();
    let ours = ours.map(|p| (p.space, p.first, p.last, p.device, p.window));
    let mut windows: Vec<_> = ours.chain(layout::KERNEL_WINDOWS).collect();
    windows.sort_by_key(|&(space, first, ..)| (space as u8, first));
    let windows = windows
        .into_iter()
        .map(|(space, first, last, device, window)| BoardItem::Window {
            space,
            first: Hex(first),
            last: Hex(last),
            device,
            window,
        });
    let mut lines = lines.listing();
    lines.sort_by_key(|line| (line.gsi.is_none(), line.gsi, line.name));
    let lines = lines.into_iter().map(|line| BoardItem::Line {
        gsi: line.gsi,
        device: line.name,
    });
    let functions = devices.functions.iter().map(function);
    Ok(regions
        .chain(windows)
        .chain(lines)
        .chain(functions)
        .collect())
}

fn function(of: &FunctionUse) -> BoardItem {
    BoardItem::Function {
        bdf: of.bdf,
        id: format!("{:04x}:{:04x}", of.id.0, of.id.1),
        class: format!("{:06x}", of.class),
        device: of.label,
        bars: of
            .bars
            .iter()
            .map(|bar| BarItem {
                index: bar.index,
                name: bar.name,
                kind: bar.kind,
                size: Hex(bar.len),
            })
            .collect(),
    }
}

/// The items as tables.
#[must_use]
pub fn table(items: &[BoardItem]) -> String {
    let mut text = String::new();
    let mut heading = "";
    for item in items {
        let (title, row) = row(item);
        if title != heading {
            let gap = if heading.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{title}");
            heading = title;
        }
        let _ = writeln!(text, "{}", row.trim_end());
    }
    text
}

fn row(item: &BoardItem) -> (&'static str, String) {
    match item {
        BoardItem::Memory { first, last } => (
            "RAM         FIRST            LAST",
            format!(
                "            {:<16} {:<16}",
                first.to_string(),
                last.to_string()
            ),
        ),
        BoardItem::Window {
            space,
            first,
            last,
            device,
            window,
        } => {
            let space = match space {
                Space::Pio => "pio",
                Space::Mmio => "mmio",
                Space::Config => "config",
            };
            let (first, last) = (first.to_string(), last.to_string());
            (
                "WINDOW      FIRST            LAST             DEVICE      NAME",
                format!("{space:<11} {first:<16} {last:<16} {device:<11} {window}"),
            )
        }
        BoardItem::Line { gsi, device } => {
            let gsi = gsi.map_or_else(|| "-".to_owned(), |gsi| gsi.to_string());
            ("LINE        DEVICE", format!("GSI {gsi:<7} {device}"))
        }
        BoardItem::Function {
            bdf,
            id,
            class,
            device,
            bars,
        } => {
            let bars = bars.iter().map(|bar| {
                let (index, kind, size) = (bar.index, name(bar.kind), &bar.size);
                format!("{index}:{kind}:{size} {}", bar.name)
            });
            let bars = bars.collect::<Vec<_>>().join(", ");
            (
                "FUNCTION    ID               CLASS            DEVICE      BARS",
                format!(
                    "{:<11} {id:<16} {class:<16} {device:<11} {bars}",
                    bdf.to_string()
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Extra;

    #[test]
    fn every_kind_of_thing_is_listed_and_the_table_names_it() {
        let equipment = Equipment {
            devices: vec![Extra::Edu { dma_bits: 28 }, Extra::Balloon],
            ..Equipment::default()
        };
        let items = describe(4 << 30, &equipment).unwrap();
        let text = table(&items);
        for line in [
            "            0x100000000      0x13fffffff",
            "pio         0x3f8            0x3ff            serial      ",
            "mmio        0xc0000000       0xc00fffff       edu         registers",
            "config      0x1000           0x10ff           edu         config",
            "pio         0x20             0x21             kvm-pic     master",
            "GSI 10      edu",
            "00:02.0     1234:11e8        00ff00           edu         0:mem32:0x100000 registers",
            "00:03.0     1af4:1045        00ff00           balloon     0:mem32:0x8000 virtio",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.lines().all(|line| !line.ends_with(' ')));
        let json = serde_json::to_value(&items).unwrap();
        let functions: Vec<_> = json
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["kind"] == "function")
            .map(|item| item["bdf"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            functions,
            [
                "00:00.0", "00:01.0", "00:01.1", "00:01.3", "00:02.0", "00:03.0"
            ]
        );
    }
}
