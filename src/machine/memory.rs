//! What the guest's memory costs the host, and what a balloon does about it.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::board::Board;
use crate::bus::Clock;
use crate::devices::virtio::{BalloonFigures, Statistics};

/// Guest memory in figures, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// What the guest was given.
    pub size: u64,
    /// What the host holds for it now; none where the host does not tell.
    pub held: Option<u64>,
    /// Who pins it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_by: Option<String>,
    /// The balloon, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonFigures>,
    /// How old the guest's own figures are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics_age_ms: Option<u64>,
}

fn mib(bytes: u64) -> String {
    // Exact to the page, for any memory a machine has.
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

impl MemoryUse {
    /// That of `board` now.
    pub(super) fn of(board: &Board) -> Self {
        let (ram, balloon) = (board.ram(), board.balloon().map(|b| b.figures()));
        let spoken = balloon.as_ref().filter(|b| b.statistics.is_some());
        let age = spoken.map(|b| board.clock().now().0.saturating_sub(b.statistics_at.0));
        let ms = |ns| u64::try_from(Duration::from_nanos(ns).as_millis()).unwrap_or(u64::MAX);
        Self {
            size: ram.size(),
            held: ram.held().ok(),
            pinned_by: ram.pinned_by(),
            statistics_age_ms: age.map(ms),
            balloon,
        }
    }

    /// One line for `--timing`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text = format!("{} MiB", mib(self.size));
        if let Some(held) = self.held {
            let _ = write!(text, ", {} MiB held by the host", mib(held));
        }
        if let Some(balloon) = &self.balloon {
            let (actual, returned) = (mib(balloon.actual), mib(balloon.returned));
            let _ = write!(
                text,
                "; {actual} MiB in the balloon, {returned} MiB given back"
            );
        }
        text
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![("guest memory", format!("{} MiB", mib(self.size)))];
        rows.extend(
            self.held
                .map(|held| ("held by the host", format!("{} MiB", mib(held)))),
        );
        if let Some(by) = &self.pinned_by {
            rows.push(("pinned by", by.clone()));
        }
        if let Some(balloon) = &self.balloon {
            rows.extend(self.of_balloon(balloon));
        }
        let row = |(name, value)| format!("{name:<18}{value}\n");
        rows.into_iter().map(row).collect()
    }

    fn of_balloon(&self, balloon: &BalloonFigures) -> Vec<(&'static str, String)> {
        let driver = match balloon.driver {
            true => "",
            false => "; the guest has no driver for it (virtio_balloon)",
        };
        let pair = |one, first, other, second| {
            let (one, other) = (mib(one), mib(other));
            format!("{one} MiB {first}, {other} MiB {second}")
        };
        let mut rows = vec![
            (
                "balloon",
                pair(balloon.target, "wanted", balloon.actual, "in it") + driver,
            ),
            (
                "inflated",
                pair(balloon.inflated, "in all", balloon.deflated, "taken back"),
            ),
            ("reported free", format!("{} MiB", mib(balloon.reported))),
            (
                "given back",
                pair(balloon.returned, "in all", balloon.kept, "could not go"),
            ),
        ];
        if let Some(why) = &balloon.broken {
            let text = format!("until the guest resets the balloon: {why}");
            rows.push(("stands still", text));
        }
        if balloon.nonsense > 0 {
            let text = format!("{} pages that are no RAM", balloon.nonsense);
            rows.push(("nonsense", text));
        }
        if let (Some(statistics), Some(age)) = (&balloon.statistics, self.statistics_age_ms) {
            let figure = |(name, value): (&&str, &u64)| match Statistics::is_bytes(name) {
                true => format!("{name} {} MiB", mib(*value)),
                false => format!("{name} {value}"),
            };
            let figures: Vec<String> = statistics.0.iter().map(figure).collect();
            let age = Duration::from_millis(age).as_secs_f64();
            rows.push((
                "the guest says",
                format!("{} ({age:.1} s ago)", figures.join(", ")),
            ));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn memory() -> MemoryUse {
        let statistics = BTreeMap::from([("free", 100 << 20), ("oom_kills", 2)]);
        MemoryUse {
            size: 256 << 20,
            held: Some((131 << 20) + (1 << 19)),
            pinned_by: None,
            balloon: Some(BalloonFigures {
                driver: true,
                target: 64 << 20,
                actual: 32 << 20,
                inflated: 40 << 20,
                deflated: 8 << 20,
                reported: 12 << 20,
                returned: 52 << 20,
                statistics: Some(Statistics(statistics)),
                ..BalloonFigures::default()
            }),
            statistics_age_ms: Some(1500),
        }
    }

    #[test]
    fn one_line_says_what_memory_costs() {
        assert_eq!(
            memory().line(),
            "256.0 MiB, 131.5 MiB held by the host; 32.0 MiB in the balloon, 52.0 MiB given back"
        );
        let plain = MemoryUse {
            size: 2 << 20,
            ..MemoryUse::default()
        };
        assert_eq!(plain.line(), "2.0 MiB");
    }

    #[test]
    fn the_table_tells_what_became_of_it() {
        assert_eq!(
            memory().table(),
            "\
guest memory      256.0 MiB
held by the host  131.5 MiB
balloon           64.0 MiB wanted, 32.0 MiB in it
inflated          40.0 MiB in all, 8.0 MiB taken back
reported free     12.0 MiB
given back        52.0 MiB in all, 0.0 MiB could not go
the guest says    free 100.0 MiB, oom_kills 2 (1.5 s ago)
"
        );
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        let mut memory = memory();
        memory.pinned_by = Some("vfio 0000:00:03.0".into());
        let balloon = memory.balloon.as_mut().unwrap();
        balloon.driver = false;
        balloon.broken = Some("the descriptor chain from 3 is torn".into());
        let table = memory.table();
        assert!(table.contains("pinned by         vfio 0000:00:03.0\n"));
        assert!(table.contains("no driver for it (virtio_balloon)\n"));
        assert!(
            table.contains("stands still      until the guest resets the balloon: the descriptor")
        );
    }
}
