//! The kvm_run page, where kvm-ioctls does not show what an exit holds.
//!
//! kvm-ioctls gives an exit's data but not the element size of string I/O, the sub-error of an
//! internal error, or a way to set `immediate_exit` from another thread. This file reads those fields
//! and nothing else.
#![expect(unsafe_code, reason = "unions and a shared byte of the kvm_run page")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;

/// A pointer to the run page of one vCPU.
///
/// The page is mapped as long as the [`VcpuFd`] it came from lives; [`super::Vcpu`] owns both and
/// drops this one first.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunPage(NonNull<kvm_run>);

// SAFETY: the page is plain memory shared with the kernel; only `immediate_exit` is touched from
// other threads, and that through an atomic.
unsafe impl Send for RunPage {}

/// KVM_EXIT_INTERNAL_ERROR in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InternalError {
    pub(super) suberror: u32,
    pub(super) data: Vec<u64>,
}

impl RunPage {
    pub(super) fn of(vcpu: &mut VcpuFd) -> Self {
        Self(NonNull::from(vcpu.get_kvm_run()))
    }

    /// Bytes per element of the port access that KVM_RUN just returned with.
    pub(super) fn io_size(self) -> u8 {
        // SAFETY: the mapping outlives self (see the type). Called between KVM_RUN returning with
        // KVM_EXIT_IO and the next entry, when the kernel does not write the page. Every bit
        // pattern of the union is a valid `io`.
        unsafe { (&raw const (*self.0.as_ptr()).__bindgen_anon_1.io.size).read() }
    }

    /// What KVM_EXIT_INTERNAL_ERROR carries.
    pub(super) fn internal_error(self) -> InternalError {
        // SAFETY: as in `io_size`, after KVM_EXIT_INTERNAL_ERROR.
        let internal = unsafe { (&raw const (*self.0.as_ptr()).__bindgen_anon_1.internal).read() };
        let count = usize::try_from(internal.ndata).unwrap_or(0);
        let data = internal.data.iter().take(count).copied().collect();
        InternalError {
            suberror: internal.suberror,
            data,
        }
    }

    /// Answers the `rdmsr` or `wrmsr` that KVM_RUN just returned with: the value of a read, or #GP.
    pub(super) fn answer_msr(self, answer: Option<u64>) {
        // SAFETY: as in `io_size`, after KVM_EXIT_X86_RDMSR or KVM_EXIT_X86_WRMSR: the kernel reads
        // `error` and `data` at the next entry and nobody else looks at them.
        unsafe {
            let msr = &raw mut (*self.0.as_ptr()).__bindgen_anon_1.msr;
            (&raw mut (*msr).error).write(u8::from(answer.is_none()));
            if let Some(value) = answer {
                (&raw mut (*msr).data).write(value);
            }
        }
    }

    /// Makes the next (or the present) KVM_RUN return with EINTR, or lets it run.
    pub(super) fn set_immediate_exit(self, on: bool) {
        // SAFETY: as in `io_size`; the byte is always accessed as an atomic on our side, and the
        // kernel reads it with a plain load.
        let byte = unsafe { AtomicU8::from_ptr(&raw mut (*self.0.as_ptr()).immediate_exit) };
        byte.store(u8::from(on), Ordering::SeqCst);
    }
}
