//! One stream of typed events: what the guest did to its machine and what the machine answered.
//!
//! A thread that produces events owns a [`Probe`]. With tracing off a probe is empty and costs one
//! branch. With tracing on it is a bounded ring; a drain thread turns all rings into JSON lines.
//! A full ring drops the event and counts it: the guest never waits for its observer.

mod bdf;
mod event;
mod stream;

pub use bdf::{BadBdf, Bdf};
pub use event::{Direction, Event, ExitKind, Space};
pub use stream::{Probe, Stream, StreamError, StreamSummary};
