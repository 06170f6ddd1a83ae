//! Kernels: got, built, listed, and their modules.
