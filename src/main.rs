//! The `keystile` command.

use std::{io::Write, process::ExitCode};

/// With the system's allocator a sixth of a request's processor time goes into allocating. The library leaves the choice
/// to whoever embeds it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
