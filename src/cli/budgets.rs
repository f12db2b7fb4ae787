//! `keystile budgets …`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    Shared, keys, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{BudgetView, Control, NewBudget},
    domain::{Actor, CapMode, SpendWindow},
    store::Page,
};

#[derive(Subcommand)]
pub(super) enum Budgets {
    /// List them with what is spent and how many keys have joined.
    List {
        /// Of which tenant; all tenants' when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make one; its id is printed, for `keys create --budget`.
    Create(Create),
    /// Delete one that no key has joined.
    Delete {
        /// `bud_…`
        id: String,
    },
}

#[derive(Args)]
pub(super) struct Create {
    /// Name, unique in its tenant.
    name: String,
    /// Most money its keys may spend together, in micro-USD; unlimited when left out.
    #[arg(long, value_name = "MICRO_USD")]
    cap: Option<i64>,
    /// `total`, `daily`, `weekly` or `monthly`, on the tenant's calendar.
    #[arg(long, default_value = "total", value_parser = keys::window)]
    window: SpendWindow,
    /// Admit while anything is left, instead of reserving the worst case.
    #[arg(long, requires = "cap")]
    soft: bool,
    /// For which tenant; `default` when left out.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

impl Budgets {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let control = open::control(shared).await?;
        match self {
            Self::List { tenant, json } => {
                let budgets = all(&control, tenant.as_deref()).await?;
                if json { output::json(&budgets)? } else { table(&budgets).print()? }
            }
            Self::Create(create) => {
                let asked = NewBudget {
                    name: create.name,
                    cap_micro_usd: create.cap,
                    window: create.window,
                    cap_mode: create.soft.then_some(CapMode::Soft),
                    tenant_id: create.tenant,
                };
                output::line(control.budget_create(&Actor::Cli, asked, None).await?.id)?;
            }
            Self::Delete { id } => control.budget_delete(&Actor::Cli, &id).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn all(control: &Control, tenant: Option<&str>) -> anyhow::Result<Vec<BudgetView>> {
    let (mut budgets, mut page) = (Vec::new(), Page::first(500));
    loop {
        let mut found = control.budgets(&Actor::Cli, tenant, &page).await?;
        budgets.append(&mut found.items);
        match found.next_cursor.and_then(|cursor| Page::parse(Some(500), Some(&cursor))) {
            Some(next) => page = next,
            None => return Ok(budgets),
        }
    }
}

fn table(budgets: &[BudgetView]) -> Table {
    let mut table = Table::new([
        "ID",
        "TENANT",
        "NAME",
        "CAP µUSD",
        "WINDOW",
        "SPENT µUSD",
        "LEFT µUSD",
        "KEYS",
        "RESETS",
    ]);
    for budget in budgets {
        table.row([
            budget.id.to_string(),
            budget.tenant_id.to_string(),
            budget.name.clone(),
            or_dash(budget.cap_micro_usd),
            budget.window.as_str().into(),
            budget.spent_micro_usd.to_string(),
            or_dash(budget.remaining_micro_usd),
            budget.virtual_keys.to_string(),
            or_dash(budget.window_resets_at),
        ]);
    }
    table
}
