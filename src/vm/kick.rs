//! Taking a vCPU out of KVM_RUN from another thread.
//!
//! The kicker first sets `immediate_exit`, then sends a signal: a vCPU on its way into KVM_RUN is
//! turned back by the byte, one inside is taken out by the signal. There is no window between.

use std::sync::{Mutex, Once, PoisonError};

use libc::{c_int, c_void, siginfo_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::run_page::RunPage;

/// The signal that takes vCPU threads out of KVM_RUN.
pub(super) fn signal() -> c_int {
    SIGRTMIN()
}

extern "C" fn nothing(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}

/// Installs the empty handler: without one the signal would end the process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A failure shows at once: the first kick would kill the process.
        let _ = register_signal_handler(signal(), nothing);
    });
}

/// The shared half of a vCPU's run page: present while the vCPU lives.
#[derive(Debug, Default)]
pub(super) struct Kick(Mutex<Option<RunPage>>);

impl Kick {
    pub(super) fn attach(&self, page: RunPage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(page);
    }

    /// Called by the owner before the vCPU goes away.
    pub(super) fn detach(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sets the byte; whether there was a vCPU.
    pub(super) fn set(&self) -> bool {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = *page {
            page.set_immediate_exit(true);
        }
        page.is_some()
    }
}
