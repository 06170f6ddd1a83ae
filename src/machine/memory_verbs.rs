//! The verbs about guest memory.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::json;

use super::control::{Reply, Verbs};
use super::desk::Desk;
use super::memory::MemoryUse;
use super::size::Size;
use crate::devices::virtio::BalloonError;

/// Adds memory and balloon.
pub(super) fn add(verbs: &mut Verbs, desk: &Rc<RefCell<Desk>>) {
    let at = Rc::clone(desk);
    verbs.plain("memory", "say what the guest's memory costs", move || {
        memory(&at.borrow())
    });
    let at = Rc::clone(desk);
    verbs.add(
        "balloon",
        "take this much memory from the guest, 0 gives it back; without a size as memory",
        move |words| balloon(&at.borrow(), words),
    );
}

/// The guest's own figures come with the next look: its driver needs time, and may be gone.
fn memory(desk: &Desk) -> Reply {
    let memory = MemoryUse::of(desk.board());
    if let Some(balloon) = desk.board().balloon() {
        balloon.ask_statistics();
        desk.due();
    }
    let text = memory.table();
    let mut reply = json!(memory);
    if let Some(fields) = reply.as_object_mut() {
        fields.insert("text".into(), text.into());
    }
    Reply::done(reply)
}

fn balloon(desk: &Desk, words: &[String]) -> Reply {
    let size: Size = match words {
        [] => return memory(desk),
        [size] => match size.parse() {
            Ok(size) => size,
            Err(error) => return Reply::usage(format!("{error}")),
        },
        _ => return Reply::usage("balloon takes one size, as in: balloon 64M"),
    };
    let Some(balloon) = desk.board().balloon() else {
        return Reply::usage("this machine has no balloon; start it with --device balloon");
    };
    match balloon.set_target(size.0) {
        Ok(()) => memory(desk),
        Err(error @ BalloonError::TooLarge { .. }) => Reply::usage(error.to_string()),
        Err(error @ BalloonError::Pinned { .. }) => Reply::failed(error.to_string()),
    }
}
