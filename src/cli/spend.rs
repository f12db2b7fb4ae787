//! `keystile spend` and `keystile usage explain`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{SpendQuery, UsageQuery},
    domain::Actor,
};

/// What was spent, by any grouping.
#[derive(Args)]
pub(super) struct Spend {
    /// From then on: RFC 3339 or a UTC date.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to then, not included.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// `tenant`, `key`, `provider`, `model`, `day`, `tag:NAME`, joined by commas.
    #[arg(long, default_value = "day,model", value_name = "COLUMNS")]
    group_by: String,
    /// One tenant; all when left out.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// As JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// As CSV.
    #[arg(long)]
    csv: bool,
}

impl Spend {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let query = SpendQuery {
            rows: UsageQuery {
                from: self.from,
                to: self.to,
                tenant_id: self.tenant,
                ..UsageQuery::default()
            },
            group_by: Some(self.group_by),
        };
        let report = open::control(shared).await?.spend(&Actor::Cli, &query).await?;
        if self.json {
            output::line(report.to_json())?;
        } else if self.csv {
            output::text(&report.to_csv())?;
        } else {
            let mut table = Table::of(report.heading().iter().map(|name| name.to_uppercase()).collect());
            report.rows().for_each(|row| table.cells(row));
            let blanks = report.columns().len().saturating_sub(1);
            let mut total = vec![String::new(); blanks];
            if !report.columns().is_empty() {
                total.insert(0, "total".into());
            }
            total.extend(report.total_texts());
            table.cells(total);
            table.print()?;
        }
        let unreconciled = report.unreconciled().micro_rounded_up();
        if unreconciled > 0 && !self.json {
            output::note(format_args!(
                "{unreconciled} µUSD may have been spent besides by gateways that are silent; see `keystile instances list`"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Subcommand)]
pub(super) enum Usage {
    /// Show how one request's cost came about, and its attempts.
    Explain {
        /// `req_…`, as in the `x-request-id` header.
        request: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Usage {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let Self::Explain { request, json } = self;
        let view = open::control(shared).await?.usage_explain(&Actor::Cli, &request).await?;
        if json {
            output::json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut lines = Table::new(["CLASS", "TOKENS", "µUSD PER MILLION", "COST µUSD"]);
        for line in &view.lines {
            lines.row([
                line.class.as_str().into(),
                line.tokens.to_string(),
                line.micro_usd_per_million.to_string(),
                line.cost_micro_usd.as_micro().to_string(),
            ]);
        }
        let cost = view.cost_micro_usd.map_or_else(|| "unknown".into(), |cost| cost.as_micro().to_string());
        lines.row(["total".into(), String::new(), or_dash(view.price_version), cost]);
        lines.print()?;
        output::line("")?;
        let mut attempts = Table::new(["PROVIDER", "MODEL", "KEY", "STATUS", "OUTCOME", "MS"]);
        for attempt in view.attempts {
            attempts.row([
                attempt.provider,
                attempt.model,
                attempt.provider_key_id,
                or_dash(attempt.status),
                attempt.outcome.into(),
                attempt.latency_ms.to_string(),
            ]);
        }
        attempts.print()?;
        Ok(ExitCode::SUCCESS)
    }
}
