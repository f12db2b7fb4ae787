//! Budgets: caps that several virtual keys share. A key joins by naming them in its `budgets`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, Patch,
    act::{Act, permit, scope_of},
    checks,
    error::OrMissing,
    limits::left,
};
use crate::{
    domain::{
        Actor, AuditAction, BudgetId, CapMode, NanoUsd, Permission, SpendWindow, TenantId, Timestamp, Zone,
    },
    store::{
        Budget, Page, Paged, TenantScope, budget_count_joins, budget_delete, budget_find, budget_find_named,
        budget_insert, budget_update,
    },
};

const CAP: &str = "cap_micro_usd";

/// A budget to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBudget {
    /// Unique name.
    pub name: String,
    /// Cap in micro-USD. `null` is unlimited, 0 blocks everything; it must be said which.
    #[schema(required = true, minimum = 0)]
    #[serde(deserialize_with = "Option::deserialize")]
    pub cap_micro_usd: Option<i64>,
    /// Span of time of the cap: `total`, `daily`, `weekly`, `monthly`; on the tenant's calendar.
    #[schema(value_type = String)]
    pub window: SpendWindow,
    /// `hard` (default) never lets settled spend exceed the cap; `soft` admits while anything is left.
    #[schema(value_type = Option<String>)]
    pub cap_mode: Option<CapMode>,
    /// For which tenant; one's own, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in a budget: what is left out stays, `null` clears.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetChange {
    /// New name.
    #[schema(value_type = String)]
    #[serde(default)]
    pub name: Patch<String>,
    /// Cap in micro-USD. `null` is unlimited, 0 blocks everything.
    #[schema(value_type = Option<i64>, minimum = 0)]
    #[serde(default)]
    pub cap_micro_usd: Patch<i64>,
    /// Span of time of the cap: `total`, `daily`, `weekly`, `monthly`; on the tenant's calendar.
    #[schema(value_type = String)]
    #[serde(default)]
    pub window: Patch<SpendWindow>,
    /// `hard` or `soft`; `null` is `hard`.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub cap_mode: Patch<CapMode>,
}

