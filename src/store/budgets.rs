//! Budgets: rows to values and back. A deleted budget is out of sight; its row and its counters stay.

use std::collections::{BTreeSet, HashMap};

use entity::{
    budget::{ActiveModel, Column, Entity, Model},
    virtual_key,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Set,
};

use super::{
    Page, Paged, Store, StoreError, TenantScope, Tx,
    columns::{maybe, moment},
    rows,
    tenants::is_alive,
};
use crate::domain::{BudgetId, CapMode, NanoUsd, SpendCap, SpendWindow, TenantId, Timestamp};

const TABLE: &str = "budget";

/// A cap that several virtual keys share. Window and mode are kept also while no cap is set.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Which.
    pub id: BudgetId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Unique among the tenant's budgets that are not deleted.
    pub name: String,
    /// Most that may be spent; `None` is unlimited.
    pub amount: Option<NanoUsd>,
    /// Span of time of the cap.
    pub window: SpendWindow,
    /// How strictly the cap holds.
    pub mode: CapMode,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Budget {
    /// The cap, if one is set.
    pub fn cap(&self) -> Option<SpendCap> {
        self.amount.map(|amount| SpendCap { amount, window: self.window, mode: self.mode })
    }
}

impl Store {
    /// One budget.
    pub async fn budget(&self, scope: TenantScope, budget: BudgetId) -> Result<Budget, StoreError> {
        find(self.reader(), scope, budget).await
    }

    /// Budgets, oldest first.
    pub async fn budgets(&self, scope: TenantScope, page: &Page) -> Result<Paged<Budget>, StoreError> {
        let rows = Entity::find()
            .filter(is_alive(Column::TenantId))
            .filter(Column::DeletedAt.is_null())
            .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
            .apply_if(page.after_id::<BudgetId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let budgets = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(budgets, |budget: &Budget| budget.id.to_string()))
    }

    /// How many keys that are not deleted have joined each of `budgets`; one that none has joined is not among them.
    pub async fn budget_joins(&self, budgets: &[Budget]) -> Result<HashMap<BudgetId, u64>, StoreError> {
        let tenants: BTreeSet<String> = budgets.iter().map(|budget| budget.tenant_id.to_string()).collect();
        let only = match budgets {
            [one] => Some(one.id),
            _ => None,
        };
        let lists: Vec<String> = virtual_key::Entity::find()
            .select_only()
            .column(virtual_key::Column::Budgets)
            .filter(virtual_key::Column::TenantId.is_in(tenants))
            .filter(virtual_key::Column::DeletedAt.is_null())
            .filter(virtual_key::Column::Budgets.ne("[]"))
            .apply_if(only, |query, id| query.filter(virtual_key::Column::Budgets.contains(id.to_string())))
            .into_tuple()
            .all(self.reader())
            .await?;
        let mut joins = HashMap::new();
        for list in lists {
            for budget in rows::budgets(&list)? {
                *joins.entry(budget).or_default() += 1;
            }
        }
        Ok(joins)
    }
}

/// One budget, inside a transaction.
pub async fn budget_find(tx: &Tx, scope: TenantScope, budget: BudgetId) -> Result<Budget, StoreError> {
    find(tx, scope, budget).await
}

/// The tenant's budget of that name, if there is one, inside a transaction.
pub async fn budget_find_named(tx: &Tx, tenant: TenantId, name: &str) -> Result<Option<Budget>, StoreError> {
    Entity::find()
        .filter(Column::TenantId.eq(tenant.to_string()))
        .filter(Column::Name.eq(name))
        .filter(Column::DeletedAt.is_null())
        .one(tx)
        .await?
        .map(read)
        .transpose()
}

/// How many keys that are not deleted have joined a budget, inside a transaction.
pub async fn budget_count_joins(tx: &Tx, budget: &Budget) -> Result<u64, StoreError> {
    // `LIKE` takes the `_` of an id for any one character; all ids have theirs in the same place.
    let joined = virtual_key::Entity::find()
        .filter(virtual_key::Column::TenantId.eq(budget.tenant_id.to_string()))
        .filter(virtual_key::Column::DeletedAt.is_null())
        .filter(virtual_key::Column::Budgets.contains(budget.id.to_string()));
    Ok(joined.count(tx).await?)
}

/// Adds a budget.
pub async fn budget_insert(tx: &Tx, budget: &Budget) -> Result<(), StoreError> {
    let row = ActiveModel { deleted_at: Set(None), ..changed(budget) };
    row.insert(tx).await?;
    Ok(())
}

/// Writes all of a budget.
pub async fn budget_update(tx: &Tx, budget: &Budget) -> Result<(), StoreError> {
    changed(budget).update(tx).await?;
    Ok(())
}

/// Puts a budget out of sight.
pub async fn budget_delete(tx: &Tx, budget: BudgetId, at: Timestamp) -> Result<(), StoreError> {
    let row = ActiveModel { id: Set(budget.to_string()), deleted_at: maybe(Some(at)), ..Default::default() };
    row.update(tx).await?;
    Ok(())
}

async fn find(db: &impl ConnectionTrait, scope: TenantScope, budget: BudgetId) -> Result<Budget, StoreError> {
    let row = Entity::find_by_id(budget.to_string())
        .filter(is_alive(Column::TenantId))
        .filter(Column::DeletedAt.is_null())
        .apply_if(scope.column(), |query, tenant| query.filter(Column::TenantId.eq(tenant)))
        .one(db)
        .await?;
    read(row.ok_or(StoreError::NotFound)?)
}

pub(super) fn read(row: Model) -> Result<Budget, StoreError> {
    let corrupt = |what| StoreError::Corrupt { table: TABLE, what };
    Ok(Budget {
        id: rows::id(TABLE, &row.id)?,
        tenant_id: rows::id(TABLE, &row.tenant_id)?,
        name: row.name,
        amount: row.cap_nano_usd.map(NanoUsd::new),
        window: rows::spend_window(&row.window).ok_or(corrupt("`window` is unknown"))?,
        mode: rows::cap_mode(&row.cap_mode).ok_or(corrupt("`cap_mode` is unknown"))?,
        created_at: moment(row.created_at),
        updated_at: moment(row.updated_at),
    })
}

fn changed(budget: &Budget) -> ActiveModel {
    ActiveModel {
        id: Set(budget.id.to_string()),
        tenant_id: Set(budget.tenant_id.to_string()),
        name: Set(budget.name.clone()),
        cap_nano_usd: Set(budget.amount.map(NanoUsd::nano)),
        window: Set(budget.window.as_str().to_owned()),
        cap_mode: Set(rows::cap_mode_text(budget.mode).to_owned()),
        created_at: Set(budget.created_at.millis()),
        updated_at: Set(budget.updated_at.millis()),
        ..Default::default()
    }
}
