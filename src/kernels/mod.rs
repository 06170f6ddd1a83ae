//! Kernels: got from the distribution, built from its source, listed; and their modules.
//!
//! Everything lives in one cache directory that may be deleted at any time. An entry appears in it
//! by a rename of a finished directory, so what is there is whole.

mod cache;
mod default;
mod error;
mod kernel;
mod modinfo;
pub mod modules;
mod packed;
mod release;
mod tree;

pub use cache::Cache;
pub use default::{Origin, default_kernel, locate};
pub use error::KernelError;
pub use kernel::{Kernel, Manifest};
pub use modules::{Module, ModuleError};
pub use release::{compare as compare_releases, of_image as release_of_image};