/// A budget and where it stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BudgetView {
    /// `bud_…`.
    #[schema(value_type = String)]
    pub id: BudgetId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// Cap; `null` is unlimited.
    pub cap_micro_usd: Option<i64>,
    /// Span of time of the cap.
    #[schema(value_type = String)]
    pub window: SpendWindow,
    /// How strictly the cap holds.
    #[schema(value_type = String)]
    pub cap_mode: CapMode,
    /// Settled in the present window, rounded up.
    pub spent_micro_usd: i64,
    /// Held by requests under way, rounded up.
    pub reserved_micro_usd: i64,
    /// What is left, rounded down; `null` without a cap.
    pub remaining_micro_usd: Option<i64>,
    /// When the window ends; `null` for `total`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub window_resets_at: Option<Timestamp>,
    /// Leased to gateways that are silent, all windows together, rounded up: at most so much may have been spent beyond
    /// what is known. 0 when there is none.
    pub unreconciled_micro_usd: i64,
    /// How many virtual keys have joined it; deleted ones do not count.
    pub virtual_keys: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl Control {
    /// Makes a budget.
    pub async fn budget_create(
        &self,
        actor: &Actor,
        asked: NewBudget,
        idempotency: Option<&Idempotency>,
    ) -> Result<BudgetView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let name = checks::name("name", &asked.name)?;
        let amount = asked.cap_micro_usd.map(|micro| checks::cap(CAP, micro)).transpose()?;
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.budget(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        refuse_taken(&act, tenant_id, &name, None).await?;
        let budget = Budget {
            id: BudgetId::generate(),
            tenant_id,
            name,
            amount,
            window: asked.window,
            mode: asked.cap_mode.unwrap_or_default(),
            created_at: act.at(),
            updated_at: act.at(),
        };
        budget_insert(act.tx(), &budget).await?;
        act.remember(actor, idempotency, budget.id).await?;
        act.changed(Some(tenant_id), "budget");
        let event = act.event(AuditAction::BudgetCreated, Some(tenant_id), budget.id);
        act.commit(event.with("name", &budget.name)).await?;
        self.view_budget(budget).await
    }

    /// Budgets that the actor may see, oldest first.
    pub async fn budgets(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<BudgetView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        let found = self.store.budgets(scope, page).await.or_bad_cursor()?;
        Ok(Paged { items: self.view_budgets(found.items).await?, next_cursor: found.next_cursor })
    }

    /// One budget.
    pub async fn budget(&self, actor: &Actor, id: &str) -> Result<BudgetView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        self.view_budget(self.store.budget(scope_of(actor), budget_id(id)?).await.or_missing("budget")?).await
    }

    /// Changes a budget. What was spent stays spent: another window shows what was spent in that one.
    pub async fn budget_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: BudgetChange,
    ) -> Result<BudgetView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut budget = budget_find(act.tx(), act.scope(), budget_id(id)?).await.or_missing("budget")?;
        let all = [
            ("name", asked.name.is_keep()),
            (CAP, asked.cap_micro_usd.is_keep()),
            ("window", asked.window.is_keep()),
            ("cap_mode", asked.cap_mode.is_keep()),
        ];
        let names: Vec<_> = all.into_iter().filter(|(_, keep)| !keep).map(|(name, _)| name).collect();
        if let Some(name) = asked.name.not_null("name")? {
            let name = checks::name("name", &name)?;
            refuse_taken(&act, budget.tenant_id, &name, Some(budget.id)).await?;
            budget.name = name;
        }
        asked.cap_micro_usd.apply(&mut budget.amount, None, |micro| checks::cap(CAP, micro).map(Some))?;
        if let Some(window) = asked.window.not_null("window")? {
            budget.window = window;
        }
        asked.cap_mode.apply(&mut budget.mode, CapMode::default(), Ok)?;
        budget.updated_at = act.at();
        budget_update(act.tx(), &budget).await?;
        act.changed(Some(budget.tenant_id), "budget");
        let event = act.event(AuditAction::BudgetUpdated, Some(budget.tenant_id), budget.id);
        act.commit(event.with("changed", names.join(","))).await?;
        self.view_budget(budget).await
    }

    /// Deletes a budget that no key has joined: a key must not lose a cap unnoticed. Its counters stay.
    pub async fn budget_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let budget = budget_find(act.tx(), act.scope(), budget_id(id)?).await.or_missing("budget")?;
        match budget_count_joins(act.tx(), &budget).await? {
            0 => {}
            joined => {
                let keys =
                    if joined == 1 { "1 virtual key has" } else { &format!("{joined} virtual keys have") };
                return Err(ControlError::Conflict(format!(
                    "{keys} joined this budget; take it out of their `budgets` first, or delete them"
                )));
            }
        }
        budget_delete(act.tx(), budget.id, act.at()).await?;
        act.changed(Some(budget.tenant_id), "budget");
        let event = act.event(AuditAction::BudgetDeleted, Some(budget.tenant_id), budget.id);
        act.commit(event.with("name", &budget.name)).await
    }

    async fn view_budget(&self, budget: Budget) -> Result<BudgetView, ControlError> {
        let mut views = self.view_budgets(vec![budget]).await?;
        views.pop().ok_or(ControlError::NotFound("budget"))
    }

    async fn view_budgets(&self, budgets: Vec<Budget>) -> Result<Vec<BudgetView>, ControlError> {
        let zones = self.store.tenant_zones(budgets.iter().map(|budget| budget.tenant_id)).await?;
        let joins = self.store.budget_joins(&budgets).await?;
        let unreconciled = self.unreconciled(budgets.iter().map(|budget| budget.id.into())).await?;
        let mut views = Vec::with_capacity(budgets.len());
        for budget in budgets {
            let zone = zones.get(&budget.tenant_id).copied().unwrap_or_default();
            let joined = joins.get(&budget.id).copied().unwrap_or_default();
            let unreconciled = unreconciled.get(&budget.id.into()).copied().unwrap_or_default();
            views.push(self.show_budget(budget, zone, joined, unreconciled).await?);
        }
        Ok(views)
    }

    async fn show_budget(
        &self,
        budget: Budget,
        zone: Zone,
        joined: u64,
        unreconciled: NanoUsd,
    ) -> Result<BudgetView, ControlError> {
        let standing = self.standing(budget.id.into(), budget.window, zone).await?;
        Ok(BudgetView {
            id: budget.id,
            tenant_id: budget.tenant_id,
            name: budget.name,
            cap_micro_usd: budget.amount.map(NanoUsd::micro_rounded_down),
            window: budget.window,
            cap_mode: budget.mode,
            spent_micro_usd: standing.settled.micro_rounded_up(),
            reserved_micro_usd: standing.reserved.micro_rounded_up(),
            remaining_micro_usd: budget.amount.map(|cap| left(&standing, cap).micro_rounded_down()),
            window_resets_at: budget.window.resets_at(self.clock.now(), zone),
            unreconciled_micro_usd: unreconciled.micro_rounded_up(),
            virtual_keys: joined,
            created_at: budget.created_at,
            updated_at: budget.updated_at,
        })
    }
}

impl Act<'_> {
    /// The budgets that a key of `tenant` is to join; each must be the tenant's own.
    pub(super) async fn budgets(
        &self,
        tenant: TenantId,
        texts: &[String],
    ) -> Result<Vec<BudgetId>, ControlError> {
        let budgets = checks::budgets(texts)?;
        for budget in &budgets {
            budget_find(self.tx(), TenantScope::only(tenant), *budget).await.or_missing("budget")?;
        }
        Ok(budgets)
    }
}

fn budget_id(text: &str) -> Result<BudgetId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("budget"))
}

async fn refuse_taken(
    act: &Act<'_>,
    tenant: TenantId,
    name: &str,
    except: Option<BudgetId>,
) -> Result<(), ControlError> {
    match budget_find_named(act.tx(), tenant, name).await? {
        Some(other) if Some(other.id) != except => {
            Err(ControlError::Conflict(format!("a budget named `{name}` exists already")))
        }
        _ => Ok(()),
    }
}
