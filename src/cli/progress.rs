//! Long work on a terminal: a line that moves. In a pipe nothing is said but warnings.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::out;
use crate::kernels::Progress;

/// Steps of the bar: percentages with one decimal.
const STEPS: u16 = 1000;

/// The line.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    quiet: bool,
}

impl Bar {
    /// Shown when standard error is a terminal and the user has not asked for silence.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::no_length();
        bar.set_draw_target(if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        });
        bar.set_style(moving());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, quiet }
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

fn moving() -> ProgressStyle {
    style("{spinner} {wide_msg} {elapsed}")
}

fn measured() -> ProgressStyle {
    style("{spinner} {msg} [{bar:30}] {percent}% {elapsed}")
}

impl Progress for Bar {
    fn step(&self, what: &str) {
        self.bar.unset_length();
        self.bar.set_style(moving());
        self.bar.set_message(what.to_owned());
    }

    fn at(&self, fraction: f64) {
        let steps = f64::from(STEPS);
        if self.bar.length().is_none() {
            self.bar.set_length(u64::from(STEPS));
            self.bar.set_style(measured());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=STEPS"
        )]
        self.bar
            .set_position((fraction * steps).clamp(0.0, steps) as u64);
    }

    fn warn(&self, what: &str) {
        if !self.quiet {
            self.bar.suspend(|| out::say(what));
        }
    }
}
