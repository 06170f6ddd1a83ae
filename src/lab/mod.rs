//! The disposable host: QEMU, a kernel, an initramfs, and a command run in it.
