//! `boot --print-board`.

use std::path::Path;

use crate::chipset::DebugExitMode;
use crate::machine::{self, BoardError, FitError};

use super::args::BootArgs;
use super::guest;
use crate::cli::values::Size;
use crate::cli::{Failure, out};

/// Lists the board that the options describe, as tables or as JSON.
pub(super) fn print(args: &BootArgs) -> Result<(), Failure> {
    let memory = args.mem.unwrap_or(Size(guest::MEMORY)).0;
    let equipment = guest::equipment(args, DebugExitMode::default());
    let items = machine::describe(memory, &equipment).map_err(|error| match error {
        BoardError::Memory(_)
        | BoardError::Fit(FitError::Full { .. } | FitError::Twice { .. } | FitError::Disk(_)) => {
            Failure::usage(error)
        }
        _ => Failure::internal(error),
    })?;
    match args.json.as_deref() {
        None => out::print(machine::table(&items)),
        Some(path) if path == Path::new("-") => out::json("board", &items),
        Some(path) => {
            let text = out::json_text("board", &items)?;
            std::fs::write(path, text).map_err(|source| {
                Failure::internal(super::error::BootError::Listing {
                    path: path.into(),
                    source,
                })
            })
        }
    }
}
