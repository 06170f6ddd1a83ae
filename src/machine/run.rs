//! One run from a spec to an outcome.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::{HostClock, Ns};
use crate::chipset::Parcels;
use crate::trace::{Event, Probe, Stream, StreamError, StreamSummary};
use crate::vm::Fleet;

use super::aftermath::{FindSymbols, look_back, with_names};
use super::board::{Board, BoardError, Plugs};
use super::console::{Console, ConsoleSummary};
use super::control::PlaceError;
use super::deadline::DeadlineTimer;
use super::desk::{Control, Desk};
use super::footprint::Footprint;
use super::memory::MemoryUse;
use super::msr_trace::{MsrTrace, Recorder};
use super::msrs;
use super::notice::{Notice, Post};
use super::outcome::Outcome;
use super::postmortem::PostMortem;
use super::report::{Counts, ExitTotals};
use super::spec::{Rules, Spec};
use super::terminal::{RawTerminal, TerminalError};
use super::timeline::{Mark, Step, Timeline};

/// How long standard output may stand still before the end of a run gives up on it.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(5);

/// What a run is connected to.
pub struct Connections {
    /// Where the guest's console goes.
    pub output: OwnedFd,
    /// Takes the results the guest sends.
    pub parcels: Box<dyn Parcels>,
    /// Where it can be reached.
    pub control: Control,
    /// Says something to the user while the run goes on.
    pub say: Box<dyn Fn(&str)>,
    /// When the run's steps happen; it began when Trapline did.
    pub timeline: Arc<Timeline>,
    /// Finds names for a post-mortem.
    pub symbols: FindSymbols,
    /// Where events go.
    pub events: Option<Stream>,
    /// Whether every MSR access that comes out is kept for the end.
    pub records_msrs: bool,
}

/// A run that did not begin, or could not be seen through.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The board.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The terminal.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] PlaceError),
    /// A descriptor or a thread the host did not give.
    #[error("cannot {what}")]
    Host {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What the console said.
    pub console: ConsoleSummary,
    /// What became of the events.
    pub events: Option<Result<StreamSummary, StreamError>>,
    /// When its steps happened.
    pub timeline: Vec<Mark>,
    /// POST codes with the guest's time, and how many more there were; when they were kept.
    pub post_codes: Option<(Vec<(Ns, u8)>, u64)>,
    /// Memory at the end, with the guest's still mapped.
    pub memory: Option<Footprint>,
    /// What the guest's memory cost at the end.
    pub guest_memory: MemoryUse,
    /// The protocol the guest was entered by.
    pub protocol: &'static str,
    /// What was counted.
    pub counts: Counts,
    /// What was found after an end that was not in order.
    pub post_mortem: Option<PostMortem>,
    /// MSR accesses, when they were kept.
    pub msr_trace: Option<MsrTrace>,
}

/// Builds the machine, runs it to its end, and takes it apart.
///
/// # Errors
/// [`RunError`] when the run cannot begin; whatever goes wrong later is part of the outcome.
pub fn run(spec: Spec, rules: Rules, to: Connections) -> Result<Finished, RunError> {
    let host = |what| move |source| RunError::Host { what, source };
    let fleet = Fleet::new(spec.cpus);
    let timeline = to.timeline;
    let life = to
        .events
        .as_ref()
        .map_or_else(Probe::off, |stream| stream.probe(None));
    life.emit(|| Event::Life {
        step: "start",
        note: None,
    });
    let (milestones, steps) = (life.clone(), Arc::clone(&timeline));
    let post = Post::new(fleet.clone(), move |step| {
        match step {
            "first_byte" => steps.mark(Step::FirstByte),
            "init" => steps.mark(Step::Init),
            _ => {}
        }
        milestones.emit(|| Event::Life { step, note: None });
    });
    let post = Arc::new(post.map_err(host("make a descriptor to wake the main thread"))?);
    let heard = Arc::clone(&post);
    let console = Console::start(to.output, move |what| heard.put(Notice::Console(what)))
        .map_err(host("start the console's thread"))?;
    let clock = Arc::new(HostClock::new());
    let deadlines = DeadlineTimer::new(Arc::clone(&clock));
    let deadlines = Arc::new(deadlines.map_err(host("make the devices' timer"))?);
    let recorder = to
        .records_msrs
        .then(|| Arc::new(Recorder::new(Arc::clone(&clock))));
    let saying = Arc::clone(&post);
    let plugs = Plugs {
        console: Box::new(console.sink()),
        parcels: to.parcels,
        sink: Arc::clone(&post) as _,
        notice: Arc::clone(&post) as _,
        listener: Arc::clone(&post) as _,
        tell: Arc::new(move |line| saying.put(Notice::Say(line))),
        clock,
        deadlines: Arc::clone(&deadlines),
        every_exit: to.events.is_some(),
        recorder: recorder.clone(),
    };
    let probe = |vcpu| {
        to.events
            .as_ref()
            .map_or_else(Probe::off, |s| s.probe(Some(vcpu)))
    };
    let board = Board::build(spec, fleet.clone(), plugs, probe)?;
    let raw = if rules.interactive {
        RawTerminal::enter(rustix::stdio::stdin())?
    } else {
        None
    };
    let desk = Desk::new(
        board,
        post,
        deadlines,
        console,
        rules,
        to.say,
        Arc::clone(&timeline),
    )
    .map_err(host("make the run's timer"))?;
    let desk = desk.run(&to.control)?;
    timeline.mark(Step::End);
    let (board, console, mut outcome) = desk.into_parts();
    let (memory, guest_memory) = (Footprint::now(), MemoryUse::of(&board));
    let (counts, protocol) = (counts(&board), board.protocol());
    let needs_names = outcome.wants_post_mortem() || outcome.hung() || recorder.is_some();
    let symbols = if needs_names {
        to.symbols
    } else {
        Box::new(|| None)
    };
    let (post_mortem, msr_trace) = with_names(&board, symbols, |names| {
        let post_mortem = look_back(&board, &mut outcome, console.last_lines(), names);
        (post_mortem, recorder.map(|recorder| recorder.finish(names)))
    });
    let post_codes = board.post_codes();
    fleet.stop();
    drop(board);
    let console = console.finish(OUTPUT_PATIENCE);
    drop(raw);
    life.emit(|| Event::Life {
        step: "end",
        note: None,
    });
    let events = to.events.map(Stream::finish);
    let timeline = timeline.marks();
    Ok(Finished {
        protocol,
        outcome,
        console,
        events,
        timeline,
        post_codes,
        memory,
        guest_memory,
        counts,
        post_mortem,
        msr_trace,
    })
}

fn counts(board: &Board) -> Counts {
    let mut exits = ExitTotals::default();
    for vcpu in 0..u8::try_from(board.fleet().len()).unwrap_or(u8::MAX) {
        if let Some(counts) = board.fleet().counts(vcpu) {
            exits.add(&counts);
        }
    }
    let (devices, unclaimed) = board.port().bus.counts();
    let devices = devices
        .into_iter()
        .map(|(label, counts)| (label.to_owned(), counts))
        .collect();
    Counts {
        exits,
        devices,
        unclaimed,
        msrs: msrs::counts(board.msrs()),
        msr_lines_unsaid: board.msrs().unsaid(),
    }
}
