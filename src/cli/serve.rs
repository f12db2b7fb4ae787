//! `keystile serve`: the gateway, from its first line to its last.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::Shared;
use crate::{
    app::{App, StartOptions},
    config::{Config, Overrides, environment},
    domain::Clock,
    server::{Drained, ReloadSignals, StopSignals},
    telemetry::logs,
};

/// Where the demo keeps its data, unless told otherwise.
const DEMO_DATA: &str = "data/demo";

/// Run the gateway.
#[derive(Args)]
pub(super) struct Serve {
    /// Data plane: where applications call.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Admin plane: where administrators call.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// How long live requests may go on after SIGTERM, such as `30s`.
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Add a built-in provider that answers offline, and a virtual key for it.
    #[arg(long)]
    demo: bool,
}

impl Serve {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let mut flags = Overrides {
            listen: self.listen,
            admin_listen: self.admin_listen,
            drain_timeout: self.drain_timeout,
            ..shared.overrides()
        };
        if self.demo && flags.data_dir.is_none() {
            flags.data_dir = Some(DEMO_DATA.into());
        }
        let config = Config::load(&flags, &environment()?)?;
        let options =
            StartOptions { clock: Clock::system(), demo: self.demo, metrics: crate::app::metrics() };
        logs::start(&config.telemetry, &options.metrics)?;
        let mut signals = StopSignals::install().context("signals cannot be handled")?;
        let mut reloads = ReloadSignals::install().context("signals cannot be handled")?;
        let (timeout, data_dir) = (config.server.drain_timeout, config.server.data_dir.clone());
        let app = App::start(config, options).await?;

        for fact in &app.facts {
            tracing::info!("{fact}");
        }
        tracing::info!(address = %app.address, "data plane: applications call http://{}/v1", app.address);
        tracing::info!(address = %app.admin_address, "admin plane: http://{}", app.admin_address);
        if let Some(demo) = &app.demo {
            println!("{}", demo.introduction(&data_dir));
        }

        loop {
            tokio::select! {
                () = signals.next() => break,
                () = reloads.next() => reload(&flags, &app).await,
            }
        }
        tracing::info!(
            timeout_ms = timeout.as_millis() as u64,
            "draining: no new requests, live ones may finish"
        );
        let (drained, lost) = app.stop(timeout, signals.next()).await;
        match drained {
            Drained::Finished => tracing::info!("stopped: every live request finished"),
            Drained::Cut => tracing::warn!("stopped: live requests were cut at the deadline and settled"),
            Drained::Abandoned(tasks) => tracing::error!(tasks, "stopped: some tasks did not end"),
        }
        if lost > 0 {
            anyhow::bail!("{lost} usage records could not be written: the database did not answer");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// SIGHUP: the settings are read and checked again, and what lives in the database is taken over. An invalid
/// configuration changes nothing. Addresses, keys and timeouts are those of the start.
async fn reload(flags: &Overrides, app: &App) {
    let checked = environment().and_then(|environment| Config::load(flags, &environment));
    if let Err(error) = checked {
        tracing::error!(reason = %error, "reload: the configuration is invalid, the old one stays in force");
        return;
    }
    match app.control.reload_prices().await {
        Ok(()) => tracing::info!(
            "reload: the configuration is valid, prices are up to date; other settings need a restart"
        ),
        Err(error) => {
            tracing::error!(reason = %error, "reload: prices cannot be read, the old ones stay in force")
        }
    }
}
