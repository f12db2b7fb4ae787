//! `keystile doctor`: one line a check, and what to do.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Shared, output,
    remote::{Plane, Target, settings},
};
use crate::{
    app::doctor::{Check, Findings, State, examine},
    config::{Config, environment},
};

/// Looks at the data directory, the database and the running gateway. Exit code 1 when anything fails.
#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    target: Target,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let config = Config::load(&shared.overrides(), &environment()?)?;
        let Findings { mut checks, provider_keys } = examine(&config).await;
        checks.push(gateway(&Plane::new(&settings(shared, &self.target)?)?).await);
        let healthy = checks.iter().all(|check| check.state != State::Fail);
        if self.json {
            output::json(&json!({ "ok": healthy, "checks": checks, "provider_keys": provider_keys }))?;
        } else {
            for Check { check, state, found, advice } in &checks {
                let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
                output::line(format_args!("{state:<4}  {check:<14}  {found}{advice}"))?;
            }
        }
        Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether the gateway answers, and would take requests.
async fn gateway(plane: &Plane) -> Check {
    const NAME: &str = "gateway";
    let url = plane.url();
    match plane.look("/ready").await {
        Ok((status, _)) if status.is_success() => Check::ok(NAME, format!("ready at {url}")),
        Ok((status, text)) => {
            let said: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            let reason = said.as_ref().and_then(|said| {
                said["reason"].as_str().or_else(|| said["error"]["message"].as_str()).map(str::to_owned)
            });
            let reason = reason.unwrap_or_else(|| format!("it answered {status}"));
            Check::fail(NAME, format!("not ready at {url}: {reason}"), "look at its log, and at KEYSTILE_URL")
        }
        Err(error) => Check::fail(NAME, format!("{error:#}"), "without it nothing is served"),
    }
}
