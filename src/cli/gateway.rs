//! `keystile gateway …`: runs a gateway, or asks a running one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Shared,
    output::{self, Table, or_dash},
    remote::{Remote, Target},
    serve::Serve,
};

#[derive(Subcommand)]
pub(super) enum Gateway {
    /// Run the gateway, as `serve` does; usually with a policy pack.
    Run(Serve),
    /// Read the configuration, the policy pack and the variables anew, all or nothing.
    Reload {
        #[command(flatten)]
        running: Running,
    },
    /// What is in force, and where each value came from.
    Status {
        #[command(flatten)]
        running: Running,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which running gateway.
#[derive(Args)]
pub(super) struct Running {
    /// The policy pack that it must run; nothing is done to a gateway with another one.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The admin plane's base URL; KEYSTILE_URL, or the listener of the settings, when left out.
    #[arg(long, value_name = "URL")]
    gateway_url: Option<String>,
}

impl Running {
    /// The gateway, and what is in force in it.
    async fn open(self, shared: &Shared) -> anyhow::Result<(Remote, Value)> {
        let remote = Remote::open(shared, &Target::at(self.gateway_url)).await?;
        let status: Value = remote.get("/api/gateway/status").await?;
        if let Some(wanted) = self.name {
            match status["pack"]["name"].as_str() {
                Some(name) if name == wanted => {}
                Some(other) => anyhow::bail!("that gateway runs the policy pack `{other}`, not `{wanted}`"),
                None => anyhow::bail!("that gateway runs no policy pack, and so not `{wanted}`"),
            }
        }
        Ok((remote, status))
    }
}

impl Gateway {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(serve) => return serve.run(shared).await,
            Self::Reload { running } => {
                let (remote, _) = running.open(shared).await?;
                let done: Value = remote.post("/api/gateway/reload").await?;
                output::line(format_args!(
                    "reloaded: {} keys added, {} changed, {} removed",
                    done["keys_added"], done["keys_changed"], done["keys_removed"]
                ))?;
                if let Some(pack) = done["pack"].as_object() {
                    output::line(pack_line(pack))?;
                }
                for name in texts(&done["needs_restart"]) {
                    output::note(format_args!("`{name}` was changed and is in force after a restart"));
                }
            }
            Self::Status { running, json } => {
                let (_, status) = running.open(shared).await?;
                if json { output::json(&status)? } else { show(&status)? }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(status: &Value) -> anyhow::Result<()> {
    output::line(format_args!(
        "keystile {} · {} · up {} s",
        text(&status["version"]),
        text(&status["instance_id"]),
        status["uptime_seconds"]
    ))?;
    if let Some(pack) = status["pack"].as_object() {
        output::line(pack_line(pack))?;
    }
    if let Some(last) = status["last_reload"].as_object() {
        let reason = last["reason"].as_str().map(|reason| format!(": {reason}")).unwrap_or_default();
        output::line(format_args!("last reload {} · {}{reason}", text(&last["at"]), text(&last["outcome"])))?;
    }
    for name in texts(&status["needs_restart"]) {
        output::line(format_args!("`{name}` was changed and is in force after a restart"))?;
    }
    let rows = |name: &str| status[name].as_array().cloned().unwrap_or_default();
    let targets = rows("targets");
    if !targets.is_empty() {
        let mut table = Table::new(["TARGET", "PROVIDER", "MODEL", "SECRET", "RESOLVED"]);
        for target in &targets {
            table.row([
                text(&target["id"]),
                text(&target["provider"]),
                text(&target["model"]),
                text(&target["reference"]),
                if target["resolved"] == true { "yes" } else { "no" }.to_owned(),
            ]);
        }
        output::line("")?;
        table.print()?;
    }
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for setting in &rows("settings") {
        table.row(["name", "value", "origin"].map(|member| text(&setting[member])));
    }
    output::line("")?;
    table.print()
}

fn pack_line(pack: &serde_json::Map<String, Value>) -> String {
    let state = if pack["enabled"] == true { "enabled" } else { "disabled" };
    format!("policy pack {} {} · {state}", text(&pack["name"]), text(&pack["version"]))
}

fn text(value: &Value) -> String {
    or_dash(value.as_str())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|items| items.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}
