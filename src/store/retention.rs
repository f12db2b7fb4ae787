//! What is deleted for its age, a little at a time so that nobody waits long for SQLite's one writer. Spend counters and
//! the sums by day are never deleted.

use entity::{change_log, usage_pruned, usage_record};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, OnConflict},
};

use super::{Store, StoreError, Tx, rollup::DAY_MILLIS};
use crate::domain::Timestamp;

/// Most rows that one call deletes.
const PRUNED_AT_ONCE: u64 = 500;

impl Store {
    /// Deletes some usage rows of requests that started before the UTC day of `moment`, oldest first, and notes in the same
    /// transaction how far rows may be gone. Answers how many; 0 when none are left.
    pub async fn prune_usage(&self, moment: Timestamp) -> Result<u64, StoreError> {
        use usage_record::{Column, Entity};
        // Whole days, so that a report by day never has to ask which part of a day is left.
        let before = moment.millis().div_euclid(DAY_MILLIS) * DAY_MILLIS;
        let old =
            || Entity::find().select_only().column(Column::RequestId).filter(Column::StartedAt.lt(before));
        if old().into_tuple::<String>().one(self.reader()).await?.is_none() {
            return Ok(0);
        }
        self.write(async |tx: &Tx| {
            note_pruned(tx, before).await?;
            let oldest = old().order_by_asc(Column::StartedAt).limit(PRUNED_AT_ONCE).into_query();
            let deleted = Entity::delete_many()
                .filter(Expr::col(Column::RequestId).in_subquery(oldest))
                .exec(tx)
                .await?;
            Ok(deleted.rows_affected)
        })
        .await
    }

    /// Deletes some changes from before `moment`, oldest first; the newest stays, whatever its age, as the place from
    /// which a start goes on. Answers how many; 0 when none are left.
    pub async fn prune_changes(&self, moment: Timestamp) -> Result<u64, StoreError> {
        use change_log::{Column, Entity};
        let newest = self.last_change().await?;
        let old = Entity::find()
            .select_only()
            .column(Column::Seq)
            .filter(Column::At.lt(moment.millis()))
            .filter(Column::Seq.lt(newest))
            .order_by_asc(Column::Seq)
            .limit(PRUNED_AT_ONCE);
        let old: Vec<i64> = old.into_tuple().all(self.reader()).await?;
        if old.is_empty() {
            return Ok(0);
        }
        let deleted = self
            .write(async |tx: &Tx| {
                Ok::<_, StoreError>(Entity::delete_many().filter(Column::Seq.is_in(old)).exec(tx).await?)
            })
            .await?;
        Ok(deleted.rows_affected)
    }
}

/// Notes that rows from before may be gone. The mark only goes up: rows do not come back when the setting is changed.
async fn note_pruned(tx: &Tx, before: i64) -> Result<(), StoreError> {
    let higher = r#"CASE WHEN "excluded"."before" > "usage_pruned"."before" THEN "excluded"."before"
        ELSE "usage_pruned"."before" END"#;
    let on_conflict = OnConflict::column(usage_pruned::Column::Id)
        .value(usage_pruned::Column::Before, Expr::cust(higher))
        .to_owned();
    let mark = usage_pruned::ActiveModel { id: Set(1), before: Set(before) };
    usage_pruned::Entity::insert(mark).on_conflict(on_conflict).exec_without_returning(tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
