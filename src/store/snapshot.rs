//! What the data plane loads when its cache misses: a virtual key by its digest, and a tenant with all it needs to plan
//! a request. Each snapshot is read by a few statements, not in one transaction: a change in between appends to the
//! change log, so that whoever caches must read the log's position before and not after.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use entity::{budget, model_alias, provider_key, tenant, virtual_key, virtual_key_secret};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::{
    Budget, Store, StoreError, budgets,
    rows::{self, LimitColumns},
};
use crate::domain::{
    BudgetId, KeyDigest, Limits, ModelName, ModelRef, ProviderKeyId, ProviderSlug, TenantId, Timestamp,
    VirtualKeyId, Zone,
};

/// A virtual key, dead or alive; whoever reads it decides by the clock.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Which.
    pub id: VirtualKeyId,
    /// Whose.
    pub tenant: TenantId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub limits: Limits,
    /// Tried after what the request asks for.
    pub fallback_models: Vec<ModelName>,
    /// For the usage rows.
    pub tags: Arc<BTreeMap<String, String>>,
    /// Budgets it has joined, the deleted ones too.
    pub budgets: Vec<BudgetId>,
    /// When the key ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// When the secret it was found by ends, if it is one that was rotated away.
    pub secret_expires_at: Option<Timestamp>,
}

/// A tenant that was not deleted, with its budgets, aliases and provider keys.
#[derive(Clone, Debug)]
pub struct TenantRow {
    /// Which.
    pub id: TenantId,
    /// For people.
    pub name: String,
    /// What all its keys together may do.
    pub limits: Limits,
    /// Where its days begin.
    pub zone: Zone,
    /// Budgets that its keys may have joined; deleted ones are not among them.
    pub budgets: HashMap<BudgetId, Budget>,
    /// Names for ordered lists of models.
    pub aliases: HashMap<ModelName, Vec<ModelRef>>,
    /// All of them, the inactive ones too, oldest first.
    pub provider_keys: Vec<ProviderKeyRow>,
}

/// A provider key, sealed.
#[derive(Clone)]
pub struct ProviderKeyRow {
    /// Which.
    pub id: ProviderKeyId,
    /// At which provider.
    pub provider: ProviderSlug,
    /// Of a custom provider; `None` for one of the catalogue.
    pub dialect: Option<String>,
    /// Where it is used, without a trailing slash.
    pub base_url: String,
    /// Scheme, host and port of `base_url`; bound into the sealed payload.
    pub origin: String,
    /// `v1.<kid>.<fernet token>`.
    pub sealed: String,
    /// Upstream models it serves; `None` serves all.
    pub models: Option<Vec<ModelName>>,
    /// Share of the traffic; 0 serves only when all others are down.
    pub weight: u32,
    /// Whether it may be used.
    pub is_active: bool,
    /// For people.
    pub key_name: String,
    /// Whether it is for a cloud, with a configuration of its own.
    pub is_cloud: bool,
}

impl fmt::Debug for ProviderKeyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderKeyRow")
            .field("id", &self.id)
            .field("provider", &self.provider)
            .field("is_active", &self.is_active)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// The virtual key that a secret with this digest belongs to.
    pub async fn key_by_digest(&self, digest: &KeyDigest) -> Result<Option<KeyRow>, StoreError> {
        let Some(secret) =
            virtual_key_secret::Entity::find_by_id(digest_text(digest)).one(self.reader()).await?
        else {
            return Ok(None);
        };
        let found = virtual_key::Entity::find_by_id(&secret.virtual_key_id).one(self.reader()).await?;
        found.map(|row| key_row(&row, &secret)).transpose()
    }

    /// A tenant and what a request of its needs; `None` when there is none or it was deleted.
    pub async fn tenant_snapshot(&self, id: TenantId) -> Result<Option<TenantRow>, StoreError> {
        let text = id.to_string();
        let Some(row) = tenant::Entity::find_by_id(&text).one(self.reader()).await? else {
            return Ok(None);
        };
        if row.deleted_at.is_some() {
            return Ok(None);
        }
        let aliases = model_alias::Entity::find()
            .filter(model_alias::Column::TenantId.eq(&text))
            .all(self.reader())
            .await?;
        let budgets = budget::Entity::find()
            .filter(budget::Column::TenantId.eq(&text))
            .filter(budget::Column::DeletedAt.is_null())
            .all(self.reader())
            .await?;
        let keys = provider_key::Entity::find()
            .filter(provider_key::Column::TenantId.eq(&text))
            .order_by_asc(provider_key::Column::Id)
            .all(self.reader())
            .await?;
        Ok(Some(TenantRow {
            id,
            limits: LimitColumns::from(&row).read("tenant")?,
            zone: rows::zone(&row.time_zone)?,
            name: row.name,
            budgets: budgets.into_iter().map(budget_by_id).collect::<Result<_, _>>()?,
            aliases: aliases.iter().map(alias).collect::<Result<_, _>>()?,
            provider_keys: keys.into_iter().map(provider_key_row).collect::<Result<_, _>>()?,
        }))
    }
}

