//! The audit chain's rows: one head that every append locks, and entries that are never changed. What is MACed, and
//! with which key, is `control`'s business.

use entity::{audit_anchor as anchor, audit_entry as entry, audit_head as head};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Set,
    sea_query::{Expr, OnConflict},
};

use super::{Page, Paged, Store, StoreError, TenantScope, Tx, columns::moment, rows};
use crate::domain::{AuditId, RequestId, TenantId, Timestamp};

const HEAD: i32 = 1;
const ANCHOR: i32 = 1;
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

impl ChainHead {
    /// Where the chain begins.
    pub const fn before_the_first() -> Self {
        Self { seq: 0, mac: String::new() }
    }
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
    /// Only those that went so.
    pub outcome: Option<String>,
    /// Only on this object.
    pub object: Option<String>,
    /// Not before this moment.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub to: Option<Timestamp>,
}

/// What stands for the oldest entries once they were pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainAnchor {
    /// Of the last entry that was pruned.
    pub seq: i64,
    /// Of the last entry that was pruned.
    pub mac: String,
    /// When.
    pub at: Timestamp,
    /// What proves that the gateway made it; which bytes and key is `control`'s business.
    pub seal: String,
}

/// Most entries that one call deletes.
const PRUNED_AT_ONCE: u64 = 500;

impl Store {
    /// Entries, newest first. Those up to `pruned` do not count any more.
    pub async fn audit_entries(
        &self,
        pruned: i64,
        scope: TenantScope,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<ChainedEntry>, StoreError> {
        let after = match page.after() {
            Some(text) => Some(text.parse().ok().filter(|seq: &i64| *seq > 0).ok_or(StoreError::NotFound)?),
            None => None,
        };
        let rows = wanted(pruned, scope, filter)
            .apply_if(after, |query, after| query.filter(entry::Column::Seq.lt(after)))
            .order_by_desc(entry::Column::Seq)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let entries = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(entries, |entry: &ChainedEntry| entry.seq.to_string()))
    }

    /// The entries after `after` and up to `through`, oldest first, at most `limit`: for exports. Those that
    /// were pruned are left out by an `after` that is not before them.
    pub async fn audit_entries_between(
        &self,
        scope: TenantScope,
        filter: &AuditFilter,
        (after, through): (i64, i64),
        limit: u64,
    ) -> Result<Vec<ChainedEntry>, StoreError> {
        let rows = wanted(after, scope, filter)
            .filter(entry::Column::Seq.lte(through))
            .order_by_asc(entry::Column::Seq)
            .limit(limit)
            .all(self.reader())
            .await?;
        rows.into_iter().map(read).collect()
    }

    /// The entries that follow `seq`, oldest first, as they stand: for verification.
    pub async fn audit_entries_after(&self, seq: i64, limit: u64) -> Result<Vec<RawEntry>, StoreError> {
        audit_entries_after(self.reader(), seq, limit).await
    }

    /// Where the chain says it ends.
    pub async fn audit_head(&self) -> Result<ChainHead, StoreError> {
        let row = head::Entity::find_by_id(HEAD).one(self.reader()).await?;
        Ok(row.map_or(ChainHead::before_the_first(), |row| ChainHead { seq: row.seq, mac: row.mac }))
    }
}

impl Store {
    /// What stands for the entries that were pruned, believable or not; `None` when none were.
    pub async fn audit_anchor(&self) -> Result<Option<ChainAnchor>, StoreError> {
        audit_anchor_find(self.reader()).await
    }

