//! Machines made up of a few files, for tests.

use std::fs;

use tempfile::TempDir;

use super::Root;

/// A directory that stands for `/`.
pub(crate) struct Fake(TempDir);

impl Fake {
    /// An empty machine with a processor that has these flags.
    pub(crate) fn with_flags(flags: &str) -> Self {
        Self(TempDir::new().unwrap()).file("/proc/cpuinfo", &format!("flags\t\t: fpu {flags} lm\n"))
    }

    /// With a file, and the folders it lies in.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        let path = self.root().path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// With a program that prints one line.
    pub(crate) fn program(self, name: &str, prints: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let fake = self.file(name, &format!("#!/bin/sh\necho '{prints}'\n"));
        let path = fake.root().path(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    pub(crate) fn root(&self) -> Root {
        Root::at(self.0.path())
    }
}
