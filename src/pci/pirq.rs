//! The four interrupt lines of a PCI bus, and the router behind them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bus::{Line, Lines, Switch};
use crate::trace::Bdf;

use super::header::Pin;

#[derive(Debug, Default)]
struct Pirq {
    gsi: Option<u32>,
    functions: Vec<Switch>,
}

/// PIRQA# to PIRQD#. Each function has a line of its own in the line router, so that a shared PIRQ
/// is the OR of its functions; routing a PIRQ moves the lines of all of them, asserted or not.
#[derive(Clone, Default)]
pub struct Pirqs(Arc<Mutex<[Pirq; 4]>>);

impl fmt::Debug for Pirqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.lock().iter().map(|p| p.gsi))
            .finish()
    }
}

impl Pirqs {
    /// The four of them, routed nowhere.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, [Pirq; 4]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which PIRQ, 0 to 3, the board wires a pin to: one further for each device, device 1's INTA#
    /// to PIRQA#, as on i440FX boards.
    #[must_use]
    pub const fn wired(function: Bdf, pin: Pin) -> u8 {
        let device = (function.0 >> 3 & 31).to_le_bytes()[0];
        device.wrapping_add(pin as u8).wrapping_sub(2) & 3
    }

    /// A line for the pin of a function.
    #[must_use]
    pub fn line(&self, lines: &Lines, name: &'static str, function: Bdf, pin: Pin) -> Line {
        let mut pirqs = self.lock();
        let pirq = pirqs.get_mut(usize::from(Self::wired(function, pin)));
        let line = lines.line(name, pirq.as_ref().and_then(|p| p.gsi));
        if let Some(pirq) = pirq {
            pirq.functions.push(line.switch());
        }
        line
    }

    /// Routes a PIRQ to `gsi`, or nowhere.
    pub fn route(&self, pirq: u8, gsi: Option<u32>) {
        let functions = {
            let mut pirqs = self.lock();
            let Some(pirq) = pirqs.get_mut(usize::from(pirq)) else {
                return;
            };
            if pirq.gsi == gsi {
                return;
            }
            pirq.gsi = gsi;
            pirq.functions.clone()
        };
        for function in functions {
            function.route(gsi);
        }
    }

    /// Where the four go now.
    #[must_use]
    pub fn routes(&self) -> [Option<u32>; 4] {
        let pirqs = self.lock();
        let [a, b, c, d] = &*pirqs;
        [a.gsi, b.gsi, c.gsi, d.gsi]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::rig::Wires;

    fn bdf(device: u8) -> Bdf {
        Bdf::new(0, device, 0).unwrap()
    }

    #[test]
    fn pins_rotate_with_the_device_number() {
        let wired = |device, pin| Pirqs::wired(bdf(device), pin);
        assert_eq!(
            [wired(1, Pin::A), wired(2, Pin::A), wired(5, Pin::A)],
            [0, 1, 0]
        );
        assert_eq!(
            [wired(1, Pin::D), wired(2, Pin::C), wired(0, Pin::A)],
            [3, 3, 3]
        );
    }

    #[test]
    fn routing_a_pirq_moves_the_asserted_lines_of_all_its_functions() {
        let wires = Wires::new();
        let pirqs = Pirqs::new();
        let one = pirqs.line(&wires.lines, "one", bdf(2), Pin::A);
        let other = pirqs.line(&wires.lines, "other", bdf(6), Pin::A);
        one.set(true);
        assert_eq!(wires.take(), [], "routed nowhere");
        pirqs.route(1, Some(10));
        other.set(true);
        assert_eq!(wires.take(), [(10, true)]);
        pirqs.route(1, Some(11));
        assert_eq!(wires.take(), [(11, true), (10, false)]);
        one.set(false);
        assert_eq!(wires.take(), [], "shared");
        pirqs.route(1, None);
        assert_eq!(wires.take(), [(11, false)]);
    }
}
