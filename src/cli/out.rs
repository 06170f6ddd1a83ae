//! Standard output and standard error, for the whole command line.
//!
//! Rust ignores SIGPIPE, which sockets need, and `println!` then panics when the reader has left.
//! Here a reader that has left (`trapline doctor | head -1`) is a quiet end of output: the command
//! goes on to its own status. Any other failure, such as a full disk, is an error with status 74.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use super::Failure;

/// Standard output could not take what a command prints.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutError {
    source: io::Error,
}

/// Prints a command's answer as it is.
///
/// # Errors
/// Standard output fails in another way than by having no reader.
pub fn print(text: impl Display) -> Result<(), Failure> {
    write_to(&mut io::stdout().lock(), &text).map_err(Failure::internal)
}

/// Prints a line of a command's answer.
///
/// # Errors
/// As [`print`].
pub fn line(text: impl Display) -> Result<(), Failure> {
    print(format_args!("{text}\n"))
}

/// The one object of `--json`: `{"schema":"trapline/NAME/1","items":[...]}`, and a line's end.
///
/// # Errors
/// An item cannot be written as JSON.
pub fn json_text<T: Serialize>(name: &str, items: &[T]) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Document<'d, T> {
        schema: String,
        items: &'d [T],
    }
    let schema = format!("trapline/{name}/1");
    let text = serde_json::to_string(&Document { schema, items }).map_err(Failure::internal)?;
    Ok(text + "\n")
}

/// Prints [`json_text`].
///
/// # Errors
/// As [`print`] and [`json_text`].
pub fn json<T: Serialize>(name: &str, items: &[T]) -> Result<(), Failure> {
    print(json_text(name, items)?)
}

/// Trapline's own words, on standard error; lost without harm when nobody can hear them.
pub fn say(text: impl Display) {
    let _ = write_to(
        &mut io::stderr().lock(),
        &format_args!("trapline: {text}\n"),
    );
}

/// A text of several lines on standard error, as it is.
pub fn say_lines(text: impl Display) {
    let _ = write_to(&mut io::stderr().lock(), &text);
}

/// Whether standard output is a screen that shows colours and its user wants them.
#[must_use]
pub fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

fn write_to(to: &mut dyn Write, text: &dyn Display) -> Result<(), OutError> {
    // One write for all of it, so that a reader never sees half a line from two threads.
    let bytes = text.to_string();
    match to.write_all(bytes.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(OutError { source: error }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_left_is_no_error() {
        assert!(write_to(&mut Broken(ErrorKind::BrokenPipe), &"x").is_ok());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let error = write_to(&mut Broken(ErrorKind::StorageFull), &"x").unwrap_err();
        assert_eq!(error.to_string(), "cannot write to standard output");
        assert_eq!(error.source.kind(), ErrorKind::StorageFull);
    }
}
