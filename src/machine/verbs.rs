//! The machine's own verbs on the control socket.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;

use crate::bus::{Effect, EffectSink, ResetKind};
use crate::mem::Gpa;
use crate::msr::policy::Policy;

use super::aftermath;
use super::control::{Reply, RunStatus, Verbs};
use super::desk::{Desk, Standing};
use super::end::End;
use super::memory_verbs;
use super::postmortem::{Names, PostMortem};

/// status, pause, resume, regs, nmi, reset, stop, msr-policy, memory and balloon of the run at `desk`.
pub(super) fn of(desk: &Rc<RefCell<Desk>>, name: &str) -> Verbs {
    let mut verbs = Verbs::new();
    let name = name.to_owned();
    let on = |call: fn(&mut Desk) -> Reply| {
        let desk = Rc::clone(desk);
        move || call(&mut desk.borrow_mut())
    };
    let at = Rc::clone(desk);
    verbs.plain("status", "say what runs and how it stands", move || {
        status(&at.borrow(), &name)
    });
    verbs.plain(
        "pause",
        "stop the vCPUs at an instruction boundary",
        on(pause),
    );
    verbs.plain("resume", "let them go on", on(resume));
    verbs.plain("reset", "press the reset button", on(reset));
    verbs.plain("stop", "end the run with 76", on(stop));
    let at = Rc::clone(desk);
    verbs.add(
        "regs",
        "show registers, of all vCPUs or of those given",
        move |words| regs(&at.borrow(), words),
    );
    let at = Rc::clone(desk);
    verbs.add(
        "nmi",
        "send an NMI to all vCPUs or to those given",
        move |words| nmi(&at.borrow(), words),
    );
    let at = Rc::clone(desk);
    verbs.add(
        "msr-policy",
        "change the MSR policy to these files, without words to none",
        move |words| msr_policy(&mut at.borrow_mut(), words),
    );
    memory_verbs::add(&mut verbs, desk);
    verbs
}

fn msr_policy(desk: &mut Desk, words: &[String]) -> Reply {
    let policy = match Policy::load(words) {
        Ok(policy) => policy,
        Err(error) => return Reply::usage(text(&error)),
    };
    match desk.set_msr_policy(policy) {
        Ok(said) if said.is_empty() => Reply::nothing(),
        Ok(said) => Reply::done(json!({"text": said.join("\n"), "warnings": said})),
        Err(error) => Reply::failed(error),
    }
}

/// An error with its causes, on one line.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn status(desk: &Desk, name: &str) -> Reply {
    let spec = desk.board().spec();
    let state = match desk.standing() {
        Standing::Running => "running",
        Standing::Paused => "paused",
        Standing::Over => "over",
    };
    Reply::done(RunStatus {
        name: name.into(),
        pid: std::process::id(),
        state: state.into(),
        kernel: spec.title.clone(),
        cpus: u32::try_from(spec.cpus).unwrap_or(u32::MAX),
        memory_mib: spec.memory >> 20,
        uptime_seconds: desk.uptime().as_secs_f64(),
    })
}

fn pause(desk: &mut Desk) -> Reply {
    match desk.pause() {
        Ok(()) => Reply::nothing(),
        Err(error) => Reply::failed(error.to_string()),
    }
}

fn resume(desk: &mut Desk) -> Reply {
    desk.resume();
    Reply::nothing()
}

/// As the button does: what follows is the same as when the guest resets itself.
fn reset(desk: &mut Desk) -> Reply {
    desk.sink().apply(Effect::Reset(ResetKind::Cold));
    Reply::nothing()
}

fn stop(desk: &mut Desk) -> Reply {
    desk.note(End::Ctl);
    Reply::nothing()
}

/// The vCPUs that `words` name, or all.
fn chosen(desk: &Desk, words: &[String]) -> Result<Vec<u8>, Reply> {
    let count = desk.board().fleet().len();
    if words.is_empty() {
        return Ok((0..=u8::MAX).take(count).collect());
    }
    let number = |word: &String| {
        let number = word.parse().ok().filter(|n: &u8| usize::from(*n) < count);
        let last = count.saturating_sub(1);
        number.ok_or_else(|| Reply::usage(format!("{word:?} is no vCPU; they are 0 to {last}")))
    };
    words.iter().map(number).collect()
}

fn nmi(desk: &Desk, words: &[String]) -> Reply {
    let chosen = match chosen(desk, words) {
        Ok(chosen) => chosen,
        Err(reply) => return reply,
    };
    for vcpu in chosen {
        let sent = desk
            .board()
            .fleet()
            .ask(vcpu, |vcpu| vcpu.nmi().map_err(|e| e.to_string()));
        if let Err(error) = sent.map_err(|e| e.to_string()).and_then(|sent| sent) {
            return Reply::failed(error);
        }
    }
    Reply::nothing()
}

/// What a post-mortem would show of them, but for names: finding those costs more than a look.
fn regs(desk: &Desk, words: &[String]) -> Reply {
    let chosen = match chosen(desk, words) {
        Ok(chosen) => chosen,
        Err(reply) => return reply,
    };
    let mut pictures = Vec::new();
    for id in chosen {
        match aftermath::picture(desk.board(), id) {
            Ok(picture) => pictures.push(picture),
            Err(error) => return Reply::failed(error),
        }
    }
    let physical = |at: u64, bytes: &mut [u8]| desk.board().ram().read(Gpa(at), bytes).is_ok();
    let found = PostMortem::of(&pictures, Vec::new(), &physical, &Names::none());
    Reply::done(json!({"text": found.to_string(), "vcpus": found.vcpus}))
}
