//! Everything that is sealed, wherever it stands: for the check at start-up, and for the rotation of master keys, which
//! replaces sealed texts one by one, each only over the text that was read.
//!
//! Whoever adds a column with sealed texts in it adds it to [`SealedColumn`]; nothing else is needed for it to be checked,
//! counted and found.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::{Store, StoreError, Tx, rows};
use crate::domain::{ConfigVariableId, ProviderKeyId, TenantId};

const PAGE: u32 = 500;

/// A column with sealed texts in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealedColumn {
    /// The gateway's own secrets.
    HouseSecret,
    /// Tenants' keys at providers.
    ProviderKey,
    /// What waits beside them.
    StagedProviderKey,
    /// The secrets of their clouds.
    CloudSecrets,
    /// Sensitive config variables.
    ConfigVariable,
}

impl SealedColumn {
    /// Every one of them.
    pub const ALL: [Self; 5] = [
        Self::HouseSecret,
        Self::ProviderKey,
        Self::StagedProviderKey,
        Self::CloudSecrets,
        Self::ConfigVariable,
    ];

    /// Table, primary key, and the column itself.
    const fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::HouseSecret => ("house_secret", "name", "sealed"),
            Self::ProviderKey => ("provider_key", "id", "sealed"),
            Self::StagedProviderKey => ("provider_key", "id", "staged_sealed"),
            Self::CloudSecrets => ("provider_key", "id", "cloud_sealed"),
            Self::ConfigVariable => ("config_variable", "id", "sealed"),
        }
    }

    /// What it is called in messages, before the id of a row.
    const fn called(self) -> &'static str {
        match self {
            Self::HouseSecret => "house_secret",
            Self::ProviderKey => "provider_key",
            Self::StagedProviderKey => "staged provider_key",
            Self::CloudSecrets => "cloud of provider_key",
            Self::ConfigVariable => "config_variable",
        }
    }

    /// Whether what is sealed is bound to the row of a provider key.
    const fn of_a_provider_key(self) -> bool {
        matches!(self, Self::ProviderKey | Self::StagedProviderKey | Self::CloudSecrets)
    }
}

/// The row of a provider key that a sealed text is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedFor {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key: ProviderKeyId,
    /// Provider slug.
    pub provider: String,
    /// Scheme, host and port.
    pub origin: String,
}

/// The row of a sealed config variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedVariable {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: ConfigVariableId,
    /// Its name.
    pub name: String,
}

/// A sealed text and where it stands.
#[derive(Clone)]
pub struct SealedText {
    /// In which column.
    pub column: SealedColumn,
    /// In which row: the value of its primary key.
    pub id: String,
    /// For a provider key: its row.
    pub bound: Option<SealedFor>,
    /// For a config variable: its row.
    pub variable: Option<SealedVariable>,
    /// `v1.<kid>.<fernet token>`, or `v2.<kid>.…` of a config variable.
    pub sealed: String,
}

impl SealedText {
    /// `house_secret pepper`, `provider_key pk_…`: for the message that says what does not open.
    pub fn what(&self) -> String {
        format!("{} {}", self.column.called(), self.id)
    }
}

impl std::fmt::Debug for SealedText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedText").field("what", &self.what()).finish_non_exhaustive()
    }
}

impl Store {
    /// Everything sealed, column by column and by id. Read in pages, so that no read lasts long.
    pub async fn sealed_rows(&self) -> Result<Vec<SealedText>, StoreError> {
        let mut found = Vec::new();
        for column in SealedColumn::ALL {
            let mut after = String::new();
            loop {
                let page = self.sealed_page(column, None, &after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.id);
                found.extend(page);
            }
        }
        Ok(found)
    }