/// How a digest is written in the database: 64 hex digits.
pub(crate) fn digest_text(digest: &KeyDigest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key_row(row: &virtual_key::Model, secret: &virtual_key_secret::Model) -> Result<KeyRow, StoreError> {
    const TABLE: &str = "virtual_key";
    Ok(KeyRow {
        id: rows::id(TABLE, &row.id)?,
        tenant: rows::id(TABLE, &row.tenant_id)?,
        name: row.name.clone(),
        limits: LimitColumns::from(row).read(TABLE)?,
        fallback_models: rows::json(
            TABLE,
            "`fallback_models` is not a list of models",
            &row.fallback_models,
        )?,
        tags: Arc::new(rows::tags(TABLE, &row.tags)?),
        budgets: rows::budgets(&row.budgets)?,
        expires_at: row.expires_at.map(Timestamp::from_millis),
        revoked: row.revoked_at.is_some(),
        deleted: row.deleted_at.is_some(),
        secret_expires_at: secret.expires_at.map(Timestamp::from_millis),
    })
}

fn budget_by_id(row: budget::Model) -> Result<(BudgetId, Budget), StoreError> {
    budgets::read(row).map(|budget| (budget.id, budget))
}

fn alias(row: &model_alias::Model) -> Result<(ModelName, Vec<ModelRef>), StoreError> {
    const TABLE: &str = "model_alias";
    let name = ModelName::parse(&row.name)
        .map_err(|_| StoreError::Corrupt { table: TABLE, what: "`name` is not a model name" })?;
    Ok((name, rows::model_refs(TABLE, "`models` is not a list of `provider/model`", &row.models)?))
}

fn provider_key_row(row: provider_key::Model) -> Result<ProviderKeyRow, StoreError> {
    const TABLE: &str = "provider_key";
    let corrupt = |what| StoreError::Corrupt { table: TABLE, what };
    Ok(ProviderKeyRow {
        id: rows::id(TABLE, &row.id)?,
        provider: ProviderSlug::parse(&row.provider).map_err(|_| corrupt("`provider` is not a slug"))?,
        dialect: row.dialect,
        base_url: row.base_url,
        origin: row.origin,
        sealed: row.sealed,
        models: row
            .models
            .map(|text| rows::json(TABLE, "`models` is not a list of models", &text))
            .transpose()?,
        weight: u32::try_from(row.weight).map_err(|_| corrupt("`weight` is negative"))?,
        is_active: row.is_active,
        key_name: row.key_name,
        is_cloud: row.cloud.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use sea_orm::{ActiveValue::Set, EntityTrait};

    use super::*;
    use crate::store::{Tx, testing};

    fn secret(digest: &KeyDigest, key: VirtualKeyId) -> virtual_key_secret::ActiveModel {
        virtual_key_secret::ActiveModel {
            digest: Set(digest_text(digest)),
            virtual_key_id: Set(key.to_string()),
            token_id: Set("abcdefghijkl".into()),
            created_at: Set(1),
            expires_at: Set(Some(9)),
        }
    }

    fn key(id: VirtualKeyId, tenant: TenantId) -> virtual_key::ActiveModel {
        virtual_key::ActiveModel {
            id: Set(id.to_string()),
            tenant_id: Set(tenant.to_string()),
            name: Set("app".into()),
            models_allowed: Set(Some(r#"["openai/*"]"#.into())),
            spend_cap_nano_usd: Set(Some(5)),
            spend_window: Set("daily".into()),
            cap_mode: Set("soft".into()),
            rate_limit_rpm: Set(Some(60)),
            rate_limit_tpm: Set(None),
            max_parallel: Set(None),
            fallback_models: Set(r#"["cheap"]"#.into()),
            tags: Set(r#"{"team":"a"}"#.into()),
            budgets: Set("[]".into()),
            expires_at: Set(None),
            created_at: Set(1),
            updated_at: Set(1),
            revoked_at: Set(Some(2)),
            deleted_at: Set(None),
        }
    }

    #[tokio::test]
    async fn a_key_is_found_by_the_digest_of_any_of_its_secrets() {
        let db = testing::store().await;
        let (id, tenant) = (VirtualKeyId::generate(), TenantId::generate());
        let (old, new) = (KeyDigest::new([1; 32]), KeyDigest::new([0xab; 32]));
        db.write(async |tx: &Tx| {
            virtual_key::Entity::insert(key(id, tenant)).exec_without_returning(tx).await?;
            virtual_key_secret::Entity::insert(secret(&old, id)).exec_without_returning(tx).await?;
            virtual_key_secret::Entity::insert(secret(&new, id)).exec_without_returning(tx).await?;
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        for digest in [old, new] {
            let row = db.key_by_digest(&digest).await.expect("read").expect("a key");
            assert_eq!((row.id, row.tenant, row.revoked, row.deleted), (id, tenant, true, false));
            assert_eq!(row.secret_expires_at, Some(Timestamp::from_millis(9)));
            assert_eq!((row.limits.rpm, row.tags["team"].as_str()), (Some(60), "a"));
        }
        assert!(db.key_by_digest(&KeyDigest::new([2; 32])).await.expect("read").is_none());
    }

    #[tokio::test]
    async fn a_tenant_comes_with_its_own_aliases_and_keys_only() {
        let db = testing::store().await;
        let (mine, other) = (TenantId::generate(), TenantId::generate());
        let name = |text| ModelName::parse(text).expect("a name");
        db.write(async |tx: &Tx| {
            for id in [mine, other] {
                tenant::Entity::insert(testing::tenant(id)).exec_without_returning(tx).await?;
                let mut key = testing::provider_key(id);
                key.models = Set(Some(r#"["gpt"]"#.into()));
                provider_key::Entity::insert(key).exec_without_returning(tx).await?;
                let alias = model_alias::ActiveModel {
                    id: Set(crate::domain::AliasId::generate().to_string()),
                    tenant_id: Set(id.to_string()),
                    name: Set("smart".into()),
                    models: Set(r#"["openai/gpt","my-vllm/org/llama"]"#.into()),
                    created_at: Set(1),
                    updated_at: Set(1),
                };
                model_alias::Entity::insert(alias).exec_without_returning(tx).await?;
            }
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        let row = db.tenant_snapshot(mine).await.expect("read").expect("a tenant");
        assert_eq!(row.provider_keys.len(), 1);
        assert_eq!(row.provider_keys[0].models, Some(vec![name("gpt")]));
        assert_eq!(row.aliases[&name("smart")].len(), 2);
        assert!(!format!("{row:?}").contains("v1.a.token"));
        assert!(db.tenant_snapshot(TenantId::generate()).await.expect("read").is_none());
    }

    #[tokio::test]
    async fn an_unreadable_row_is_an_error_and_a_deleted_tenant_is_none() {
        let db = testing::store().await;
        let (broken, gone) = (TenantId::generate(), TenantId::generate());
        db.write(async |tx: &Tx| {
            let mut row = testing::tenant(gone);
            row.deleted_at = Set(Some(5));
            tenant::Entity::insert(row).exec_without_returning(tx).await?;
            tenant::Entity::insert(testing::tenant(broken)).exec_without_returning(tx).await?;
            let mut key = testing::provider_key(broken);
            key.models = Set(Some("{}".into()));
            provider_key::Entity::insert(key).exec_without_returning(tx).await?;
            Ok::<_, StoreError>(())
        })
        .await
        .expect("written");
        assert!(db.tenant_snapshot(gone).await.expect("read").is_none());
        let unreadable = db.tenant_snapshot(broken).await;
        assert!(matches!(unreadable, Err(StoreError::Corrupt { table: "provider_key", .. })));
    }
}
