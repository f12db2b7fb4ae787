//! `keystile keys …`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{Control, MadeKey, NewVirtualKey, Patch, RotateKey, VirtualKeyView},
    domain::{Actor, CapMode, SpendWindow},
    store::Page,
};

#[derive(Subcommand)]
pub(super) enum Keys {
    /// List them with their limits and what is spent.
    List {
        /// Of which tenant; all tenants' when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make one. The key is printed this once.
    Create(Create),
    /// Give one a new secret, printed this once; id and budget stay.
    Rotate {
        /// `vk_…`
        id: String,
        /// How long the old secret still works, in seconds.
        #[arg(long, value_name = "SECONDS")]
        grace: Option<i64>,
    },
    /// End one for good.
    Revoke {
        /// `vk_…`
        id: String,
    },
    /// End one for good and hide it; its usage stays.
    Delete {
        /// `vk_…`
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// Name for people.
    name: String,
    /// Models it may call, joined by commas: `provider/model`, `provider/*`; all when left out.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Most money it may spend, in micro-USD.
    #[arg(long, value_name = "MICRO_USD")]
    cap: Option<i64>,
    /// `total`, `daily`, `weekly` or `monthly`.
    #[arg(long, requires = "cap", value_parser = window)]
    window: Option<SpendWindow>,
    /// Admit while anything is left, instead of reserving the worst case.
    #[arg(long, requires = "cap")]
    soft: bool,
    /// Requests a minute.
    #[arg(long)]
    rpm: Option<i64>,
    /// Tokens a minute.
    #[arg(long)]
    tpm: Option<i64>,
    /// Requests at the same time.
    #[arg(long)]
    max_parallel: Option<i64>,
    /// Models tried in order after the requested one, joined by commas.
    #[arg(long, value_delimiter = ',')]
    fallback: Option<Vec<String>>,
    /// Budgets it joins, `bud_…`, joined by commas.
    #[arg(long, value_name = "BUDGET", value_delimiter = ',')]
    budget: Option<Vec<String>>,
    /// Days until it stops working.
    #[arg(long, value_name = "DAYS")]
    expires_in: Option<i64>,
    /// For which tenant; `default` when left out.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

pub(super) fn window(text: &str) -> Result<SpendWindow, String> {
    let known = SpendWindow::ALL.into_iter().find(|window| window.as_str() == text);
    known.ok_or_else(|| "is no window; use `total`, `daily`, `weekly` or `monthly`".into())
}

fn set<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Keep, Patch::Set)
}

impl Keys {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let control = open::control(shared).await?;
        match self {
            Self::List { tenant, json } => {
                let keys = all(&control, tenant.as_deref()).await?;
                if json { output::json(&keys)? } else { table(&keys).print()? }
            }
            Self::Create(create) => {
                let asked = NewVirtualKey {
                    name: create.name,
                    tenant_id: create.tenant,
                    models_allowed: set(create.models),
                    spend_cap_micro_usd: set(create.cap),
                    spend_window: set(create.window),
                    cap_mode: if create.soft { Patch::Set(CapMode::Soft) } else { Patch::Keep },
                    rate_limit_rpm: set(create.rpm),
                    rate_limit_tpm: set(create.tpm),
                    max_parallel: set(create.max_parallel),
                    fallback_models: create.fallback,
                    budgets: create.budget,
                    expires_in_days: create.expires_in,
                    ..NewVirtualKey::default()
                };
                print_once(control.virtual_key_create(&Actor::Cli, asked, None).await?)?;
            }
            Self::Rotate { id, grace } => {
                let asked = RotateKey { grace_seconds: grace };
                print_once(control.virtual_key_rotate(&Actor::Cli, &id, asked).await?)?;
            }
            Self::Revoke { id } => {
                control.virtual_key_revoke(&Actor::Cli, &id).await?;
            }
            Self::Delete { id } => control.virtual_key_delete(&Actor::Cli, &id).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(control: &Control, tenant: Option<&str>) -> anyhow::Result<Vec<VirtualKeyView>> {
    let (mut keys, mut page) = (Vec::new(), Page::first(500));
    loop {
        let mut found = control.virtual_keys(&Actor::Cli, tenant, &page).await?;
        keys.append(&mut found.items);
        match found.next_cursor.and_then(|cursor| Page::parse(Some(500), Some(&cursor))) {
            Some(next) => page = next,
            None => return Ok(keys),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a new key is printed once, for whoever made it")]
fn print_once(made: MadeKey) -> anyhow::Result<()> {
    output::note(format_args!("{} (the key is shown this once)", made.view.id));
    match made.plaintext {
        Some(key) => output::line(key.expose_secret()),
        None => Ok(()),
    }
}

fn table(keys: &[VirtualKeyView]) -> Table {
    let mut table = Table::new([
        "ID",
        "TENANT",
        "NAME",
        "STATE",
        "CAP µUSD",
        "WINDOW",
        "SPENT µUSD",
        "LEFT µUSD",
        "MODELS",
        "EXPIRES",
    ]);
    for key in keys {
        let limits = &key.limits;
        table.row([
            key.id.to_string(),
            key.tenant_id.to_string(),
            key.name.clone(),
            format!("{:?}", key.state).to_lowercase(),
            or_dash(limits.spend_cap_micro_usd),
            limits.spend_window.as_str().into(),
            limits.spent_micro_usd.to_string(),
            or_dash(limits.remaining_micro_usd),
            limits.models_allowed.as_ref().map_or_else(|| "*".into(), |models| models.join(",")),
            or_dash(key.expires_at),
        ]);
    }
    table
}