    /// The first `limit` texts of `column` behind the row `after` that are not under the master key `kid`, by id.
    pub async fn sealed_elsewhere(
        &self,
        column: SealedColumn,
        kid: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<SealedText>, StoreError> {
        self.sealed_page(column, Some(kid), after, limit).await
    }

    async fn sealed_page(
        &self,
        column: SealedColumn,
        not_under: Option<&str>,
        after: &str,
        limit: u32,
    ) -> Result<Vec<SealedText>, StoreError> {
        let db = self.reader();
        let (table, id, sealed) = column.place();
        let bound = match column {
            _ if column.of_a_provider_key() => r#", "tenant_id", "provider", "origin""#,
            SealedColumn::ConfigVariable => r#", "tenant_id", "name""#,
            _ => "",
        };
        let mut values: Vec<Value> = vec![after.into()];
        let only = match not_under {
            Some(kid) => {
                values.push(kid.into());
                format!(r#"AND {} <> $2"#, kid_of(sealed))
            }
            None => String::new(),
        };
        let sql = format!(
            r#"SELECT "{id}", "{sealed}"{bound} FROM "{table}"
            WHERE "{sealed}" IS NOT NULL AND "{id}" > $1 {only} ORDER BY "{id}" LIMIT {limit}"#
        );
        let backend = db.get_database_backend();
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        rows.iter().map(|row| read(column, row)).collect()
    }

    /// How many sealed texts stand under each key.
    pub async fn sealed_counts(&self) -> Result<SealedCounts, StoreError> {
        counts(self.reader()).await
    }
}

/// How many sealed texts stand under each key, by its id. A text that is none of ours counts under no key, the empty id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealedCounts {
    /// What only a master key seals.
    pub master: BTreeMap<String, u64>,
    /// Config variables, which a key of their own may seal.
    pub variables: BTreeMap<String, u64>,
}

impl SealedCounts {
    /// Every key that something stands under.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.master.keys().chain(self.variables.keys()).map(String::as_str).filter(|kid| !kid.is_empty())
    }
}

/// How many sealed texts stand under each key, inside a transaction.
pub async fn sealed_counts(tx: &Tx) -> Result<SealedCounts, StoreError> {
    counts(tx).await
}

