//! The `keystile` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match keystile::cli::run() {
        Ok(code) => code,
        Err(error) => {
            // The whole chain, once; each part says what was being done.
            eprintln!("keystile: {error:#}");
            ExitCode::FAILURE
        }
    }
}
