//! The gateway's own sealed secrets.

use entity::house_secret;
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, sea_query::OnConflict};

use super::{Store, StoreError, Tx};
use crate::domain::Timestamp;

/// One of the gateway's own secrets.
#[derive(Clone)]
pub struct StoredHouseSecret {
    /// `v1.<kid>.<fernet token>`.
    pub sealed: String,
    /// Since when it has been what it is.
    pub at: Timestamp,
}

impl Store {
    /// The sealed secret called `name`.
    pub async fn house_secret(&self, name: &str) -> Result<Option<StoredHouseSecret>, StoreError> {
        find(self.reader(), name).await
    }

    /// Stores `sealed` as `name` unless there is one, and returns the one that stands: processes that race agree.
    pub async fn house_secret_or_insert(
        &self,
        name: &str,
        sealed: &str,
        at: Timestamp,
    ) -> Result<String, StoreError> {
        self.write(async |tx: &Tx| house_secret_or_insert(tx, name, sealed, at).await).await
    }
}

/// The sealed secret called `name`, inside a transaction.
pub async fn house_secret_find(tx: &Tx, name: &str) -> Result<Option<StoredHouseSecret>, StoreError> {
    find(tx, name).await
}

/// Stores `sealed` as `name`, whatever stood there.
pub async fn house_secret_set(tx: &Tx, name: &str, sealed: &str, at: Timestamp) -> Result<(), StoreError> {
    let row = house_secret::ActiveModel {
        name: Set(name.into()),
        sealed: Set(sealed.into()),
        created_at: Set(at.millis()),
    };
    let both = [house_secret::Column::Sealed, house_secret::Column::CreatedAt];
    house_secret::Entity::insert(row)
        .on_conflict(OnConflict::column(house_secret::Column::Name).update_columns(both).to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Removes the secret called `name`, if there is one.
pub async fn house_secret_delete(tx: &Tx, name: &str) -> Result<(), StoreError> {
    house_secret::Entity::delete_by_id(name).exec(tx).await?;
    Ok(())
}

async fn find(db: &impl ConnectionTrait, name: &str) -> Result<Option<StoredHouseSecret>, StoreError> {
    let row = house_secret::Entity::find_by_id(name).one(db).await?;
    Ok(row.map(|row| StoredHouseSecret { sealed: row.sealed, at: Timestamp::from_millis(row.created_at) }))
}

/// Stores `sealed` as `name` unless there is one, and returns the one that stands.
pub async fn house_secret_or_insert(
    tx: &Tx,
    name: &str,
    sealed: &str,
    at: Timestamp,
) -> Result<String, StoreError> {
    let row = house_secret::ActiveModel {
        name: Set(name.into()),
        sealed: Set(sealed.into()),
        created_at: Set(at.millis()),
    };
    house_secret::Entity::insert(row)
        .on_conflict(OnConflict::column(house_secret::Column::Name).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    let standing = house_secret::Entity::find_by_id(name).one(tx).await?;
    Ok(standing.ok_or(StoreError::NotFound)?.sealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    const AT: Timestamp = Timestamp::from_millis(1);

    #[tokio::test]
    async fn processes_that_race_to_make_a_secret_agree_on_one() {
        let db = testing::store().await;
        let other = db.again().await;
        let (one, two) = tokio::join!(
            db.house_secret_or_insert("pepper", "v1.a.one", AT),
            other.house_secret_or_insert("pepper", "v1.a.two", AT),
        );
        let standing = db.house_secret("pepper").await.expect("read").expect("a secret").sealed;
        assert_eq!([one.expect("made"), two.expect("made")], [standing.clone(), standing]);
    }

    #[tokio::test]
    async fn a_secret_is_replaced_with_its_moment_and_removed() {
        let db = testing::store().await;
        assert!(db.house_secret("jwt_key").await.expect("read").is_none());
        db.house_secret_or_insert("jwt_key", "v1.a.x", AT).await.expect("made");
        let later = Timestamp::from_millis(2);
        db.write(async |tx: &Tx| {
            assert_eq!(house_secret_find(tx, "jwt_key").await?.map(|found| found.at), Some(AT));
            house_secret_set(tx, "jwt_key", "v1.a.y", later).await?;
            house_secret_set(tx, "jwt_key_previous", "v1.a.x", later).await?;
            house_secret_delete(tx, "jwt_key_previous").await?;
            house_secret_delete(tx, "jwt_key_previous").await
        })
        .await
        .expect("written");
        let found = db.house_secret("jwt_key").await.expect("read").expect("a secret");
        assert_eq!((found.sealed.as_str(), found.at), ("v1.a.y", later));
        assert!(db.house_secret("jwt_key_previous").await.expect("read").is_none());
    }
}
