//! `keystile serve`: the gateway, from its first line to its last.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Args;

use super::{Shared, output};
use crate::{
    app::{App, StartOptions},
    config::{Config, ConfigError, Environment, Overrides, environment, reachable},
    domain::Clock,
    server::{Drained, ReloadSignals, StopSignals, harden},
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
    /// A policy pack: providers' keys by reference, and what is audited.
    #[arg(long, value_name = "FILE")]
    policy_config: Option<String>,
    /// How long live requests may go on after SIGTERM, such as `30s`.
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Add a built-in provider that answers offline, and a virtual key for it.
    #[arg(long)]
    demo: bool,
}

impl Serve {
    fn flags(&self, shared: &Shared) -> Overrides {
        let flags = Overrides {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            policy_config: self.policy_config.clone(),
            drain_timeout: self.drain_timeout.clone(),
            ..shared.overrides()
        };
        match &flags.data_dir {
            None if self.demo => Overrides { data_dir: Some(DEMO_DATA.into()), ..flags },
            _ => flags,
        }
    }

    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let weak_spots = harden();
        let flags = self.flags(shared);
        let demo = self.demo;
        let read = move || settings(&flags, &environment()?, demo);
        let config = read()?;
        let options = StartOptions {
            clock: Clock::system(),
            demo,
            metrics: crate::app::metrics(),
            source: Some(Arc::new(read)),
        };
        logs::start(&config.telemetry, &options.metrics)?;
        for (what, error) in weak_spots {
            tracing::warn!(reason = %error, "{what}");
        }
        let mut signals = StopSignals::install().context("signals cannot be handled")?;
        let mut reloads = ReloadSignals::install().context("signals cannot be handled")?;
        let (timeout, data_dir) = (config.server.drain_timeout, config.server.data_dir.clone());
        let app = App::start(config, options).await?;

        for fact in &app.facts {
            tracing::info!("{fact}");
        }
        let (data, admin) = (reachable(app.address), reachable(app.admin_address));
        tracing::info!(address = %app.address, "data plane: applications call http://{data}/v1");
        tracing::info!(address = %app.admin_address, "admin plane: http://{admin}");
        if let Some(demo) = &app.demo {
            // Nobody has to read it for the gateway to run.
            output::line(demo.introduction(&data_dir)).ok();
        }

        loop {
            tokio::select! {
                () = signals.next() => break,
                () = reloads.next() => {
                    // What came of it stands in the log, in the audit log and in `gateway status`.
                    let _ = app.reload_from_source().await;
                }
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

/// The settings of a gateway. A demo has a database of its own: it deletes and makes keys and an owner, which nobody wants
/// in a house that is lived in.
fn settings(flags: &Overrides, environment: &Environment, demo: bool) -> Result<Config, ConfigError> {
    let mut config = Config::load(flags, environment)?;
    config.check_for_serve()?;
    config.read_policy(environment)?;
    if demo && config.database_url.is_some() {
        let problem = format!(
            "`--demo` keeps its data in `{DEMO_DATA}` and does not touch the configured database; start without `--demo`, or unset `KEYSTILE_DATABASE_URL` (`database.url` in the file)"
        );
        return Err(ConfigError::Contradiction { problem });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], demo: bool) -> Result<Config, ConfigError> {
        settings(&Overrides::default(), &variables.iter().copied().collect(), demo)
    }

    #[test]
    fn a_demo_does_not_touch_a_configured_database() {
        for url in ["sqlite:/srv/keystile.db", "postgres://u:canary@h/d"] {
            let refused = of(&[("KEYSTILE_DATABASE_URL", url)], true).expect_err("a demo").to_string();
            assert!(refused.contains("KEYSTILE_DATABASE_URL") && !refused.contains("canary"), "{refused}");
            of(&[("KEYSTILE_DATABASE_URL", url)], false).expect("a gateway");
        }
        of(&[], true).expect("a demo");
    }

    #[test]
    fn an_admin_without_a_password_is_refused_and_a_password_alone_is_not() {
        let refused = of(&[("KEYSTILE_ADMIN_EMAIL", "a@example.com")], false).expect_err("no password");
        assert!(refused.to_string().contains("KEYSTILE_ADMIN_PASSWORD"), "{refused}");
        let password = ("KEYSTILE_ADMIN_PASSWORD", "correct horse battery staple");
        of(&[("KEYSTILE_ADMIN_EMAIL", "a@example.com"), password], false).expect("both");
        of(&[password], false).expect("the password of `admin create`");
    }
}
