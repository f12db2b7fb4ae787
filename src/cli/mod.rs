//! What an operator types. Data goes to standard output, everything else to standard error.
//!
//! Only `serve` locks the data directory; the other commands open the database beside a running gateway, act as actor
//! `cli`, and what they change is in force there within a second. `instances` and `gateway` ask the running gateway instead.

mod admin;
mod audit;
mod budgets;
mod doctor;
mod gateway;
mod instances;
mod keys;
mod master_key;
mod open;
mod output;
mod prices;
mod provider_keys;
mod remote;
mod secret;
mod serve;
mod service_tokens;
mod signing_key;
mod spend;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::{config::Overrides, server::harden};

/// A self-hosted, bring-your-own-key LLM routing gateway with OpenAI-compatible and
/// Anthropic-compatible APIs.
#[derive(Parser)]
#[command(name = "keystile", version, about, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// Where the settings come from; the same for all commands.
#[derive(Args, Clone)]
struct Shared {
    /// A YAML file of settings.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Database, master key and lock; `./data` when nothing else is said.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Log filter, such as `info` or `keystile=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// `text` or `json`.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl Shared {
    fn overrides(&self) -> Overrides {
        Overrides {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            log: self.log.clone(),
            log_format: self.log_format.clone(),
            ..Overrides::default()
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Serve(serve::Serve),
    /// The same, with a policy pack; and a running gateway's status and reload.
    #[command(subcommand)]
    Gateway(gateway::Gateway),
    /// People who administer it.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Keys that seal the provider keys.
    #[command(subcommand)]
    MasterKey(master_key::MasterKey),
    /// The gateway's own key for admin sessions.
    #[command(subcommand)]
    SigningKey(signing_key::SigningKey),
    /// Tenants' own keys at providers.
    #[command(subcommand)]
    ProviderKeys(provider_keys::ProviderKeys),
    /// Virtual keys, which applications present.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// What services fetch provider keys with, where the operator allows it.
    #[command(subcommand)]
    ServiceTokens(service_tokens::ServiceTokens),
    /// Caps that several virtual keys share.
    #[command(subcommand)]
    Budgets(budgets::Budgets),
    /// What models cost.
    #[command(subcommand)]
    Prices(prices::Prices),
    /// What was spent.
    Spend(spend::Spend),
    /// Single requests.
    #[command(subcommand)]
    Usage(spend::Usage),
    /// The chained record of every act.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// The same record, filtered.
    #[command(subcommand)]
    Events(audit::Events),
    /// Gateways that share the database, asked of a running one.
    #[command(subcommand)]
    Instances(instances::Instances),
    /// Look at everything that a gateway stands on, and say what to do.
    Doctor(doctor::Doctor),
}

/// Reads the command line and does what it says.
///
/// # Errors
/// What went wrong, as a chain for people.
pub fn run() -> anyhow::Result<ExitCode> {
    let Cli { shared, command } = Cli::parse();
    // Every command may hold keys for a while. What cannot be done about that keeps none from its work; `serve` says it.
    let _ = harden();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Command::Serve(serve) => serve.run(&shared).await,
            Command::Gateway(gateway) => gateway.run(&shared).await,
            Command::Admin(admin) => admin.run(&shared).await,
            Command::MasterKey(master_key) => master_key.run(&shared).await,
            Command::SigningKey(signing_key) => signing_key.run(&shared).await,
            Command::ProviderKeys(provider_keys) => provider_keys.run(&shared).await,
            Command::Keys(keys) => keys.run(&shared).await,
            Command::ServiceTokens(service_tokens) => service_tokens.run(&shared).await,
            Command::Budgets(budgets) => budgets.run(&shared).await,
            Command::Prices(prices) => prices.run(&shared).await,
            Command::Spend(spend) => spend.run(&shared).await,
            Command::Usage(usage) => usage.run(&shared).await,
            Command::Audit(audit) => audit.run(&shared).await,
            Command::Events(events) => events.run(&shared).await,
            Command::Instances(instances) => instances.run(&shared).await,
            Command::Doctor(doctor) => doctor.run(&shared).await,
        }
    });
    match done {
        Err(error) if error.is::<output::Closed>() => Ok(ExitCode::SUCCESS),
        done => done,
    }
}
