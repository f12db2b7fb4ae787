//! `keystile provider-keys …`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    Shared, open,
    output::{self, Table},
    remote::{Remote, Target},
    secret,
};
use crate::{
    control::{
        KeySource, NewProviderKey, Patch, PromoteKey, ProviderKeyChange, ProviderKeyView, SecretInput,
        StageKey,
    },
    domain::Actor,
};

#[derive(Subcommand)]
pub(super) enum ProviderKeys {
    /// List them; values never appear.
    List {
        /// Of which tenant; all tenants' when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Store one. The secret comes from a prompt or standard input.
    Create(Create),
    /// Replace the secret, change the weight, or switch it on and off.
    Update(Update),
    /// Lay a new secret beside the present one. It comes from a prompt or standard input.
    Stage {
        /// `pk_…`
        id: String,
    },
    /// Let a running gateway try the staged secret at the provider; fails when it is not taken.
    Verify {
        /// `pk_…`
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Put the staged secret in the present one's place.
    Promote {
        /// `pk_…`
        id: String,
        /// Also when the provider has not taken it.
        #[arg(long)]
        unverified: bool,
    },
    /// Throw the staged secret away.
    Unstage {
        /// `pk_…`
        id: String,
    },
    /// Delete one for good.
    Delete {
        /// `pk_…`
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// Provider slug, such as `openai`, or a new one together with `--base-url`.
    provider: String,
    /// Name for people.
    #[arg(long)]
    name: String,
    /// Where it is used, if not at the provider's own address.
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Upstream models it serves, joined by commas; all when left out.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Share of the traffic.
    #[arg(long)]
    weight: Option<i64>,
    /// For which tenant; `default` when left out.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// The provider wants no secret.
    #[arg(long)]
    no_secret: bool,
}

#[derive(Args)]
pub(super) struct Update {
    /// `pk_…`
    id: String,
    /// Read a new secret from a prompt or standard input.
    #[arg(long)]
    secret: bool,
    /// New address; only together with `--secret`.
    #[arg(long, value_name = "URL", requires = "secret")]
    base_url: Option<String>,
    /// Share of the traffic.
    #[arg(long)]
    weight: Option<i64>,
    /// Use it (`true`) or not (`false`).
    #[arg(long)]
    active: Option<bool>,
}

impl ProviderKeys {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let control = open::control(shared).await?;
        match self {
            Self::List { tenant, json } => {
                let keys = control.provider_keys(&Actor::Cli, tenant.as_deref()).await?;
                if json { output::json(&keys)? } else { table(&keys).print()? }
            }
            Self::Create(create) => {
                let text =
                    if create.no_secret { Default::default() } else { secret::read("Provider key: ")? };
                let asked = NewProviderKey {
                    provider: create.provider,
                    key_name: Some(create.name),
                    api_key: Patch::Set(SecretInput::new(text.to_string()).into()),
                    base_url: create.base_url,
                    models: create.models,
                    weight: create.weight,
                    tenant_id: create.tenant,
                    ..NewProviderKey::default()
                };
                output::line(control.provider_key_create(&Actor::Cli, asked, None).await?.id)?;
            }
            Self::Update(update) => {
                let asked = ProviderKeyChange {
                    api_key: match update.secret {
                        true => Patch::Set(typed()?),
                        false => Patch::Keep,
                    },
                    base_url: update.base_url.map_or(Patch::Keep, Patch::Set),
                    weight: update.weight.map_or(Patch::Keep, Patch::Set),
                    is_active: update.active.map_or(Patch::Keep, Patch::Set),
                    ..ProviderKeyChange::default()
                };
                table(&[control.provider_key_change(&Actor::Cli, &update.id, asked).await?]).print()?;
            }
            Self::Stage { id } => {
                let asked = StageKey { api_key: Patch::Set(typed()?) };
                let key = control.provider_key_stage(&Actor::Cli, &id, asked).await?;
                output::line(key.staged.map(|staged| staged.fingerprint).unwrap_or_default())?;
            }
            Self::Verify { id, target } => return verify(shared, &id, &target).await,
            Self::Promote { id, unverified } => {
                let asked = PromoteKey { unverified, fingerprint: None };
                table(&[control.provider_key_promote(&Actor::Cli, &id, asked).await?]).print()?;
            }
            Self::Unstage { id } => control.provider_key_unstage(&Actor::Cli, &id).await?,
            Self::Delete { id } => control.provider_key_delete(&Actor::Cli, &id).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A secret from a prompt or standard input.
fn typed() -> anyhow::Result<KeySource> {
    Ok(SecretInput::new(secret::read("Provider key: ")?.to_string()).into())
}

/// Anything else would be another path.
fn plain_id(id: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
        "`{id}` is not an id of the form `pk_…`"
    );
    Ok(())
}

async fn verify(shared: &Shared, id: &str, target: &Target) -> anyhow::Result<ExitCode> {
    plain_id(id)?;
    let remote = Remote::open(shared, target).await?;
    let said: Value = remote.post(&format!("/api/keys/{id}/verify")).await?;
    let status = said["status"].as_u64().map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    if said["ok"] == true {
        output::line(format_args!("the provider takes the staged secret ({status})"))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(format_args!("{} ({status})", said["reason"].as_str().unwrap_or("it was not taken")))?;
    Ok(ExitCode::FAILURE)
}

fn table(keys: &[ProviderKeyView]) -> Table {
    let mut table = Table::new([
        "ID",
        "TENANT",
        "PROVIDER",
        "NAME",
        "ACTIVE",
        "WEIGHT",
        "FINGERPRINT",
        "MASTER KEY",
        "BASE URL",
    ]);
    for key in keys {
        table.row([
            key.id.to_string(),
            key.tenant_id.to_string(),
            key.provider.to_string(),
            key.key_name.clone(),
            key.is_active.to_string(),
            key.weight.to_string(),
            key.fingerprint.clone(),
            key.master_key_id.clone(),
            key.base_url.clone(),
        ]);
    }
    table
}
