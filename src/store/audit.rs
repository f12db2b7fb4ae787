//! The audit chain's rows: one head that every append locks, and entries that are never changed. What is MACed, and
//! with which key, is `control`'s business.

use entity::{audit_entry as entry, audit_head as head};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Set,
    sea_query::{Expr, OnConflict},
};

use super::{Page, Paged, Store, StoreError, TenantScope, Tx, columns::moment, rows};
use crate::domain::{AuditId, RequestId, TenantId, Timestamp};

const HEAD: i32 = 1;
const TABLE: &str = "audit_entry";

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedEntry {
    /// 1, 2, 3 … without a gap.
    pub seq: i64,
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: String,
    /// In which tenant.
    pub tenant_id: Option<TenantId>,
    /// Family of the act.
    pub category: String,
    /// The act.
    pub action: String,
    /// On what.
    pub object: Option<String>,
    /// `success`, `refused` or `failure`.
    pub outcome: String,
    /// In which request on the admin plane.
    pub request_id: Option<RequestId>,
    /// The exact bytes that were MACed.
    pub canonical: String,
    /// 64 hex digits.
    pub mac: String,
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// Of the last entry; 0 before the first.
    pub seq: i64,
    /// Of the last entry; empty before the first.
    pub mac: String,
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only this act.
    pub action: Option<String>,
    /// Only this family.
    pub category: Option<String>,
    /// Only by this actor.
    pub actor: Option<String>,
}

impl Store {
    /// Entries, newest first.
    pub async fn audit_entries(
        &self,
        scope: TenantScope,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<ChainedEntry>, StoreError> {
        let after = match page.after() {
            Some(text) => Some(text.parse().ok().filter(|seq: &i64| *seq > 0).ok_or(StoreError::NotFound)?),
            None => None,
        };
        let rows = entry::Entity::find()
            .apply_if(scope.column(), |query, tenant| query.filter(entry::Column::TenantId.eq(tenant)))
            .apply_if(filter.action.as_ref(), |query, value| query.filter(entry::Column::Action.eq(value)))
            .apply_if(filter.category.as_ref(), |query, value| {
                query.filter(entry::Column::Category.eq(value))
            })
            .apply_if(filter.actor.as_ref(), |query, value| query.filter(entry::Column::Actor.eq(value)))
            .apply_if(after, |query, after| query.filter(entry::Column::Seq.lt(after)))
            .order_by_desc(entry::Column::Seq)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let entries = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(entries, |entry: &ChainedEntry| entry.seq.to_string()))
    }

    /// The entries that follow `seq`, oldest first, as they stand: for verification.
    pub async fn audit_entries_after(&self, seq: i64, limit: u64) -> Result<Vec<RawEntry>, StoreError> {
        let rows = entry::Entity::find()
            .filter(entry::Column::Seq.gt(seq))
            .order_by_asc(entry::Column::Seq)
            .limit(limit)
            .all(self.reader())
            .await?;
        Ok(rows.into_iter().map(RawEntry).collect())
    }

    /// Where the chain says it ends.
    pub async fn audit_head(&self) -> Result<ChainHead, StoreError> {
        let row = head::Entity::find_by_id(HEAD).one(self.reader()).await?;
        Ok(row
            .map_or(ChainHead { seq: 0, mac: String::new() }, |row| ChainHead { seq: row.seq, mac: row.mac }))
    }
}

/// An entry exactly as its row says, believable or not.
#[derive(Clone, Debug)]
pub struct RawEntry(entry::Model);

impl RawEntry {
    /// Its place.
    pub fn seq(&self) -> i64 {
        self.0.seq
    }

    /// The bytes that were MACed.
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// Its MAC.
    pub fn mac(&self) -> &str {
        &self.0.mac
    }

    /// The columns that repeat what the canonical bytes say: id, time, actor, tenant, category, action, object,
    /// outcome, request.
    pub fn columns(&self) -> (&str, i64, &str, Option<&str>, &str, &str, Option<&str>, &str, Option<&str>) {
        let row = &self.0;
        (
            &row.id,
            row.at,
            &row.actor,
            row.tenant_id.as_deref(),
            &row.category,
            &row.action,
            row.object.as_deref(),
            &row.outcome,
            row.request_id.as_deref(),
        )
    }
}

/// Locks the end of the chain until the transaction ends, and says where it is. Two writers wait for each other here. An
/// end that is not the last entry's is not appended to: the chain would go on from something nobody wrote.
pub async fn audit_lock(tx: &Tx) -> Result<ChainHead, StoreError> {
    head::Entity::insert(head::ActiveModel { id: Set(HEAD), seq: Set(0), mac: Set(String::new()) })
        .on_conflict(OnConflict::column(head::Column::Id).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    // An update that changes nothing takes the row's lock on both databases.
    head::Entity::update_many()
        .col_expr(head::Column::Id, Expr::value(HEAD))
        .filter(head::Column::Id.eq(HEAD))
        .exec(tx)
        .await?;
    let row = head::Entity::find_by_id(HEAD).one(tx).await?;
    let row = row.ok_or(StoreError::Corrupt { table: "audit_head", what: "id" })?;
    let last = entry::Entity::find_by_id(row.seq).one(tx).await?;
    if last.is_some_and(|last| last.mac != row.mac) {
        let what = "its MAC is not the last entry's; see `keystile audit verify`";
        return Err(StoreError::Corrupt { table: "audit_head", what });
    }
    Ok(ChainHead { seq: row.seq, mac: row.mac })
}

/// Appends an entry and moves the head to it; the head must be locked.
pub async fn audit_append(tx: &Tx, link: &ChainedEntry) -> Result<(), StoreError> {
    let row = entry::ActiveModel {
        seq: Set(link.seq),
        id: Set(link.id.to_string()),
        at: Set(link.at.millis()),
        actor: Set(link.actor.clone()),
        tenant_id: Set(link.tenant_id.map(|tenant| tenant.to_string())),
        category: Set(link.category.clone()),
        action: Set(link.action.clone()),
        object: Set(link.object.clone()),
        outcome: Set(link.outcome.clone()),
        request_id: Set(link.request_id.map(|request| request.to_string())),
        canonical: Set(link.canonical.clone()),
        mac: Set(link.mac.clone()),
    };
    row.insert(tx).await?;
    let moved = head::ActiveModel { id: Set(HEAD), seq: Set(link.seq), mac: Set(link.mac.clone()) };
    moved.update(tx).await?;
    Ok(())
}

fn read(row: entry::Model) -> Result<ChainedEntry, StoreError> {
    Ok(ChainedEntry {
        seq: row.seq,
        id: rows::id(TABLE, &row.id)?,
        at: moment(row.at),
        actor: row.actor,
        tenant_id: row.tenant_id.map(|tenant| rows::id(TABLE, &tenant)).transpose()?,
        category: row.category,
        action: row.action,
        object: row.object,
        outcome: row.outcome,
        request_id: row.request_id.map(|request| rows::id(TABLE, &request)).transpose()?,
        canonical: row.canonical,
        mac: row.mac,
    })
}

#[cfg(test)]
impl Store {
    /// Runs a statement that no code of ours would: what somebody with the database in hand could do.
    pub(crate) async fn tamper(&self, sql: &str) {
        use sea_orm::ConnectionTrait;
        let tx = self.begin().await.expect("a transaction");
        tx.execute_unprepared(sql).await.expect("a statement");
        tx.commit().await.expect("a commit");
    }
}
