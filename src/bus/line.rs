//! Interrupt lines.
//!
//! A device owns a [`Line`], not an interrupt number. Each line source has one level; a GSI's level
//! is the OR of the sources routed to it. The router tells the irqchip only of changes, and tells
//! listeners when a line is routed to another GSI (resample irqfds have to follow it).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes the level of a GSI: the irqchip.
pub trait GsiSink: fmt::Debug + Send + Sync {
    /// The level of `gsi` is now `level`.
    fn set(&self, gsi: u32, level: bool);
}

/// Told when a line moves to another GSI, while no lock is held.
pub trait LineListener: Send + Sync {
    /// Source `source` now drives `gsi`, or nothing.
    fn rerouted(&self, source: usize, gsi: Option<u32>);
}

#[derive(Debug, Clone, Copy)]
struct Source {
    name: &'static str,
    gsi: Option<u32>,
    level: bool,
}

struct Router {
    sources: Vec<Source>,
    listeners: Vec<Arc<dyn LineListener>>,
}

struct Inner {
    router: Mutex<Router>,
    sink: Arc<dyn GsiSink>,
}

/// The router of all lines of a machine.
#[derive(Clone)]
pub struct Lines(Arc<Inner>);

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.lock().sources).finish()
    }
}

impl Lines {
    /// A router in front of `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn GsiSink>) -> Self {
        let router = Mutex::new(Router {
            sources: Vec::new(),
            listeners: Vec::new(),
        });
        Self(Arc::new(Inner { router, sink }))
    }

    fn lock(&self) -> MutexGuard<'_, Router> {
        self.0.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new line, low, routed to `gsi` or to nothing; `name` is for listings.
    #[must_use]
    pub fn line(&self, name: &'static str, gsi: Option<u32>) -> Line {
        let mut router = self.lock();
        let source = router.sources.len();
        router.sources.push(Source {
            name,
            gsi,
            level: false,
        });
        Line {
            lines: self.clone(),
            source,
        }
    }

    /// Every line, in the order they were made.
    #[must_use]
    pub fn listing(&self) -> Vec<LineUse> {
        let router = self.lock();
        let row = |s: &Source| LineUse {
            name: s.name,
            gsi: s.gsi,
            level: s.level,
        };
        router.sources.iter().map(row).collect()
    }

    /// Tells `listener` of every later re-routing.
    pub fn listen(&self, listener: Arc<dyn LineListener>) {
        self.lock().listeners.push(listener);
    }

    fn level(router: &Router, gsi: u32) -> bool {
        router.sources.iter().any(|s| s.gsi == Some(gsi) && s.level)
    }

    /// Changes one source and passes on what changed. The sink is called under the router's lock, so
    /// that two vCPUs cannot deliver their levels in the wrong order; it takes no lock of ours.
    fn change(&self, source: usize, how: impl FnOnce(&mut Source)) {
        let mut router = self.lock();
        let Some(&before) = router.sources.get(source) else {
            return;
        };
        let affected = |router: &Router, gsi: Option<u32>| gsi.map(|g| (g, Self::level(router, g)));
        let old = affected(&router, before.gsi);
        let mut after = before;
        how(&mut after);
        let new = if after.gsi == before.gsi {
            None
        } else {
            affected(&router, after.gsi)
        };
        if let Some(slot) = router.sources.get_mut(source) {
            *slot = after;
        }
        for (gsi, was) in old.into_iter().chain(new) {
            let is = Self::level(&router, gsi);
            if is != was {
                self.0.sink.set(gsi, is);
            }
        }
        if after.gsi != before.gsi {
            let listeners = router.listeners.clone();
            drop(router);
            for listener in listeners {
                listener.rerouted(source, after.gsi);
            }
        }
    }
}

/// A line, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct LineUse {
    /// Whose it is.
    pub name: &'static str,
    /// Where it goes.
    pub gsi: Option<u32>,
    /// Whether it drives high.
    pub level: bool,
}

/// Re-routes a line that somebody else drives, as PIIX3 does with PCI's.
#[derive(Debug, Clone)]
pub struct Switch {
    lines: Lines,
    source: usize,
}

impl Switch {
    /// Connects the line to another GSI; an asserted line moves.
    pub fn route(&self, gsi: Option<u32>) {
        self.lines.change(self.source, |s| s.gsi = gsi);
    }
}

/// One source of interrupts. Dropping it lowers it.
#[derive(Debug)]
pub struct Line {
    lines: Lines,
    source: usize,
}

impl Line {
    /// Drives the line high or low.
    pub fn set(&self, level: bool) {
        self.lines.change(self.source, |s| s.level = level);
    }

    /// High and low again: one edge.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Whether this source drives high.
    #[must_use]
    pub fn level(&self) -> bool {
        self.lines
            .lock()
            .sources
            .get(self.source)
            .is_some_and(|s| s.level)
    }

    /// The switch of this line.
    #[must_use]
    pub fn switch(&self) -> Switch {
        Switch {
            lines: self.lines.clone(),
            source: self.source,
        }
    }

    /// Puts a saved level back without telling the irqchip, which has its own saved state.
    pub fn restore(&self, level: bool) {
        if let Some(source) = self.lines.lock().sources.get_mut(self.source) {
            source.level = level;
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<(u32, bool)>>);

    impl GsiSink for Log {
        fn set(&self, gsi: u32, level: bool) {
            self.0.lock().unwrap().push((gsi, level));
        }
    }

    fn log() -> (Arc<Log>, Lines) {
        let log = Arc::new(Log::default());
        (Arc::clone(&log), Lines::new(log))
    }

    impl Log {
        fn take(&self) -> Vec<(u32, bool)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn a_shared_gsi_falls_only_when_the_last_source_falls() {
        let (log, lines) = log();
        let (a, b) = (lines.line("test", Some(9)), lines.line("test", Some(9)));
        a.set(true);
        b.set(true);
        a.set(false);
        assert_eq!(log.take(), [(9, true)]);
        b.set(false);
        assert_eq!(log.take(), [(9, false)]);
    }

    #[test]
    fn an_asserted_line_moves_when_it_is_rerouted() {
        let (log, lines) = log();
        let line = lines.line("test", Some(10));
        line.set(true);
        line.switch().route(Some(11));
        line.switch().route(None);
        assert_eq!(
            log.take(),
            [(10, true), (10, false), (11, true), (11, false)]
        );
    }

    #[test]
    fn listeners_hear_of_routes_and_may_use_lines() {
        struct Follow(Lines, Mutex<Vec<Option<u32>>>);
        impl LineListener for Follow {
            fn rerouted(&self, _: usize, gsi: Option<u32>) {
                let _line = self.0.line("test", None);
                self.1.lock().unwrap().push(gsi);
            }
        }
        let (_, lines) = log();
        let follow = Arc::new(Follow(lines.clone(), Mutex::default()));
        lines.listen(follow.clone());
        let line = lines.line("test", Some(5));
        line.switch().route(Some(5));
        line.switch().route(Some(6));
        assert_eq!(*follow.1.lock().unwrap(), [Some(6)]);
    }

    #[test]
    fn restoring_a_level_makes_no_edge() {
        let (log, lines) = log();
        let line = lines.line("test", Some(4));
        line.restore(true);
        assert!(line.level() && log.take().is_empty());
        line.set(false);
        assert_eq!(log.take(), [(4, false)]);
    }

    #[test]
    fn dropping_a_line_lowers_it() {
        let (log, lines) = log();
        let line = lines.line("test", Some(4));
        line.set(true);
        drop(line);
        assert_eq!(log.take(), [(4, true), (4, false)]);
    }
}
