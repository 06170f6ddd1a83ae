//! Kernels: got from the distribution, built from its source, listed; and their modules.
//!
//! Everything lives in one cache directory that may be deleted at any time. An entry appears in it
//! by a rename of a finished directory, so what is there is whole.

mod apt;
mod build;
mod busybox;
mod cache;
mod deb;
mod default;
mod depmod;
mod error;
mod external;
mod get;
mod kernel;
mod layout;
mod modinfo;
pub mod modules;
mod options;
mod packed;
mod progress;
mod release;
mod staging;
mod tree;

pub use apt::AptError;
pub use build::{BuildError, BuildRequest, Built, Recipe, Tool, build};
pub use busybox::{BusyboxError, busybox};
pub use cache::Cache;
pub use deb::UnpackError;
pub use default::{Origin, default_kernel, locate};
pub use error::KernelError;
pub use external::{ExternalError, external};
pub use get::{Flavour, GetError, GetRequest, Got, get};
pub use kernel::{Kernel, Manifest};
pub use modules::{Module, ModuleError};
pub use options::{NOTABLE, Options};
pub use progress::{Progress, Silent};
pub use release::compare as compare_releases;
