//! The gateway's own sealed secrets, and a list of everything that is sealed, for the check at start-up.

use entity::{config_variable, house_secret, provider_key};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict,
};

use super::{Store, StoreError, Tx, rows};
use crate::domain::{ConfigVariableId, TenantId, Timestamp};

const PAGE: u64 = 500;

/// A sealed text and where it stands.
#[derive(Clone)]
pub struct SealedText {
    /// `house_secret pepper`, `provider_key pk_…`: for the message that says what does not open.
    pub what: String,
    /// `v1.<kid>.<fernet token>`, or `v2.<kid>.…` of a config variable.
    pub sealed: String,
    /// The row of a config variable, without which its text does not open.
    pub variable: Option<SealedVariable>,
}

/// The row of a sealed config variable.
#[derive(Clone, Debug)]
pub struct SealedVariable {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: ConfigVariableId,
    /// Its name.
    pub name: String,
}

impl std::fmt::Debug for SealedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedText").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Store {
    /// The sealed secret called `name`.
    pub async fn house_secret(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(house_secret::Entity::find_by_id(name).one(self.reader()).await?.map(|row| row.sealed))
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

    /// Everything sealed: the house's secrets, then config variables and provider keys by id. Read in pages, so that no read lasts long.
    pub async fn sealed_rows(&self) -> Result<Vec<SealedText>, StoreError> {
        let house = house_secret::Entity::find().order_by_asc(house_secret::Column::Name).all(self.reader());
        let mut found: Vec<SealedText> = house
            .await?
            .into_iter()
            .map(|row| SealedText {
                what: format!("house_secret {}", row.name),
                sealed: row.sealed,
                variable: None,
            })
            .collect();
        self.sealed_variables(&mut found).await?;
        let mut after = String::new();
        loop {
            let page: Vec<(String, String)> = provider_key::Entity::find()
                .select_only()
                .columns([provider_key::Column::Id, provider_key::Column::Sealed])
                .filter(provider_key::Column::Id.gt(after.as_str()))
                .order_by_asc(provider_key::Column::Id)
                .limit(PAGE)
                .into_tuple()
                .all(self.reader())
                .await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after.clone_from(last);
            found.extend(page.into_iter().map(|(id, sealed)| SealedText {
                what: format!("provider_key {id}"),
                sealed,
                variable: None,
            }));
        }
    }

    async fn sealed_variables(&self, found: &mut Vec<SealedText>) -> Result<(), StoreError> {
        use config_variable::{Column, Entity};
        const TABLE: &str = "config_variable";
        let mut after = String::new();
        loop {
            let page: Vec<(String, String, String, String)> = Entity::find()
                .select_only()
                .columns([Column::Id, Column::TenantId, Column::Name, Column::Sealed])
                .filter(Column::Id.gt(after.as_str()))
                .filter(Column::Sealed.is_not_null())
                .order_by_asc(Column::Id)
                .limit(PAGE)
                .into_tuple()
                .all(self.reader())
                .await?;
            let Some((last, ..)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (id, tenant, name, sealed) in page {
                let what = format!("config_variable {id}");
                let variable =
                    SealedVariable { tenant: rows::id(TABLE, &tenant)?, id: rows::id(TABLE, &id)?, name };
                found.push(SealedText { what, sealed, variable: Some(variable) });
            }
        }
    }
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

/// Replaces `old` by `new`, the same secret sealed anew; [`StoreError::NotFound`] when `old` does not stand any more.
pub async fn house_secret_reseal(tx: &Tx, name: &str, old: &str, new: &str) -> Result<(), StoreError> {
    let done = house_secret::Entity::update_many()
        .col_expr(house_secret::Column::Sealed, new.into())
        .filter(house_secret::Column::Name.eq(name))
        .filter(house_secret::Column::Sealed.eq(old))
        .exec(tx)
        .await?;
    if done.rows_affected == 1 { Ok(()) } else { Err(StoreError::NotFound) }
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
        let standing = db.house_secret("pepper").await.expect("read").expect("a secret");
        assert_eq!([one.expect("made"), two.expect("made")], [standing.clone(), standing]);
    }

    #[tokio::test]
    async fn a_secret_is_sealed_anew_only_over_what_was_read() {
        let db = testing::store().await;
        assert_eq!(db.house_secret("jwt").await.expect("read"), None);
        db.house_secret_or_insert("jwt", "v1.a.x", AT).await.expect("made");
        let reseal = |old: &'static str| {
            db.write(async move |tx: &Tx| house_secret_reseal(tx, "jwt", old, "v1.b.x").await)
        };
        assert!(matches!(reseal("v1.z.stale").await, Err(StoreError::NotFound)));
        reseal("v1.a.x").await.expect("resealed");
        assert_eq!(db.house_secret("jwt").await.expect("read").as_deref(), Some("v1.b.x"));
    }

    #[tokio::test]
    async fn everything_sealed_is_listed_beyond_one_page() {
        let db = testing::store().await;
        db.house_secret_or_insert("pepper", "v1.a.p", AT).await.expect("made");
        let keys = PAGE + 1;
        db.write(async |tx: &Tx| {
            for _ in 0..keys {
                let row = testing::provider_key(TenantId::generate());
                provider_key::Entity::insert(row).exec_without_returning(tx).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        let rows = db.sealed_rows().await.expect("rows");
        assert_eq!(rows.len() as u64, keys + 1);
        assert_eq!(rows[0].what, "house_secret pepper");
        assert!(rows[1].what.starts_with("provider_key pk_"));
        assert!(!format!("{rows:?}").contains("v1.a."));
    }
}
