//! `keystile master-key …`: the keys that seal everything, and their rotation while gateways run.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};

use super::{
    Shared,
    output::{self, Table, or_dash},
};
use crate::{
    app::rotation::{self, Done, RotationOptions},
    config::{Config, environment},
    control::MasterKeysView,
    vault::KeyRing,
};

#[derive(Subcommand)]
pub(super) enum MasterKey {
    /// Print a new master key for PROVIDER_KEY_ENCRYPTION_KEY.
    Generate,
    /// Seal everything anew under a new master key, while gateways run. Run it again after an interruption.
    ///
    /// With the gateway's own key file it makes the new key; otherwise put it first in PROVIDER_KEY_ENCRYPTION_KEY
    /// of every gateway and of this command.
    Rotate {
        /// Drop the old keys at the end, when nothing is sealed with them any more.
        #[arg(long)]
        retire: bool,
        #[command(flatten)]
        patience: Patience,
    },
    /// Drop the keys that nothing is sealed with any more.
    Retire {
        #[command(flatten)]
        patience: Patience,
    },
    /// Which keys are loaded, what stands under each, and which gateway has which.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct Patience {
    /// How many seconds running gateways have to take up the new key.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

impl Patience {
    fn span(&self) -> Duration {
        Duration::from_secs(self.wait.min(86_400))
    }
}

impl MasterKey {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        match self {
            Self::Generate => {
                output::line(KeyRing::generate().0.as_str())?;
                output::note("Keep a copy apart from the database: without this key no provider key opens.");
            }
            Self::Rotate { retire, patience } => {
                let config = settings(shared)?;
                let options = RotationOptions { retire, patience: patience.span() };
                tell(&rotation::rotate(&config, options, output::note).await?)?;
            }
            Self::Retire { patience } => {
                tell(&rotation::retire_old(&settings(shared)?, patience.span()).await?)?;
            }
            Self::Status { json } => {
                let stand = rotation::status(&settings(shared)?).await?;
                if json { output::json(&stand)? } else { show(&stand)? }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn settings(shared: &Shared) -> anyhow::Result<Config> {
    let config = Config::load(&shared.overrides(), &environment()?)?;
    if let Some(file) = config.database_file() {
        anyhow::ensure!(
            file.exists(),
            "there is no database at `{}`; give the gateway's `--data-dir`, or run `keystile serve` once",
            file.display()
        );
    }
    Ok(config)
}

fn tell(done: &Done) -> anyhow::Result<()> {
    if let Some(rotated) = &done.rotated {
        output::line(format_args!("done: {} sealed rows under `{}`", rotated.rows, rotated.kid))?;
    }
    match (&done.file, done.retired.as_slice(), done.kept.as_slice()) {
        (Some(file), [], []) => output::note(format!("{} holds no key that is not needed", file.display())),
        (None, [], []) => output::note("no key is loaded that is not needed"),
        (Some(file), [], kept) => output::note(format!(
            "{} is not needed any more and still in {}; `keystile master-key retire` drops it. Back the file up: it has the \
             new key",
            kept.join(", "),
            file.display()
        )),
        (None, [], kept) => output::note(format!(
            "{} is not needed any more; `keystile master-key retire` ends its use, then take it out of \
             PROVIDER_KEY_ENCRYPTION_KEY everywhere",
            kept.join(", ")
        )),
        (Some(file), retired, _) => output::note(format!(
            "retired {}: no longer in {}. Back the file up, and keep the old key as long as backups of the database from \
             before today",
            retired.join(", "),
            file.display()
        )),
        (None, retired, _) => output::note(format!(
            "retired {}: take it out of PROVIDER_KEY_ENCRYPTION_KEY everywhere and reload or restart. Keep it as long as \
             backups of the database from before today",
            retired.join(", ")
        )),
    }
    Ok(())
}

fn show(stand: &MasterKeysView) -> anyhow::Result<()> {
    let yes = |set: bool| if set { "yes" } else { "no" }.to_owned();
    let mut keys = Table::new(["KEY", "LOADED", "SEALS", "ROWS", "STATE", "SINCE"]);
    for key in &stand.keys {
        keys.row([
            key.kid.clone(),
            yes(key.loaded),
            yes(key.seals),
            key.rows.to_string(),
            or_dash(key.state),
            or_dash(key.since),
        ]);
    }
    keys.print()?;
    if !stand.instances.is_empty() {
        let mut instances = Table::new(["GATEWAY", "STATE", "KEYS"]);
        for each in &stand.instances {
            let state = format!("{:?}", each.state).to_lowercase();
            instances.row([
                each.id.to_string(),
                state,
                or_dash(each.kids.as_ref().map(|kids| kids.join(","))),
            ]);
        }
        output::line("")?;
        instances.print()?;
    }
    if !stand.is_settled() {
        output::note("A rotation is not over; `keystile master-key rotate` goes on with it.");
    }
    Ok(())
}
