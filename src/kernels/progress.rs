//! How long work tells what it is at.

/// Told by downloads and builds; a command shows it on a terminal, a test counts it.
pub trait Progress {
    /// A new step begins, for example `downloading linux-image-6.1.0-56-amd64`.
    fn step(&self, what: &str);
    /// How far the step is, from 0 to 1.
    fn at(&self, fraction: f64);
    /// Something the user should know although the work goes on.
    fn warn(&self, what: &str);
}

/// Progress nobody looks at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str) {}
    fn at(&self, _: f64) {}
    fn warn(&self, _: &str) {}
}
