//! `keystile signing-key …`: the gateway's own key for admin sessions.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::{Shared, open, output};
use crate::{
    config::{Config, environment},
    domain::Actor,
};

#[derive(Subcommand)]
pub(super) enum SigningKey {
    /// Make a new key that signs sessions. The old one verifies until its sessions have ended.
    Rotate {
        /// End all sessions at once: everybody logs in again.
        #[arg(long)]
        now: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

impl SigningKey {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let Self::Rotate { now, json } = self;
        let config = Config::load(&shared.overrides(), &environment()?)?;
        anyhow::ensure!(
            config.admin.jwt_keys.is_empty(),
            "sessions are signed with the keys in `KEYSTILE_JWT_KEYS`; put a new one first there, reload every gateway \
             (SIGHUP), and take the old one out when its sessions have ended"
        );
        let control = open::control(shared).await?;
        let made = control.signing_key_rotate(&Actor::Cli, now).await.context("the key stays as it was")?;
        if json {
            output::json(&made)?;
        } else {
            output::line(&made.kid)?;
            output::note(match made.previous_until {
                Some(until) => format!("`{}` verifies until {until}", made.previous),
                None => format!("`{}` is dropped: everybody logs in again", made.previous),
            });
        }
        Ok(ExitCode::SUCCESS)
    }
}
