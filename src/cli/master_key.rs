//! `keystile master-key …`

use std::process::ExitCode;

use clap::Subcommand;

use super::output;
use crate::vault::KeyRing;

#[derive(Subcommand)]
pub(super) enum MasterKey {
    /// Print a new master key for PROVIDER_KEY_ENCRYPTION_KEY.
    Generate,
}

impl MasterKey {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Generate = self;
        output::line(KeyRing::generate().0.as_str())?;
        output::note("Keep a copy apart from the database: without this key no provider key opens.");
        Ok(ExitCode::SUCCESS)
    }
}
