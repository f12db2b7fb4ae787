//! The `keystile` command.

use std::{io::Write, process::ExitCode};

/// A password's check takes 19 MiB for a moment, and streams come and go by the thousand: jemalloc gives their memory
/// back to the system, where glibc keeps it for good.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
