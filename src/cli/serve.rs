//! `keystile serve`: the gateway, from its first line to its last.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::{Shared, output};
use crate::{
    app::{App, Reread, StartOptions},
    config::{Config, Environment, Overrides, environment, reachable},
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
        let config = settings(&flags, &environment()?, self.demo)?;
        let reread = Reread::new({
            let (flags, demo) = (flags.clone(), self.demo);
            move || {
                let read = environment().map_err(anyhow::Error::from);
                let read = read.and_then(|environment| settings(&flags, &environment, demo));
                read.map_err(|error| format!("{error:#}"))
            }
        });
        let options = StartOptions {
            clock: Clock::system(),
            demo: self.demo,
            metrics: crate::app::metrics(),
            reread: Some(reread),
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
                () = reloads.next() => reload(&flags, self.demo, &app).await,
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
fn settings(flags: &Overrides, environment: &Environment, demo: bool) -> anyhow::Result<Config> {
    let config = Config::load(flags, environment)?;
    config.check_for_serve()?;
    anyhow::ensure!(
        !demo || config.database_url.is_none(),
        "`--demo` keeps its data in `{DEMO_DATA}` and does not touch the configured database; start without `--demo`, or unset `KEYSTILE_DATABASE_URL` (`database.url` in the file)"
    );
    Ok(config)
}

/// SIGHUP: the settings are read and checked again, and what lives in the database is taken over. An invalid
/// configuration, or keys that cannot be used, change nothing. Addresses and timeouts are those of the start.
async fn reload(flags: &Overrides, demo: bool, app: &App) {
    let checked = environment()
        .map_err(anyhow::Error::from)
        .and_then(|environment| settings(flags, &environment, demo));
    let config = match checked {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(reason = %error, "reload: the configuration is invalid, the old one stays in force");
            return;
        }
    };
    if let Err(error) = app.reload_keys(config).await {
        tracing::error!(reason = %format!("{:#}", anyhow::Error::new(error)), "reload: the keys cannot be used, the old ones stay in force");
        return;
    }
    match app.control.reload_prices().await {
        Ok(()) => tracing::info!(
            "reload: the configuration is valid, keys and prices are up to date; other settings need a restart"
        ),
        Err(error) => {
            tracing::error!(reason = %error, "reload: prices cannot be read, the old ones stay in force")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)], demo: bool) -> anyhow::Result<Config> {
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
