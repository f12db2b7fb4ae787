//! `keystile prices …`

use std::{io::Read, process::ExitCode};

use clap::Subcommand;

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{control::NewPrices, domain::Actor};

#[derive(Subcommand)]
pub(super) enum Prices {
    /// List the prices in force, in micro-USD per million tokens.
    List {
        /// One model, as `provider/model`.
        #[arg(long)]
        model: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set prices from JSON on standard input, as `PUT /api/prices` takes them.
    Set,
}

impl Prices {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let control = open::control(shared).await?;
        match self {
            Self::List { model, json } => {
                let view = control.prices(&Actor::Cli, model.as_deref()).await?;
                if json {
                    output::json(&view)?;
                    return Ok(ExitCode::SUCCESS);
                }
                let mut table = Table::new([
                    "MODEL",
                    "INPUT",
                    "OUTPUT",
                    "CACHE READ",
                    "CACHE WRITE",
                    "CONTEXT",
                    "MAX OUTPUT",
                    "VERSION",
                ]);
                for price in view.prices {
                    table.row([
                        price.model,
                        i64::from(price.input).to_string(),
                        i64::from(price.output).to_string(),
                        or_dash(price.cache_read.map(i64::from)),
                        or_dash(price.cache_write.map(i64::from)),
                        or_dash(price.context_window),
                        or_dash(price.max_output_tokens),
                        price.version,
                    ]);
                }
                table.print()?;
            }
            Self::Set => {
                let mut text = String::new();
                std::io::stdin().lock().take(4 * 1024 * 1024).read_to_string(&mut text)?;
                let asked: NewPrices = serde_json::from_str(&text)?;
                output::json(&control.prices_set(&Actor::Cli, asked).await?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
