//! `keystile service-tokens …`

use std::process::ExitCode;

use clap::Subcommand;

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{
        Control, MadeServiceToken, NewServiceToken, Patch, RotateKey, ServiceTokenChange, ServiceTokenView,
    },
    domain::Actor,
    store::Page,
};

#[derive(Subcommand)]
pub(super) enum ServiceTokens {
    /// List them.
    List {
        /// Of which tenant; all tenants' when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make one. The token is printed this once.
    Create {
        /// Which service will hold it.
        service_name: String,
        /// Whose keys it fetches; `default` when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Switch one off; it can be switched on again.
    Deactivate {
        /// `st_…`
        id: String,
    },
    /// Switch one on again.
    Activate {
        /// `st_…`
        id: String,
    },
    /// Give one a new secret, printed this once; the id stays.
    Rotate {
        /// `st_…`
        id: String,
        /// How long the old secret still works, in seconds.
        #[arg(long, value_name = "SECONDS")]
        grace: Option<i64>,
    },
    /// Delete one.
    Delete {
        /// `st_…`
        id: String,
    },
}

impl ServiceTokens {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let control = open::control(shared).await?;
        match self {
            Self::List { tenant, json } => {
                let tokens = all(&control, tenant.as_deref()).await?;
                if json { output::json(&tokens)? } else { table(&tokens).print()? }
            }
            Self::Create { service_name, tenant } => {
                let asked = NewServiceToken { service_name, tenant_id: tenant };
                print_once(control.service_token_create(&Actor::Cli, asked, None).await?)?;
            }
            Self::Deactivate { id } => switch(&control, &id, false).await?,
            Self::Activate { id } => switch(&control, &id, true).await?,
            Self::Rotate { id, grace } => {
                let asked = RotateKey { grace_seconds: grace };
                print_once(control.service_token_rotate(&Actor::Cli, &id, asked).await?)?;
            }
            Self::Delete { id } => control.service_token_delete(&Actor::Cli, &id).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn switch(control: &Control, id: &str, is_active: bool) -> anyhow::Result<()> {
    control
        .service_token_change(&Actor::Cli, id, ServiceTokenChange { is_active: Patch::Set(is_active) })
        .await?;
    Ok(())
}

async fn all(control: &Control, tenant: Option<&str>) -> anyhow::Result<Vec<ServiceTokenView>> {
    let (mut tokens, mut page) = (Vec::new(), Page::first(500));
    loop {
        let mut found = control.service_tokens(&Actor::Cli, tenant, &page).await?;
        tokens.append(&mut found.items);
        match found.next_cursor.and_then(|cursor| Page::parse(Some(500), Some(&cursor))) {
            Some(next) => page = next,
            None => return Ok(tokens),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a new service token is printed once, for whoever made it")]
fn print_once(made: MadeServiceToken) -> anyhow::Result<()> {
    output::note(format_args!("{} (the token is shown this once)", made.view.id));
    match made.plaintext {
        Some(token) => output::line(token.expose_secret()),
        None => Ok(()),
    }
}

fn table(tokens: &[ServiceTokenView]) -> Table {
    let mut table = Table::new(["ID", "TENANT", "SERVICE", "ACTIVE", "TOKEN", "LAST USED", "CREATED"]);
    for token in tokens {
        table.row([
            token.id.to_string(),
            token.tenant_id.to_string(),
            token.service_name.clone(),
            token.is_active.to_string(),
            or_dash(token.token_prefix.as_ref()),
            or_dash(token.last_used_at),
            token.created_at.to_string(),
        ]);
    }
    table
}
