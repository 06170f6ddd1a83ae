//! What a subcommand failed with, and the status that says so.

use std::error::Error;
use std::process::ExitCode;

/// Exit statuses of design section 5 that a subcommand can end with by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// Bad command line, file or configuration.
    Usage = 64,
    /// This host cannot do it.
    Host = 65,
    /// The VMM, a device or the lab failed.
    Internal = 74,
    /// Findings, or failed tests.
    Findings = 75,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// An error with the status it ends the process with. Printed as a chain, outermost first.
#[derive(Debug)]
pub struct Failure {
    /// The status.
    pub status: Status,
    /// The error.
    pub error: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Bad command line, file or configuration.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            status: Status::Usage,
            error: error.into(),
        }
    }

    /// This host cannot do it.
    pub fn host(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            status: Status::Host,
            error: error.into(),
        }
    }

    /// The VMM, a device or the lab failed.
    pub fn internal(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            status: Status::Internal,
            error: error.into(),
        }
    }

    /// Prints the chain to standard error and gives the status.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        super::out::say(chain(self.error.as_ref()));
        self.status.into()
    }
}

/// An error and its sources on one line each, without saying anything twice.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str("\n  because: ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
