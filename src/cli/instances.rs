//! `keystile instances …`: asks a running gateway, which alone knows that it lives.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use super::{
    Shared,
    output::{self, Table, or_dash},
    remote::{Remote, Target},
};

#[derive(Subcommand)]
pub(super) enum Instances {
    /// Gateways on the same database, and what they have leased.
    List {
        #[command(flatten)]
        target: Target,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give the leases of a silent gateway back to the caps, when its data directory will not come back.
    Release {
        /// `ins_…`
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

impl Instances {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { target, json } => {
                let remote = Remote::open(shared, &target).await?;
                let page: Value = remote.get("/api/instances").await?;
                let instances = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
                if json { output::json(&instances)? } else { table(instances).print()? }
            }
            Self::Release { id, target } => {
                anyhow::ensure!(
                    id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                    "`{id}` is not an id of the form `ins_…`"
                );
                let remote = Remote::open(shared, &target).await?;
                let done: Value = remote.post(&format!("/api/instances/{id}/release")).await?;
                output::line(format_args!(
                    "{} µUSD released on {} counters",
                    done["released_micro_usd"], done["counters"]
                ))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn table(instances: &[Value]) -> Table {
    let mut table = Table::new(["ID", "STATE", "STARTED", "SILENT s", "LEASED µUSD", "STOPPED"]);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    for each in instances {
        let names = ["id", "state", "started_at", "silent_seconds", "leased_micro_usd", "stopped_at"];
        table.row(names.map(|name| or_dash(text(&each[name]))));
    }
    table
}
