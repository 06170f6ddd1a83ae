//! I/O ports of the machine, for which `sys::allow_ports` must have asked.
#![expect(unsafe_code, reason = "port instructions exist only in assembly")]

use std::arch::asm;
use std::io;

use crate::sys;

/// A run of ports this process may use.
#[derive(Debug)]
pub(crate) struct Ports {
    base: u16,
    count: u16,
}

impl Ports {
    /// Asks the kernel for `count` ports from `base` on.
    pub(crate) fn open(base: u16, count: u16) -> io::Result<Self> {
        sys::allow_ports(base, count)?;
        Ok(Self { base, count })
    }

    fn port(&self, offset: u16) -> u16 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.count,
            "a 32-bit port of this window"
        );
        self.base + offset
    }

    /// Reads 32 bits.
    pub(crate) fn read(&self, offset: u16) -> u32 {
        let value: u32;
        // SAFETY: the kernel lets this thread use the port (`open`); reading it changes no memory.
        unsafe {
            asm!("in eax, dx", out("eax") value, in("dx") self.port(offset),
                 options(nomem, nostack, preserves_flags));
        }
        value
    }

    /// Fills `words` from one port, in one instruction: the hypervisor is left once for many.
    pub(crate) fn read_run(&self, offset: u16, words: &mut [u32]) {
        // SAFETY: the kernel lets this thread use the port (`open`); what is written is `words`, from
        // its start on, as the ABI has the direction flag clear.
        unsafe {
            asm!("rep insd", in("dx") self.port(offset),
                 inout("rdi") words.as_mut_ptr() => _, inout("rcx") words.len() => _,
                 options(nostack, preserves_flags));
        }
    }

    /// Writes 32 bits.
    pub(crate) fn write(&self, offset: u16, value: u32) {
        // SAFETY: the kernel lets this thread use the port (`open`). What a device reads from memory
        // because of this write was written before: without `nomem` nothing moves across.
        unsafe {
            asm!("out dx, eax", in("dx") self.port(offset), in("eax") value,
                 options(nostack, preserves_flags));
        }
    }
}