    /// Deletes some of the entries up to `through`, oldest first. Answers how many; 0 when none are left. That an anchor
    /// of the gateway's own stands for them is for the caller to know.
    pub async fn audit_delete_through(&self, through: i64) -> Result<u64, StoreError> {
        let pruned = entry::Entity::find()
            .select_only()
            .column(entry::Column::Seq)
            .filter(entry::Column::Seq.lte(through))
            .order_by_asc(entry::Column::Seq)
            .limit(PRUNED_AT_ONCE);
        let pruned: Vec<i64> = pruned.into_tuple().all(self.reader()).await?;
        if pruned.is_empty() {
            return Ok(0);
        }
        let deleted = self
            .write(async |tx: &Tx| {
                let delete = entry::Entity::delete_many().filter(entry::Column::Seq.is_in(pruned));
                Ok::<_, StoreError>(delete.exec(tx).await?)
            })
            .await?;
        Ok(deleted.rows_affected)
    }
}

/// The entries after `after` that match. Whether an anchor stands for the ones before is not asked here: only `control`
/// can tell whether the gateway made it.
fn wanted(after: i64, scope: TenantScope, filter: &AuditFilter) -> Select<entry::Entity> {
    entry::Entity::find()
        .filter(entry::Column::Seq.gt(after))
        .apply_if(scope.column(), |query, tenant| query.filter(entry::Column::TenantId.eq(tenant)))
        .apply_if(filter.action.as_ref(), |query, value| query.filter(entry::Column::Action.eq(value)))
        .apply_if(filter.category.as_ref(), |query, value| query.filter(entry::Column::Category.eq(value)))
        .apply_if(filter.actor.as_ref(), |query, value| query.filter(entry::Column::Actor.eq(value)))
        .apply_if(filter.outcome.as_ref(), |query, value| query.filter(entry::Column::Outcome.eq(value)))
        .apply_if(filter.object.as_ref(), |query, value| query.filter(entry::Column::Object.eq(value)))
        .apply_if(filter.from, |query, from| query.filter(entry::Column::At.gte(from.millis())))
        .apply_if(filter.to, |query, to| query.filter(entry::Column::At.lt(to.millis())))
}

/// What stands for the entries that were pruned, believable or not; `None` when none were.
pub async fn audit_anchor_find(db: &impl ConnectionTrait) -> Result<Option<ChainAnchor>, StoreError> {
    let row = anchor::Entity::find_by_id(ANCHOR).one(db).await?;
    Ok(row.map(|row| ChainAnchor { seq: row.seq, mac: row.mac, at: moment(row.at), seal: row.seal }))
}

/// The entries that follow `seq`, oldest first, as they stand: for verification.
pub async fn audit_entries_after(
    db: &impl ConnectionTrait,
    seq: i64,
    limit: u64,
) -> Result<Vec<RawEntry>, StoreError> {
    let rows = entry::Entity::find()
        .filter(entry::Column::Seq.gt(seq))
        .order_by_asc(entry::Column::Seq)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows.into_iter().map(RawEntry).collect())
}

/// Lets `anchor` stand for all entries up to its own; the head must be locked.
pub async fn audit_anchor_set(tx: &Tx, anchor: &ChainAnchor) -> Result<(), StoreError> {
    let row = anchor::ActiveModel {
        id: Set(ANCHOR),
        seq: Set(anchor.seq),
        mac: Set(anchor.mac.clone()),
        at: Set(anchor.at.millis()),
        seal: Set(anchor.seal.clone()),
    };
    match anchor::Entity::find_by_id(ANCHOR).one(tx).await? {
        Some(_) => row.update(tx).await?,
        None => row.insert(tx).await?,
    };
    Ok(())
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

    /// The columns that repeat what the canonical bytes say.
    pub fn columns(&self) -> AuditColumns<'_> {
        let row = &self.0;
        AuditColumns {
            id: &row.id,
            at: row.at,
            actor: &row.actor,
            tenant_id: row.tenant_id.as_deref(),
            category: &row.category,
            action: &row.action,
            object: row.object.as_deref(),
            outcome: &row.outcome,
            request_id: row.request_id.as_deref(),
        }
    }
}

