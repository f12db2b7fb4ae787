//! The outbox of changes: written in the transaction of the change itself, polled by every running gateway, which then
//! forgets what it cached of that tenant.

use entity::change_log;
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::{Store, StoreError, Tx, rows};
use crate::domain::{TenantId, Timestamp};

/// How many changes one poll reads.
pub const CHANGES_AT_ONCE: u64 = 500;
/// Any number that nobody else in the database locks ("KSchange").
const APPEND_LOCK: i64 = 0x4b53_6368_616e_6765;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Ascending, with gaps.
    pub seq: i64,
    /// Whose caches are stale; `None` means everybody's.
    pub tenant: Option<TenantId>,
}

/// Tells running gateways that `subject` (`virtual_key`, `provider_key`, `alias`, `tenant`, `price`) has changed. Answers
/// the number of the notice.
pub async fn append(
    tx: &Tx,
    tenant: Option<TenantId>,
    subject: &'static str,
    at: Timestamp,
) -> Result<i64, StoreError> {
    if tx.get_database_backend() == DbBackend::Postgres {
        // Postgres hands out numbers before it commits: without the lock a poller could pass 8 while 7 is still
        // under way, and never see 7.
        tx.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({APPEND_LOCK})")).await?;
    }
    let row = change_log::ActiveModel {
        seq: NotSet,
        tenant_id: Set(tenant.map(|tenant| tenant.to_string())),
        subject: Set(subject.into()),
        at: Set(at.millis()),
    };
    Ok(change_log::Entity::insert(row).exec(tx).await?.last_insert_id)
}

impl Store {
    /// The changes after `seq`, oldest first, at most [`CHANGES_AT_ONCE`].
    pub async fn changes_after(&self, seq: i64) -> Result<Vec<Change>, StoreError> {
        let found: Vec<(i64, Option<String>)> = change_log::Entity::find()
            .select_only()
            .columns([change_log::Column::Seq, change_log::Column::TenantId])
            .filter(change_log::Column::Seq.gt(seq))
            .order_by_asc(change_log::Column::Seq)
            .limit(CHANGES_AT_ONCE)
            .into_tuple()
            .all(self.reader())
            .await?;
        found
            .into_iter()
            .map(|(seq, tenant)| {
                let tenant = tenant.map(|text| rows::id("change_log", &text)).transpose()?;
                Ok(Change { seq, tenant })
            })
            .collect()
    }

    /// The number of the newest change; 0 when there is none. Read it before what is cached, not after.
    pub async fn last_change(&self) -> Result<i64, StoreError> {
        let newest: Option<i64> = change_log::Entity::find()
            .select_only()
            .column(change_log::Column::Seq)
            .order_by_desc(change_log::Column::Seq)
            .into_tuple()
            .one(self.reader())
            .await?;
        Ok(newest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[tokio::test]
    async fn a_poller_sees_each_change_once_and_in_order() {
        let db = testing::store().await;
        let tenant = TenantId::generate();
        let at = Timestamp::from_millis(1);
        assert_eq!(db.last_change().await.expect("a number"), 0);
        db.write(async |tx: &Tx| {
            append(tx, Some(tenant), "virtual_key", at).await?;
            append(tx, None, "price", at).await
        })
        .await
        .expect("written");
        let changes = db.changes_after(0).await.expect("changes");
        assert_eq!(changes.iter().map(|change| change.tenant).collect::<Vec<_>>(), [Some(tenant), None]);
        let last = db.last_change().await.expect("a number");
        assert_eq!(last, changes[1].seq);
        assert_eq!(db.changes_after(last).await.expect("changes"), []);
    }

    #[tokio::test]
    async fn a_change_that_was_rolled_back_was_never_told() {
        let db = testing::store().await;
        let refused: Result<(), _> = db
            .write(async |tx: &Tx| {
                append(tx, None, "price", Timestamp::from_millis(1)).await?;
                Err(StoreError::Conflict)
            })
            .await;
        assert!(matches!(refused, Err(StoreError::Conflict)));
        assert_eq!(db.last_change().await.expect("a number"), 0);
    }
}
