//! When provider keys were last used, and last refused: noted in lots, now and then, by each instance. What stands there
//! only moves on, so that instances that note at once agree.

use std::collections::{HashMap, HashSet};

use entity::{
    provider_key,
    provider_key_use::{ActiveModel, Column, Entity, Model},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{Store, StoreError, Tx, columns::moment};
use crate::domain::{ProviderKeyId, Timestamp};

/// Most keys that one statement names.
const AT_ONCE: usize = 500;

/// When a key was last used, and last refused by its provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// When a request was last sent with it.
    pub used_at: Option<Timestamp>,
    /// When its provider last refused it, and with which HTTP status.
    pub refused: Option<(Timestamp, u16)>,
}

impl Store {
    /// Notes the use of keys. Keys that are gone are passed over.
    pub async fn note_key_use(&self, uses: &[(ProviderKeyId, KeyUse)]) -> Result<(), StoreError> {
        for lot in uses.chunks(AT_ONCE) {
            self.write(async |tx: &Tx| note(tx, lot).await).await?;
        }
        Ok(())
    }

    /// What was noted of these keys.
    pub async fn key_uses(
        &self,
        keys: &[ProviderKeyId],
    ) -> Result<HashMap<ProviderKeyId, KeyUse>, StoreError> {
        let mut found = HashMap::with_capacity(keys.len());
        for lot in keys.chunks(AT_ONCE) {
            let ids = lot.iter().map(ToString::to_string);
            let rows = Entity::find().filter(Column::ProviderKeyId.is_in(ids)).all(self.reader()).await?;
            for row in rows {
                let id = super::rows::id("provider_key_use", &row.provider_key_id)?;
                found.insert(id, read(&row));
            }
        }
        Ok(found)
    }
}

/// Forgets a key's use.
pub(super) async fn forget(tx: &Tx, key: ProviderKeyId) -> Result<(), StoreError> {
    Entity::delete_by_id(key.to_string()).exec(tx).await?;
    Ok(())
}

/// Forgets the use of several keys.
pub(super) async fn forget_all(tx: &Tx, keys: Vec<String>) -> Result<(), StoreError> {
    for lot in keys.chunks(AT_ONCE) {
        Entity::delete_many().filter(Column::ProviderKeyId.is_in(lot)).exec(tx).await?;
    }
    Ok(())
}

async fn note(tx: &Tx, uses: &[(ProviderKeyId, KeyUse)]) -> Result<(), StoreError> {
    let ids = uses.iter().map(|(id, _)| id.to_string());
    // Held until the end, so that a key is not deleted in between; in one order, so that two instances do not wait for
    // one another.
    let standing: Vec<String> = provider_key::Entity::find()
        .select_only()
        .column(provider_key::Column::Id)
        .filter(provider_key::Column::Id.is_in(ids))
        .order_by_asc(provider_key::Column::Id)
        .lock_shared()
        .into_tuple()
        .all(tx)
        .await?;
    let standing: HashSet<String> = standing.into_iter().collect();
    let mut rows: Vec<ActiveModel> = uses
        .iter()
        .map(|(id, used)| (id.to_string(), used))
        .filter(|(id, _)| standing.contains(id))
        .map(|(id, used)| row(id, used))
        .collect();
    rows.sort_by(|a, b| a.provider_key_id.as_ref().cmp(b.provider_key_id.as_ref()));
    if rows.is_empty() {
        return Ok(());
    }
    let later = |column: &str| {
        format!(
            r#"CASE WHEN "excluded"."{column}" > "provider_key_use"."{column}" THEN "excluded"."{column}"
            ELSE "provider_key_use"."{column}" END"#
        )
    };
    // The status goes with the moment that stays.
    let status = r#"CASE WHEN "excluded"."last_refused_at" > "provider_key_use"."last_refused_at"
        THEN "excluded"."last_refusal_status" ELSE "provider_key_use"."last_refusal_status" END"#;
    let on_conflict = OnConflict::column(Column::ProviderKeyId)
        .value(Column::LastUsedAt, Expr::cust(later("last_used_at")))
        .value(Column::LastRefusedAt, Expr::cust(later("last_refused_at")))
        .value(Column::LastRefusalStatus, Expr::cust(status))
        .to_owned();
    Entity::insert_many(rows).on_conflict(on_conflict).exec_without_returning(tx).await?;
    Ok(())
}

fn row(id: String, used: &KeyUse) -> ActiveModel {
    let (refused_at, status) = used.refused.map_or((0, 0), |(at, status)| (at.millis(), status.into()));
    ActiveModel {
        provider_key_id: Set(id),
        last_used_at: Set(used.used_at.map_or(0, Timestamp::millis)),
        last_refused_at: Set(refused_at),
        last_refusal_status: Set(status),
    }
}

fn read(row: &Model) -> KeyUse {
    let some = |millis: i64| (millis > 0).then(|| moment(millis));
    KeyUse {
        used_at: some(row.last_used_at),
        refused: some(row.last_refused_at)
            .map(|at| (at, u16::try_from(row.last_refusal_status).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::TenantId,
        store::{provider_key_delete, provider_keys_delete, testing},
    };

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    async fn key(db: &Store, tenant: TenantId) -> ProviderKeyId {
        let row = testing::provider_key(tenant);
        let id = row.id.as_ref().parse().expect("an id");
        db.write(async |tx: &Tx| {
            provider_key::Entity::insert(row).exec_without_returning(tx).await?;
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        id
    }

    #[tokio::test]
    async fn what_is_noted_only_moves_on_and_goes_with_its_key() {
        let db = testing::store().await;
        let tenant = TenantId::generate();
        let (one, two, gone) = (key(&db, tenant).await, key(&db, tenant).await, ProviderKeyId::generate());
        let used = |used: i64, refused: Option<(i64, u16)>| KeyUse {
            used_at: Some(at(used)),
            refused: refused.map(|(moment, status)| (at(moment), status)),
        };
        db.note_key_use(&[(one, used(5, Some((5, 401)))), (two, used(1, None)), (gone, used(9, None))])
            .await
            .expect("noted");
        // Another instance, which is behind with one thing and ahead with the other.
        db.note_key_use(&[(one, used(4, Some((7, 429))))]).await.expect("noted");
        db.note_key_use(&[(one, used(3, Some((6, 403))))]).await.expect("noted");
        db.note_key_use(&[(one, KeyUse::default())]).await.expect("noted");
        let found = db.key_uses(&[one, two, gone]).await.expect("read");
        assert_eq!(found, HashMap::from([(one, used(5, Some((7, 429)))), (two, used(1, None))]));
        db.write(async |tx: &Tx| provider_key_delete(tx, one).await).await.expect("deleted");
        assert_eq!(db.key_uses(&[one, two]).await.expect("read").len(), 1);
        db.write(async |tx: &Tx| provider_keys_delete(tx, tenant).await).await.expect("deleted");
        assert!(db.key_uses(&[one, two]).await.expect("read").is_empty());
        db.note_key_use(&[(two, used(10, None))]).await.expect("noted");
        assert!(
            db.key_uses(&[two]).await.expect("read").is_empty(),
            "of a key that is gone nothing is noted"
        );
    }
}
