//! The `keystile` command.

use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    match keystile::cli::run() {
        Ok(code) => code,
        Err(error) => {
            // The whole chain, once; each part says what was being done.
            let _ = writeln!(std::io::stderr(), "keystile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