/// What an entry's row says beside its canonical bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct AuditColumns<'a> {
    /// Id.
    pub id: &'a str,
    /// UTC, milliseconds since the epoch.
    pub at: i64,
    /// By whom.
    pub actor: &'a str,
    /// In which tenant.
    pub tenant_id: Option<&'a str>,
    /// Family of the act.
    pub category: &'a str,
    /// The act.
    pub action: &'a str,
    /// On what.
    pub object: Option<&'a str>,
    /// How it went.
    pub outcome: &'a str,
    /// In which request.
    pub request_id: Option<&'a str>,
}

/// Locks the end of the chain until the transaction ends, and says where it is. Two writers wait for each other here. An
/// end that is not the last entry's is not appended to: the chain would go on from something nobody wrote.
pub async fn audit_lock(tx: &Tx) -> Result<ChainHead, StoreError> {
    if !lock_head(tx).await? {
        // Only the first act of all comes here. Of two that do at once one waits for the other and inserts nothing.
        head::Entity::insert(head::ActiveModel { id: Set(HEAD), seq: Set(0), mac: Set(String::new()) })
            .on_conflict(OnConflict::column(head::Column::Id).do_nothing().to_owned())
            .exec_without_returning(tx)
            .await?;
        lock_head(tx).await?;
    }
    let row = head::Entity::find_by_id(HEAD).one(tx).await?;
    let row = row.ok_or(StoreError::Corrupt { table: "audit_head", what: "id" })?;
    let last = entry::Entity::find_by_id(row.seq).one(tx).await?;
    if last.is_some_and(|last| last.mac != row.mac) {
        let what = "its MAC is not the last entry's; see `keystile audit verify`";
        return Err(StoreError::Corrupt { table: "audit_head", what });
    }
    Ok(ChainHead { seq: row.seq, mac: row.mac })
}

/// An update that changes nothing takes the row's lock on both databases. Answers whether there is a row.
async fn lock_head(tx: &Tx) -> Result<bool, StoreError> {
    let locked = head::Entity::update_many()
        .col_expr(head::Column::Id, Expr::value(HEAD))
        .filter(head::Column::Id.eq(HEAD))
        .exec(tx)
        .await?;
    Ok(locked.rows_affected > 0)
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
    /// Runs a statement that no code of ours would: what somebody with the database in hand could do, who drops the
    /// triggers first.
    pub(crate) async fn tamper(&self, sql: &str) {
        let tx = self.begin().await.expect("a transaction");
        for (table, trigger) in migration::AUDIT_TRIGGERS {
            let drop = match tx.get_database_backend() {
                sea_orm::DbBackend::Postgres => format!("DROP TRIGGER IF EXISTS {trigger} ON {table}"),
                _ => format!("DROP TRIGGER IF EXISTS {trigger}"),
            };
            tx.execute_unprepared(&drop).await.expect("dropped");
        }
        tx.execute_unprepared(sql).await.expect("a statement");
        tx.commit().await.expect("a commit");
    }

    /// Whether the database takes a statement from somebody who has the gateway's own access and no more.
    pub(crate) async fn takes(&self, sql: &str) -> bool {
        let tx = self.begin().await.expect("a transaction");
        let taken = tx.execute_unprepared(sql).await.is_ok();
        // Dropped, and so rolled back.
        drop(tx);
        taken
    }

    /// All entries as they stand, oldest first.
    pub(crate) async fn audit_rows(&self) -> Vec<entry::Model> {
        let rows = entry::Entity::find().order_by_asc(entry::Column::Seq);
        rows.all(self.reader()).await.expect("rows")
    }

    /// These entries in place of all others; the triggers must be gone.
    pub(crate) async fn audit_put(&self, rows: Vec<entry::Model>) {
        use sea_orm::IntoActiveModel;
        let tx = self.begin().await.expect("a transaction");
        entry::Entity::delete_many().exec(&tx).await.expect("deleted");
        if !rows.is_empty() {
            let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
            entry::Entity::insert_many(rows).exec_without_returning(&tx).await.expect("inserted");
        }
        tx.commit().await.expect("a commit");
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.reader().get_database_backend() == sea_orm::DbBackend::Postgres
    }
}
