//! What became of the master keys. The rows are changed under the lock of the audit chain alone, so an act that stores
//! something sealed sees them as they are.

use entity::master_key::{ActiveModel, Column, Entity};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::OnConflict,
};

use super::{Store, StoreError, Tx};
use crate::domain::Timestamp;

/// What became of a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterKeyState {
    /// Everything is being sealed anew under it.
    Rotating,
    /// Everything was sealed anew under it.
    Primary,
    /// Nothing may be sealed under it any more.
    Retired,
}

impl MasterKeyState {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rotating => "rotating",
            Self::Primary => "primary",
            Self::Retired => "retired",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        [Self::Rotating, Self::Primary, Self::Retired]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(StoreError::Corrupt { table: "master_key", what: "state" })
    }
}

/// A master key of which something is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMasterKey {
    /// Its id.
    pub kid: String,
    /// What became of it.
    pub state: MasterKeyState,
    /// Since when.
    pub since: Timestamp,
}

impl Store {
    /// Those of which something is known, oldest news first.
    pub async fn master_keys(&self) -> Result<Vec<StoredMasterKey>, StoreError> {
        list(self.reader()).await
    }
}

/// The same, inside a transaction.
pub async fn master_keys(tx: &Tx) -> Result<Vec<StoredMasterKey>, StoreError> {
    list(tx).await
}

/// What became of one; `None` when nothing is known.
pub async fn master_key_state(tx: &Tx, kid: &str) -> Result<Option<MasterKeyState>, StoreError> {
    let row = Entity::find_by_id(kid).one(tx).await?;
    row.map(|row| MasterKeyState::read(&row.state)).transpose()
}

/// Notes what becomes of one. A new [`MasterKeyState::Rotating`] takes the place of whichever was the last.
pub async fn master_key_set(
    tx: &Tx,
    kid: &str,
    state: MasterKeyState,
    at: Timestamp,
) -> Result<(), StoreError> {
    if state == MasterKeyState::Rotating {
        Entity::delete_many()
            .filter(Column::Kid.ne(kid))
            .filter(Column::State.ne(MasterKeyState::Retired.as_str()))
            .exec(tx)
            .await?;
    }
    let row =
        ActiveModel { kid: Set(kid.into()), state: Set(state.as_str().into()), since: Set(at.millis()) };
    Entity::insert(row)
        .on_conflict(
            OnConflict::column(Column::Kid).update_columns([Column::State, Column::Since]).to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn list(db: &impl ConnectionTrait) -> Result<Vec<StoredMasterKey>, StoreError> {
    let rows = Entity::find().order_by_asc(Column::Since).order_by_asc(Column::Kid).all(db).await?;
    rows.into_iter()
        .map(|row| {
            let state = MasterKeyState::read(&row.state)?;
            Ok(StoredMasterKey { kid: row.kid, state, since: Timestamp::from_millis(row.since) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[tokio::test]
    async fn one_key_is_rotated_to_at_a_time_and_the_retired_stay() {
        let db = testing::store().await;
        let set = async |kid: &str, state, at| {
            db.write(async |tx: &Tx| master_key_set(tx, kid, state, Timestamp::from_millis(at)).await)
                .await
                .expect("set");
        };
        set("a", MasterKeyState::Rotating, 1).await;
        set("b", MasterKeyState::Rotating, 2).await;
        set("b", MasterKeyState::Primary, 3).await;
        set("a", MasterKeyState::Retired, 4).await;
        let found = async || {
            let found = db.master_keys().await.expect("keys").into_iter();
            found.map(|key| (key.kid, key.state)).collect::<Vec<_>>()
        };
        assert_eq!(
            found().await,
            [("b".into(), MasterKeyState::Primary), ("a".into(), MasterKeyState::Retired)]
        );
        set("c", MasterKeyState::Rotating, 5).await;
        assert_eq!(
            found().await,
            [("a".into(), MasterKeyState::Retired), ("c".into(), MasterKeyState::Rotating)]
        );
        let state = async |kid: &str| {
            db.write(async |tx: &Tx| master_key_state(tx, kid).await).await.expect("a state")
        };
        assert_eq!((state("a").await, state("b").await), (Some(MasterKeyState::Retired), None));
    }
}