/// Replaces `old` by `new`, the same secret sealed anew. Answers whether `old` still stood there; whoever put something
/// else in its place is not overwritten.
pub async fn sealed_replace(
    tx: &Tx,
    column: SealedColumn,
    id: &str,
    old: &str,
    new: &str,
) -> Result<bool, StoreError> {
    let (table, key, sealed) = column.place();
    let sql = format!(r#"UPDATE "{table}" SET "{sealed}" = $1 WHERE "{key}" = $2 AND "{sealed}" = $3"#);
    let values: [Value; 3] = [new.into(), id.into(), old.into()];
    let statement = Statement::from_sql_and_values(tx.get_database_backend(), sql, values);
    Ok(tx.execute_raw(statement).await?.rows_affected() == 1)
}

/// `v1.<8 characters>.…` or `v2.<8 characters>.…`: the characters. Nothing of a text that has another form.
fn kid_of(column: &str) -> String {
    format!(r#"CASE WHEN "{column}" LIKE 'v_.________.%' THEN substr("{column}", 4, 8) ELSE '' END"#)
}

async fn counts(db: &impl ConnectionTrait) -> Result<SealedCounts, StoreError> {
    let each = SealedColumn::ALL.map(|column| {
        let (table, _, sealed) = column.place();
        let (kid, variable) = (kid_of(sealed), i32::from(column == SealedColumn::ConfigVariable));
        format!(
            r#"SELECT {variable} AS "variable", {kid} AS "kid" FROM "{table}" WHERE "{sealed}" IS NOT NULL"#
        )
    });
    let sql = format!(
        r#"SELECT "variable", "kid", CAST(COUNT(*) AS BIGINT) FROM ({}) AS "all" GROUP BY "variable", "kid""#,
        each.join(" UNION ALL ")
    );
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    let mut counts = SealedCounts::default();
    for row in rows {
        let (variable, kid): (i32, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let count: i64 = row.try_get_by_index(2)?;
        let of = if variable == 1 { &mut counts.variables } else { &mut counts.master };
        of.insert(kid, count.max(0).unsigned_abs());
    }
    Ok(counts)
}

fn read(column: SealedColumn, row: &QueryResult) -> Result<SealedText, StoreError> {
    let id: String = row.try_get_by_index(0)?;
    let bound = if column.of_a_provider_key() {
        Some(SealedFor {
            tenant: rows::id("provider_key", &row.try_get_by_index::<String>(2)?)?,
            key: rows::id("provider_key", &id)?,
            provider: row.try_get_by_index(3)?,
            origin: row.try_get_by_index(4)?,
        })
    } else {
        None
    };
    let variable = if column == SealedColumn::ConfigVariable {
        Some(SealedVariable {
            tenant: rows::id("config_variable", &row.try_get_by_index::<String>(2)?)?,
            id: rows::id("config_variable", &id)?,
            name: row.try_get_by_index(3)?,
        })
    } else {
        None
    };
    Ok(SealedText { column, id, bound, variable, sealed: row.try_get_by_index(1)? })
}

#[cfg(test)]
mod tests {
    use entity::provider_key;
    use sea_orm::EntityTrait;

    use super::*;
    use crate::{
        domain::Timestamp,
        store::{house_secret_set, testing},
    };

    const AT: Timestamp = Timestamp::from_millis(1);

    #[tokio::test]
    async fn everything_sealed_is_listed_beyond_one_page_and_counted_by_its_key() {
        let db = testing::store().await;
        let keys = PAGE + 1;
        db.write(async |tx: &Tx| {
            house_secret_set(tx, "pepper", "v1.0000000a.p", AT).await?;
            for number in 0..keys {
                let mut row = testing::provider_key(TenantId::generate());
                row.sealed = sea_orm::Set(format!("v1.0000000b.{number}"));
                if number == 0 {
                    row.staged_sealed = sea_orm::Set(Some("v1.0000000a.staged".into()));
                }
                provider_key::Entity::insert(row).exec_without_returning(tx).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        let rows = db.sealed_rows().await.expect("rows");
        assert_eq!(rows.len(), keys as usize + 2);
        assert_eq!((rows[0].what().as_str(), &rows[0].bound), ("house_secret pepper", &None));
        assert!(rows[1].what().starts_with("provider_key pk_") && rows[1].bound.is_some());
        assert!(rows[keys as usize + 1].what().starts_with("staged provider_key pk_"));
        assert!(!format!("{rows:?}").contains("v1."));
        let counts = db.sealed_counts().await.expect("counts");
        let master = BTreeMap::from([("0000000a".into(), 2), ("0000000b".into(), u64::from(keys))]);
        assert_eq!(counts, SealedCounts { master, variables: BTreeMap::new() });

        let of = async |column, kid, after: &str| {
            db.sealed_elsewhere(column, kid, after, 2).await.expect("rows").into_iter().map(|row| row.id)
        };
        assert_eq!(of(SealedColumn::HouseSecret, "0000000b", "").await.collect::<Vec<_>>(), ["pepper"]);
        assert_eq!(of(SealedColumn::HouseSecret, "0000000a", "").await.count(), 0);
        assert_eq!(of(SealedColumn::HouseSecret, "0000000b", "pepper").await.count(), 0);
        assert_eq!(
            of(SealedColumn::ProviderKey, "0000000a", "").await.count(),
            2,
            "as many as were asked for"
        );
        assert_eq!(of(SealedColumn::StagedProviderKey, "0000000b", "").await.count(), 1);
    }

    #[tokio::test]
    async fn a_text_is_sealed_anew_only_over_what_was_read() {
        let db = testing::store().await;
        db.house_secret_or_insert("pepper", "v1.a.x", AT).await.expect("made");
        let replace = |old: &'static str| {
            db.write(async move |tx: &Tx| {
                sealed_replace(tx, SealedColumn::HouseSecret, "pepper", old, "v1.b.x").await
            })
        };
        assert!(!replace("v1.z.stale").await.expect("an answer"));
        assert!(replace("v1.a.x").await.expect("an answer"));
        assert!(!replace("v1.a.x").await.expect("an answer"));
        let standing = db.house_secret("pepper").await.expect("read").expect("a secret").sealed;
        assert_eq!(standing, "v1.b.x");
    }
}
